/*
 * tcp_reasm: received text: what is in order goes to the session, what is not waits, bounded, and is told as SACK blocks.
 *
 * A piece is a part of one packet buffer. Pieces never overlap: a new one is cut to what is missing in front of the next,
 * and takes the place of those that it covers whole, so that one buffer is one piece.
 *
 * Source: RFC 9293 3.10.7.4, seventh and eighth; RFC 2018 4; RFC 2883 4; RFC 5681 4.2 (when to acknowledge).
 */
#include "tcp/tcp_conn.h"

static struct mr_tcp_piece *piece_of(struct mr_list *link)
{
    return MR_LIST_ENTRY(link, struct mr_tcp_piece, link);
}

static uint32_t end_of(const struct mr_tcp_piece *piece)
{
    return piece->seq + piece->len;
}

static struct mr_tcp_piece *make_piece(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint32_t seq, uint32_t end)
{
    struct mr_tcp_piece *piece = mr_pool_get(&c->tcp->pieces);
    if (piece == NULL) {
        mr_tcp_drop(c->tcp, MR_TCP_DROP_PIECE_POOL);
        return NULL;
    }
    *piece = (struct mr_tcp_piece){
        .data = s->spans[0].data + (seq - s->seq), .seq = seq, .len = end - seq, .buffer = s->buffer};
    mr_list_init(&piece->link);
    return piece;
}

/* Counts and ranges follow; the piece is in no list afterwards. */
static void take_out(struct mr_tcp_conn *c, struct mr_tcp_piece *piece)
{
    bool joins_before = piece->link.prev != &c->disorder && end_of(piece_of(piece->link.prev)) == piece->seq;
    bool joins_after = piece->link.next != &c->disorder && piece_of(piece->link.next)->seq == end_of(piece);
    c->disorder_ranges = c->disorder_ranges + joins_before + joins_after - 1;
    c->disorder_count--;
    c->disorder_bytes -= piece->len;
    c->tcp->disorder_bytes -= piece->len;
    mr_list_remove(&piece->link);
}

static void discard(struct mr_tcp_conn *c, struct mr_tcp_piece *piece)
{
    mr_list_add_tail(&c->tcp->discarded, &piece->link);
}

static void deliver(struct mr_tcp_conn *c, struct mr_tcp_piece *piece)
{
    c->rcv_nxt += piece->len;
    c->rcv_pos += piece->len;
    mr_list_add_tail(&c->received, &piece->link);
    mr_tcp_eventful(c);
}

/* What became the next in order; a piece that lies partly below rcv_nxt is cut. */
static void join_disorder(struct mr_tcp_conn *c)
{
    while (!mr_list_is_empty(&c->disorder)) {
        struct mr_tcp_piece *piece = piece_of(c->disorder.next);
        if (mr_tcp_seq_lt(c->rcv_nxt, piece->seq)) {
            return;
        }
        take_out(c, piece);
        uint32_t cut = c->rcv_nxt - piece->seq;
        if (cut >= piece->len) {
            discard(c, piece);
            continue;
        }
        piece->data += cut;
        piece->seq += cut;
        piece->len -= cut;
        deliver(c, piece);
    }
}

/* A run of segments one behind the other is one arrival: what came before it is still to be told. */
static void note_recent(struct mr_tcp_conn *c, uint32_t seq, uint32_t end)
{
    bool is_run = c->recent_count > 0 && seq == c->recent_end;
    c->recent_end = end;
    if (is_run) {
        return;
    }
    memmove(c->recent + 1, c->recent, sizeof c->recent - sizeof c->recent[0]);
    c->recent[0] = seq;
    c->recent_count += c->recent_count < MR_TCP_SACKS;
}

static void note_duplicate(struct mr_tcp_conn *c, uint32_t start, uint32_t end)
{
    c->dsack = (struct mr_tcp_sack){.start = start, .end = end};
    c->has_dsack = c->has_sack;
    c->stats.duplicate_bytes += end - start;
}

/* The last piece that begins at or before `seq`; the list itself when there is none. From the end: most arrive there. */
static struct mr_list *place_of(struct mr_tcp_conn *c, uint32_t seq)
{
    struct mr_list *at = c->disorder.prev;
    while (at != &c->disorder && mr_tcp_seq_lt(seq, piece_of(at)->seq)) {
        at = at->prev;
    }
    return at;
}

/* A quarter of the pool is left to what is in order, or pieces that wait for one missing would keep it out. */
static bool has_room(struct mr_tcp_conn *c, uint32_t len, bool is_joined)
{
    const struct mr_tcp *t = c->tcp;
    return t->pieces.used < t->pieces.capacity - t->pieces.capacity / 4 && c->disorder_count < MR_TCP_DISORDER_MAX && (is_joined || c->disorder_ranges < MR_TCP_RANGES_MAX) &&
           t->disorder_bytes + len <= t->params.disorder_bytes_max;
}

/* [seq, end) of the segment, which begins behind rcv_nxt. True: kept. */
static bool add_disorder(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint32_t seq, uint32_t end)
{
    struct mr_list *before = place_of(c, seq);
    if (before != &c->disorder && mr_tcp_seq_lt(seq, end_of(piece_of(before)))) {
        uint32_t known = mr_tcp_seq_min(end, end_of(piece_of(before)));
        note_duplicate(c, seq, known);
        seq = known;
    }
    note_recent(c, s->seq, s->seq + s->len);
    struct mr_list *after = before->next;
    while (after != &c->disorder && mr_tcp_seq_le(end_of(piece_of(after)), end)) {
        struct mr_tcp_piece *covered = piece_of(after);
        note_duplicate(c, covered->seq, end_of(covered));
        after = after->next;
        take_out(c, covered);
        discard(c, covered);
    }
    if (after != &c->disorder && mr_tcp_seq_lt(piece_of(after)->seq, end)) {
        note_duplicate(c, piece_of(after)->seq, end);
        end = piece_of(after)->seq;
    }
    if (seq == end) { /* its neighbours have all of it */
        return false;
    }
    bool joins_before = before != &c->disorder && end_of(piece_of(before)) == seq;
    bool joins_after = after != &c->disorder && piece_of(after)->seq == end;
    if (!has_room(c, end - seq, joins_before || joins_after)) {
        mr_tcp_drop(c->tcp, MR_TCP_DROP_PIECES);
        return false;
    }
    struct mr_tcp_piece *piece = make_piece(c, s, seq, end);
    if (piece == NULL) {
        return false;
    }
    mr_list_add_head(before, &piece->link);
    c->disorder_count++;
    c->disorder_ranges = c->disorder_ranges + 1 - joins_before - joins_after;
    c->disorder_bytes += piece->len;
    c->tcp->disorder_bytes += piece->len;
    return true;
}

/* RFC 9293 3.10.7.4, eighth: the FIN is the next in order. */
static void take_fin(struct mr_tcp_conn *c, uint64_t now_ns)
{
    c->rcv_nxt++;
    c->rcv_adv = mr_tcp_seq_max(c->rcv_adv, c->rcv_nxt);
    c->is_fin_taken = true;
    c->is_ack_due = true;
    while (!mr_list_is_empty(&c->disorder)) { /* behind a FIN: the peer contradicts itself */
        struct mr_tcp_piece *piece = piece_of(c->disorder.next);
        take_out(c, piece);
        discard(c, piece);
    }
    if (!c->is_deaf) {
        c->is_eof_due = true;
        mr_tcp_eventful(c);
    }
    if (c->state == MR_TCP_ESTABLISHED) {
        mr_tcp_set_state(c, MR_TCP_CLOSE_WAIT);
    } else if (c->state == MR_TCP_FIN_WAIT_1) {
        mr_tcp_set_state(c, MR_TCP_CLOSING); /* had this segment acknowledged our FIN, it would be FIN-WAIT-2 by now */
    } else if (c->state == MR_TCP_FIN_WAIT_2) {
        c->end_at = now_ns + c->tcp->params.time_wait_ns;
        mr_tcp_disown(c);
        mr_tcp_set_state(c, MR_TCP_TIME_WAIT);
    }
}

/* Every second full segment at once, the first ones of a connection too, so that the peer's window grows; the rest may
 * wait for a reply to ride on. */
static void acknowledge(struct mr_tcp_conn *c, uint32_t len, bool had_disorder, uint64_t now_ns)
{
    c->unacked_bytes += len;
    c->mss_seen = (uint16_t)(len > c->mss_seen && len <= c->mss ? len : c->mss_seen);
    if (had_disorder || c->unacked_bytes >= 2u * c->mss_seen) {
        c->is_ack_due = true;
    } else if (c->quick_acks > 0) {
        c->quick_acks--;
        c->is_ack_due = true;
    } else {
        c->ack_at = mr_earlier(c->ack_at, now_ns + c->tcp->params.delayed_ack_ns);
    }
}

/* Nobody listens any more. As long as what we sent is not acknowledged the text is taken and thrown away, so that a last
 * answer arrives; then it is refused (RFC 9293 3.10.4; Linux refuses at once). */
static void refuse_text(struct mr_tcp_conn *c, uint32_t end, uint64_t now_ns)
{
    mr_tcp_drop(c->tcp, MR_TCP_DROP_AFTER_CLOSE);
    if (c->state == MR_TCP_FIN_WAIT_2) {
        mr_tcp_abort(c, MR_OK);
        return;
    }
    c->rcv_pos += end - c->rcv_nxt;
    c->consumed_pos += end - c->rcv_nxt; /* what was delivered before may still be told as consumed */
    c->rcv_nxt = end;
    acknowledge(c, 0, true, now_ns);
}

static bool add_text(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint32_t seq, uint32_t end, uint64_t now_ns)
{
    if (c->is_deaf) {
        if (seq == c->rcv_nxt) {
            refuse_text(c, end, now_ns);
        }
        return false;
    }
    if (seq != c->rcv_nxt) {
        c->is_ack_due = true; /* RFC 5681 4.2: at once, so that the peer notices */
        return add_disorder(c, s, seq, end);
    }
    struct mr_tcp_piece *piece = make_piece(c, s, seq, end);
    if (piece == NULL) {
        return false;
    }
    bool had_disorder = c->disorder_count > 0;
    deliver(c, piece);
    join_disorder(c);
    acknowledge(c, end - seq, had_disorder, now_ns);
    mr_tcp_window_arrived(c, now_ns);
    return true;
}

bool mr_tcp_reasm_add(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, uint64_t now_ns)
{
    uint32_t seq = s->seq;
    uint32_t end = s->seq + s->len;
    bool has_fin = (s->flags & MR_TCP_FIN) != 0;
    if (s->len == 0 && !has_fin) {
        return false;
    }
    if (c->state != MR_TCP_ESTABLISHED && c->state != MR_TCP_FIN_WAIT_1 && c->state != MR_TCP_FIN_WAIT_2) {
        c->is_ack_due = true; /* text behind a FIN, or the FIN again */
        return false;
    }
    if (mr_tcp_seq_lt(seq, c->rcv_nxt)) {
        note_duplicate(c, seq, mr_tcp_seq_min(end, c->rcv_nxt));
        c->is_ack_due = true;
        seq = c->rcv_nxt;
    }
    if (mr_tcp_seq_lt(c->rcv_adv, end)) {
        mr_tcp_drop(c->tcp, MR_TCP_DROP_BEYOND_WINDOW);
        c->is_ack_due = true;
        end = c->rcv_adv;
        has_fin = false;
    }
    if (c->has_fin) {
        end = mr_tcp_seq_min(end, c->fin_seq);
    } else if (has_fin && mr_tcp_seq_le(c->rcv_nxt, end)) {
        c->has_fin = true;
        c->fin_seq = end;
        c->is_ack_due = true;
    }
    bool is_kept = mr_tcp_seq_lt(seq, end) && add_text(c, s, seq, end, now_ns);
    if (c->has_fin && c->rcv_nxt == c->fin_seq && !c->is_fin_taken) {
        take_fin(c, now_ns);
    }
    return is_kept;
}

/* Ranges by when something last arrived in them. */
struct ranges {
    struct mr_tcp_sack recent[MR_TCP_SACKS];
    struct mr_tcp_sack others[MR_TCP_SACKS];
    bool has_recent[MR_TCP_SACKS];
    uint32_t other_count;
};

static void note_range(const struct mr_tcp_conn *c, struct ranges *ranges, struct mr_tcp_sack range)
{
    for (uint32_t index = 0; index < c->recent_count; index++) {
        if (mr_tcp_seq_within(c->recent[index], range.start, range.end)) {
            ranges->recent[index] = range;
            ranges->has_recent[index] = true;
            return;
        }
    }
    if (ranges->other_count < MR_TCP_SACKS) {
        ranges->others[ranges->other_count++] = range;
    }
}

static void find_ranges(const struct mr_tcp_conn *c, struct ranges *ranges)
{
    struct mr_tcp_sack range = {0};
    MR_LIST_EACH (link, &c->disorder) {
        const struct mr_tcp_piece *piece = piece_of(link);
        if (link != c->disorder.next && range.end != piece->seq) {
            note_range(c, ranges, range);
        }
        if (link == c->disorder.next || range.end != piece->seq) {
            range.start = piece->seq;
        }
        range.end = end_of(piece);
    }
    if (!mr_list_is_empty(&c->disorder)) {
        note_range(c, ranges, range);
    }
}

/* RFC 2883 4: a duplicate goes first. RFC 2018 4: then the range in which something arrived last, and as many others as
 * there is room for: one acknowledgement may stand for many segments. */
uint32_t mr_tcp_reasm_sacks(const struct mr_tcp_conn *c, struct mr_tcp_sack *sacks, uint32_t max)
{
    struct ranges ranges = {0};
    uint32_t count = 0;
    if (c->has_dsack && max > 0) {
        sacks[count++] = c->dsack;
    }
    find_ranges(c, &ranges);
    for (uint32_t index = 0; index < MR_TCP_SACKS && count < max; index++) {
        if (ranges.has_recent[index]) {
            sacks[count++] = ranges.recent[index];
        }
    }
    for (uint32_t index = 0; index < ranges.other_count && count < max; index++) {
        sacks[count++] = ranges.others[index];
    }
    return count;
}

void mr_tcp_reasm_drop(struct mr_tcp_conn *c, bool is_received_kept)
{
    while (!mr_list_is_empty(&c->disorder)) {
        struct mr_tcp_piece *piece = piece_of(c->disorder.next);
        take_out(c, piece);
        discard(c, piece);
    }
    while (!is_received_kept && !mr_list_is_empty(&c->received)) {
        struct mr_tcp_piece *piece = piece_of(mr_list_pop(&c->received));
        discard(c, piece);
    }
}
