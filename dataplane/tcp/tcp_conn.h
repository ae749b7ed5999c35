/*
 * tcp_conn: a connection and what the files of the engine share. Private to dataplane/tcp/ and its tests.
 *
 * Names of RFC 9293 3.3.1 are kept: snd_una is SND.UNA. Sequence numbers wrap; "pos" counts payload bytes from
 * the start of a direction and does not.
 */
#ifndef MILLRACE_TCP_CONN_H
#define MILLRACE_TCP_CONN_H

#include "tcp/tcp.h"
#include "tcp/tcp_seq.h"

#include "millrace/base/list.h"
#include "millrace/base/pool.h"
#include "millrace/base/timer.h"

#define MR_TCP_BLOCK_PIECES   62u
#define MR_TCP_REPLIES        64u   /* segments without a connection, per turn */
#define MR_TCP_RANGES_MAX     64u   /* out of order, per connection */
#define MR_TCP_DISORDER_MAX   1024u /* pieces out of order, per connection */
#define MR_TCP_SENT_MAX       2048u /* records in flight, per connection: bounds the walk of one ACK */
#define MR_TCP_MSS_FLOOR_IP4  536u
#define MR_TCP_MSS_FLOOR_IP6  1220u
#define MR_TCP_SYN_RETRIES    6u
#define MR_TCP_QUICK_ACKS     16u
#define MR_TCP_LIMIT_NS       (500 * MR_NS_PER_MS) /* between two answers to what is out of window */
#define MR_TCP_RETRY_NS       (10 * MR_NS_PER_MS)  /* a pool was empty */
#define MR_TCP_BLACK_HOLE     2u                   /* timeouts in a row until a smaller segment is tried */

/* Queued spans; data NULL: a token. */
struct mr_tcp_queued {
    const uint8_t *data;
    uint64_t len_or_token;
};

struct mr_tcp_block {
    struct mr_tcp_block *next;
    uint64_t pos; /* of pieces[0] */
    uint32_t first;
    uint32_t count;
    struct mr_tcp_queued pieces[MR_TCP_BLOCK_PIECES];
};

/* A place in the queue: pieces[index] of block begins at pos. */
struct mr_tcp_cursor {
    struct mr_tcp_block *block; /* NULL: look from the head */
    uint32_t index;
    uint64_t pos;
};

/* A received piece. */
struct mr_tcp_piece {
    struct mr_list link;
    const uint8_t *data;
    uint32_t seq;
    uint32_t len;
    void *buffer;
};

enum mr_tcp_sent_state {
    MR_TCP_IN_FLIGHT, /* believed to be on its way */
    MR_TCP_SACKED,    /* the peer has it */
    MR_TCP_LOST,      /* to be sent again */
};

/* A run of sequence numbers that was sent at one time. */
struct mr_tcp_sent {
    struct mr_list link;    /* in conn->sent, by sequence number */
    struct mr_list queue;   /* in conn->flying by time while in flight, in conn->lost by number while lost */
    uint64_t time_ns;
    uint32_t seq;
    uint32_t end; /* includes the FIN */
    enum mr_tcp_sent_state state;
    bool has_fin;
    bool is_retransmitted;
};

enum mr_tcp_recovery {
    MR_TCP_OPEN,
    MR_TCP_REDUCING, /* ECN: the window shrinks by PRR, nothing is lost */
    MR_TCP_RECOVERY, /* losses were detected by RACK or duplicate ACKs */
    MR_TCP_LOSS,     /* a retransmission timeout */
};

struct mr_tcp_cubic {
    uint64_t epoch_ns; /* 0: none yet */
    uint64_t k_ms;
    uint32_t w_max;
    uint32_t w_est;
    uint32_t w_est_acked;
    uint32_t acked; /* not yet turned into window */
    /* HyStart++ (RFC 9406) */
    uint64_t round_min_ns;
    uint64_t last_min_ns;
    uint32_t round_end;
    uint32_t round_samples;
    uint32_t css_rounds; /* 0: not in conservative slow start */
    uint64_t css_base_ns;
    uint64_t train_ns; /* when the round began */
    uint64_t ack_ns;   /* the last one that came close behind its predecessor */
};

struct mr_tcp_rack {
    uint64_t time_ns; /* of the most recently sent segment that was delivered */
    uint64_t rtt_ns;
    uint32_t end;
    uint32_t fack;
    uint32_t dsack_round;
    uint32_t reorder_mult;
    uint32_t reorder_persist;
    bool has_end;
    bool has_reordering;
    bool has_dsack_round;
};

struct mr_tcp_conn {
    struct mr_tcp *tcp;
    struct mr_tcp_conn *next; /* in the bucket */
    uint64_t hash;
    struct mr_tcp_path path;
    void *user;
    uint32_t listener;
    enum mr_tcp_state state;
    enum mr_err why;
    struct mr_list dirty;    /* in tcp->dirty: something may be sent */
    struct mr_list eventful; /* in tcp->eventful */
    struct mr_list waiting;  /* in tcp->time_wait */
    struct mr_timer timer;   /* the earliest of the deadlines below */

    /* what is to be told */
    bool is_open_due;
    bool is_room_due;
    bool is_eof_due;
    bool is_end_due;
    bool is_owned;   /* the session knows it: END must be told before it is freed */
    bool is_passive;
    bool is_deaf; /* mr_tcp_close(): what arrives is refused */
    bool is_blocked; /* mr_tcp_send() has answered MR_AGAIN */
    uint64_t sent_token; /* 0: none to tell */

    /* agreed in the handshake */
    bool has_sack;
    bool has_ts;
    bool has_ecn;
    bool was_ecn_refused; /* a SYN with ECN flags went unanswered */
    uint8_t snd_scale;
    uint8_t rcv_scale;
    uint16_t mss;      /* payload of a segment without options: what both sides and the path allow */
    uint16_t mss_seen; /* largest received: estimates the peer's, for delayed ACKs */
    uint32_t ts_offset;
    uint32_t ts_recent;
    uint64_t ts_recent_ns;

    /* sending */
    uint32_t iss;
    uint32_t snd_una;
    uint32_t snd_nxt;
    uint32_t snd_wnd;
    uint32_t snd_wl1;
    uint32_t snd_wl2;
    uint32_t snd_wnd_max;
    uint32_t snd_right; /* highest edge that the peer ever offered */
    uint64_t una_pos; /* of the payload byte at snd_una */
    uint64_t end_pos; /* of the queue */
    struct mr_tcp_block *head;
    struct mr_tcp_block *tail;
    struct mr_tcp_cursor cursor;
    struct mr_list sent;
    struct mr_list flying;
    struct mr_list lost;
    uint32_t sent_count;
    uint32_t pipe;         /* bytes in flight */
    uint32_t lost_bytes;   /* to be sent again */
    uint32_t sacked_bytes;
    bool is_fin_wanted;
    bool is_fin_sent;
    bool is_syn_due;
    bool is_reset_due;
    bool is_probe_due;     /* keepalive or zero window */
    bool is_tail_probe_due; /* TLP */
    bool is_override_due;  /* send less than a segment although the window is small */
    bool is_cwr_due;
    bool is_window_full;   /* the last output was stopped by cwnd: growth is allowed */
    uint32_t syn_tries;
    uint64_t syn_ns;

    /* loss and congestion */
    enum mr_tcp_recovery recovery;
    uint32_t cwnd;
    uint32_t ssthresh;
    uint32_t recovery_point;
    uint32_t dup_acks;
    uint32_t prr_delivered;
    uint32_t prr_out;
    uint32_t prr_flight;
    uint32_t undo_cwnd; /* 0: nothing to undo */
    uint32_t undo_ssthresh;
    uint32_t undo_bytes; /* sent again, and not yet known to be needless */
    uint32_t undo_ts;    /* of the first retransmission, which was at undo_seq */
    uint32_t undo_seq;
    bool has_undo_ts;
    struct mr_tcp_cubic cubic;
    struct mr_tcp_rack rack;
    uint32_t tlp_end;
    bool has_tlp;
    bool is_tlp_retransmit;
    uint64_t srtt_ns; /* 0: none yet */
    uint64_t rttvar_ns;
    uint64_t rto_ns;
    uint64_t min_rtt_ns;
    uint64_t min_rtt_next_ns; /* of the current period */
    uint64_t min_rtt_turn_ns;
    uint32_t backoff;

    /* receiving */
    uint32_t irs;
    uint32_t rcv_nxt;
    uint32_t rcv_adv;     /* right edge that was announced */
    uint32_t last_ack;    /* last acknowledgement sent (RFC 7323's Last.ACK.sent) */
    uint64_t rcv_pos;     /* bytes in order so far */
    uint64_t consumed_pos;
    struct mr_list received; /* in order, not yet delivered */
    struct mr_list disorder; /* by sequence number */
    uint32_t disorder_count;
    uint32_t disorder_ranges;
    uint32_t disorder_bytes;
    uint32_t recent[MR_TCP_SACKS]; /* where runs that arrived out of order began, newest first */
    uint32_t recent_count;
    uint32_t recent_end; /* of the run that recent[0] began */
    struct mr_tcp_sack dsack;
    bool has_dsack;
    bool has_fin; /* at fin_seq, not yet reached */
    bool is_fin_taken;
    bool is_ack_due;
    bool is_ece_due; /* a CE arrived, no CWR yet */
    uint32_t fin_seq;
    uint32_t unacked_bytes;
    uint32_t quick_acks;
    uint32_t window; /* how many bytes may lie here */
    uint64_t tune_pos; /* autotuning: consumed_pos, and when, at the start of the round */
    uint64_t tune_ns;
    uint64_t tune_bytes; /* consumed in the round before */
    uint32_t rcv_rtt_seq;
    uint64_t rcv_rtt_start_ns;
    uint64_t rcv_rtt_ns;

    /* deadlines; MR_NEVER: not set */
    uint64_t rto_at;
    uint64_t tlp_at;
    uint64_t reorder_at;
    uint64_t persist_at;
    uint64_t ack_at;
    uint64_t keep_at;
    uint64_t end_at; /* TIME_WAIT, FIN_WAIT_2 that nobody owns */
    uint64_t retry_at;
    uint64_t heard_ns;    /* last segment of the peer */
    uint64_t progress_ns; /* last acknowledgement of something new, or when there began to be something to acknowledge */
    uint64_t stalled_ns;  /* since when the window is closed; 0: it is not */
    uint64_t limited_ns;  /* last answer to something out of window */
    uint32_t persist_count;
    uint32_t keep_count;

    struct mr_tcp_info stats; /* the counters in it */
};

struct mr_tcp_listener {
    struct mr_address local;
    uint16_t port;
    uint32_t index;
    bool is_any;
};

struct mr_tcp {
    struct mr_tcp_params params;
    struct mr_tcp_counts counts;
    struct mr_pool conns;
    struct mr_pool sents;
    struct mr_pool pieces;
    struct mr_pool blocks;
    struct mr_timers timers;
    struct mr_list dirty;
    struct mr_list eventful;
    struct mr_list time_wait;
    struct mr_list discarded; /* pieces whose buffers nobody wants */
    struct mr_tcp_conn **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t half_open;
    uint32_t time_wait_count;
    uint32_t disorder_bytes;
    struct mr_tcp_listener *listeners;
    uint32_t listener_count;
    struct mr_tcp_segment *replies;
    uint32_t reply_count;
    uint64_t now_ns; /* of the last call that told the time */
    uint64_t cookies_until_ns; /* one may come back until then */
    uint32_t port_count;
};

/* What one segment told about what was sent. */
struct mr_tcp_acked {
    uint64_t now_ns;
    uint64_t rtt_ns;    /* 0: no sample */
    uint32_t una_before;
    uint32_t delivered; /* bytes now known to have arrived, that were not before */
    uint32_t dsack_bytes;
    bool is_lost_news; /* RACK found more losses */
    bool has_dsack;
    bool is_una_new;
    bool has_ts_echo;
    uint32_t ts_echo;
};

static inline bool mr_tcp_is_synchronized(const struct mr_tcp_conn *c)
{
    return c->state >= MR_TCP_ESTABLISHED;
}

static inline uint32_t mr_tcp_in_flight(const struct mr_tcp_conn *c)
{
    return c->snd_nxt - c->snd_una;
}

static inline uint32_t mr_tcp_mss_floor(const struct mr_tcp_conn *c)
{
    return mr_address_is_ip4(&c->path.remote) ? MR_TCP_MSS_FLOOR_IP4 : MR_TCP_MSS_FLOOR_IP6;
}

/* Bytes of headers in a packet of that path: IP and TCP without options. */
static inline uint32_t mr_tcp_headers(const struct mr_tcp_path *path)
{
    return mr_address_is_ip4(&path->remote) ? 40 : 60;
}

/* Milliseconds, offset by a number of the path's own, so that nobody reads our uptime (RFC 7323 5.4). */
static inline uint32_t mr_tcp_ts(const struct mr_tcp_conn *c, uint64_t now_ns)
{
    return (uint32_t)(now_ns / MR_NS_PER_MS) + c->ts_offset;
}

/* Payload bytes of a full segment: the MSS less the options that every segment carries (RFC 6691 2). */
static inline uint32_t mr_tcp_payload_max(const struct mr_tcp_conn *c)
{
    return c->mss - (c->has_ts ? 12u : 0u);
}

/* ---- tcp.c ---- */
void mr_tcp_drop(struct mr_tcp *t, enum mr_tcp_drop why);
void mr_tcp_dirty(struct mr_tcp_conn *c);
void mr_tcp_eventful(struct mr_tcp_conn *c);
/* A segment without connection, sent in this turn; NULL: there are too many. Cleared but for the path. */
struct mr_tcp_segment *mr_tcp_reply(struct mr_tcp *t, const struct mr_tcp_path *path);
/* RST in answer to a segment that belongs to nobody (RFC 9293 3.10.7.1); never to a RST. */
void mr_tcp_reply_reset(struct mr_tcp *t, const struct mr_tcp_segment *s);
struct mr_tcp_conn *mr_tcp_find(struct mr_tcp *t, const struct mr_tcp_path *path);
/* NULL: none is free. In no state yet, but in the table. */
struct mr_tcp_conn *mr_tcp_new(struct mr_tcp *t, const struct mr_tcp_path *path, uint64_t now_ns);
/* It goes to CLOSED: all it holds is given back, and END told if somebody owns it. */
void mr_tcp_end(struct mr_tcp_conn *c, enum mr_err why);
void mr_tcp_set_state(struct mr_tcp_conn *c, enum mr_tcp_state state);
/* Nothing more is wanted from this side: END is told; TIME_WAIT and FIN_WAIT_2 go on without the owner. */
void mr_tcp_disown(struct mr_tcp_conn *c);

/* ---- tcp_listen.c ---- */
uint32_t mr_tcp_listen_isn(const struct mr_tcp *t, const struct mr_tcp_path *path, uint64_t now_ns);
uint16_t mr_tcp_listen_port(struct mr_tcp *t, const struct mr_tcp_path *path);
uint32_t mr_tcp_listen_ts_offset(const struct mr_tcp *t, const struct mr_tcp_path *path);
const struct mr_tcp_listener *mr_tcp_listen_find(const struct mr_tcp *t, const struct mr_tcp_path *path);
/* A segment of no connection, for a port that is listened to (RFC 9293 3.10.7.2). True: the buffer was kept. */
bool mr_tcp_listen_input(struct mr_tcp *t, const struct mr_tcp_listener *listener, const struct mr_tcp_segment *s,
                         uint64_t now_ns);
/* What a SYN or SYN-ACK says about the peer. */
void mr_tcp_listen_agree(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns);

/* ---- tcp_input.c ---- */
bool mr_tcp_input_conn(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns);
/* The window field counts from now on (RFC 9293 3.10.7.4, fifth). */
void mr_tcp_input_window(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns);
void mr_tcp_input_opened(struct mr_tcp_conn *c, uint64_t now_ns);
/* An ACK now, unless one of these was sent a moment ago. */
void mr_tcp_input_challenge(struct mr_tcp_conn *c, uint64_t now_ns);

/* ---- tcp_ack.c ---- */
/* The acknowledgement of a segment; false: the segment is to be dropped. */
bool mr_tcp_ack(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns);

/* ---- tcp_reasm.c ---- */
/* Text and FIN of an acceptable segment. True: the buffer was kept. */
bool mr_tcp_reasm_add(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns);
uint32_t mr_tcp_reasm_sacks(const struct mr_tcp_conn *c, struct mr_tcp_sack *sacks, uint32_t max);
/* `is_received_kept`: what is in order is still delivered. */
void mr_tcp_reasm_drop(struct mr_tcp_conn *c, bool is_received_kept);

/* ---- tcp_window.c ---- */
/* Bytes that may be announced beyond rcv_nxt. */
uint32_t mr_tcp_window(const struct mr_tcp_conn *c);
/* Bytes were delivered in order. */
void mr_tcp_window_arrived(struct mr_tcp_conn *c, uint64_t now_ns);
/* Smallest shift that can announce the largest window (RFC 7323 2.3). */
uint8_t mr_tcp_window_scale(const struct mr_tcp_params *params);

/* ---- tcp_queue.c ---- */
void mr_tcp_queue_acked(struct mr_tcp_conn *c, uint32_t bytes);
/* The spans of [pos, pos + len), at most `max` of them; returns the bytes that they hold. */
uint32_t mr_tcp_queue_spans(struct mr_tcp_conn *c, uint64_t pos, uint32_t len, struct mr_span *spans, uint32_t max,
                            uint32_t *count);
void mr_tcp_queue_drop(struct mr_tcp_conn *c);

/* ---- tcp_sent.c ---- */
/* NULL: no record is free. In flight from now on. */
struct mr_tcp_sent *mr_tcp_sent_add(struct mr_tcp_conn *c, uint32_t seq, uint32_t end, bool has_fin, uint64_t now_ns);
/* In two at `seq`, which lies within; the later half is returned, NULL when no record is free. */
struct mr_tcp_sent *mr_tcp_sent_split(struct mr_tcp_conn *c, struct mr_tcp_sent *sent, uint32_t seq);
void mr_tcp_sent_again(struct mr_tcp_conn *c, struct mr_tcp_sent *sent, uint64_t now_ns);
void mr_tcp_sent_mark(struct mr_tcp_conn *c, struct mr_tcp_sent *sent, enum mr_tcp_sent_state state);
/* Everything below `ack` is delivered. */
void mr_tcp_sent_ack(struct mr_tcp_conn *c, uint32_t ack, struct mr_tcp_acked *acked);
void mr_tcp_sent_sack(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, struct mr_tcp_acked *acked);
/* Without SACK a duplicate ACK says that one more segment arrived, not which: one in flight behind the first is taken. */
void mr_tcp_sent_guess(struct mr_tcp_conn *c);
/* What was told by SACK, or guessed, is forgotten. */
void mr_tcp_sent_forget(struct mr_tcp_conn *c);
/* NULL: nothing is unacknowledged. */
struct mr_tcp_sent *mr_tcp_sent_first(const struct mr_tcp_conn *c);
void mr_tcp_sent_drop(struct mr_tcp_conn *c);

/* ---- tcp_rack.c ---- */
void mr_tcp_rack_delivered(struct mr_tcp_conn *c, const struct mr_tcp_sent *sent, const struct mr_tcp_acked *acked);
/* Marks what must be lost; sets the reordering timer for the rest. */
void mr_tcp_rack_detect(struct mr_tcp_conn *c, uint64_t now_ns);
/* RFC 8985 6.2, step 4. */
void mr_tcp_rack_adapt(struct mr_tcp_conn *c, bool has_dsack);
/* The timeout marks the first one, and what was sent long enough ago (RFC 8985 6.3). */
void mr_tcp_rack_timeout(struct mr_tcp_conn *c, uint64_t now_ns);

/* ---- tcp_loss.c ---- */
void mr_tcp_loss_acked(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, struct mr_tcp_acked *acked);
void mr_tcp_loss_timeout(struct mr_tcp_conn *c, uint64_t now_ns);
void mr_tcp_loss_reorder_timeout(struct mr_tcp_conn *c, uint64_t now_ns);
/* The segments become smaller: what is in flight and larger is taken for lost. */
void mr_tcp_loss_smaller_mss(struct mr_tcp_conn *c, uint32_t mss);

/* ---- tcp_cubic.c ---- */
void mr_tcp_cubic_init(struct mr_tcp_conn *c);
void mr_tcp_cubic_acked(struct mr_tcp_conn *c, uint32_t bytes, uint64_t rtt_ns, uint64_t now_ns);
/* The new slow start threshold, after a loss. */
uint32_t mr_tcp_cubic_reduce(struct mr_tcp_conn *c);

/* ---- tcp_rtt.c ---- */
void mr_tcp_rtt_sample(struct mr_tcp_conn *c, uint64_t rtt_ns, uint64_t now_ns);
/* The timeout with its backing off. */
uint64_t mr_tcp_rtt_timeout(const struct mr_tcp_conn *c);

/* ---- tcp_timer.c ---- */
void mr_tcp_timer_reset(struct mr_tcp_conn *c);
/* After anything that moved a deadline. */
void mr_tcp_timer_update(struct mr_tcp_conn *c);
/* What has unacknowledged bytes has a timer: retransmission, tail probe; what waits for a window a persist timer. */
void mr_tcp_timer_arm(struct mr_tcp_conn *c, uint64_t now_ns, bool is_restarted);
/* Something new was sent, or acknowledged: the tail probe (RFC 8985 7.2). */
void mr_tcp_timer_probe(struct mr_tcp_conn *c, uint64_t now_ns);
void mr_tcp_timer_due(struct mr_tcp_conn *c, uint64_t now_ns);

/* ---- tcp_output.c ---- */
/* The next segment of the connection; false: nothing is to be sent. */
bool mr_tcp_output_next(struct mr_tcp_conn *c, uint64_t now_ns, struct mr_tcp_segment *out);
/* Bytes queued and not sent yet. */
uint32_t mr_tcp_output_unsent(const struct mr_tcp_conn *c);
/* Unsent bytes, or a FIN, wait for the peer's window. */
bool mr_tcp_output_is_stalled(const struct mr_tcp_conn *c);

#endif
