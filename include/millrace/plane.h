/*
 * plane: every message that crosses from one plane to another, and nothing else crosses.
 *
 * Data cores, storage cores, the control thread and the chore thread are endpoints. Between each
 * ordered pair that talks lies one ring (base/ring.h) of 64-byte slots; one message is one slot.
 * Larger things are pointed at, and the message says who owns the bytes meanwhile.
 *
 *   message         from -> to          the bytes it points at                    answer
 *   STORAGE_OP      data, control ->    belong to storage until the answer        STORAGE_DONE, always
 *                   storage             (entries, batches, result space)
 *   STORAGE_DONE    storage -> sender   the sender's again; pages lent in a READ
 *                                       stay storage's until RELEASE              RELEASE per page
 *   RELEASE         data, control ->    page references, by value                 none
 *                   storage
 *   WATCH           data, control ->    by value: log, offset, token. One shot:    MOVED once, unless
 *                   storage             fires when the high watermark > offset    UNWATCH comes first
 *   UNWATCH         -> storage          by value                                  none; a MOVED may be under way
 *   MOVED           storage -> watcher  up to 3 (token, high watermark) by value  none
 *   OFFLINE         storage -> control  by value: why. Once, with the first failed     none
 *                                       write or flush: this core serves nothing from here on
 *   REQUEST         data -> control     struct mr_forward: control's until REPLY  REPLY, always
 *   REPLY           control -> data     the forward comes back with the answer's  REPLY_DONE
 *                                       bytes, control's memory, lent
 *   REPLY_DONE      data -> control     the answer's bytes are sent: free them    none
 *   CONN_CLOSED     data -> control     by value: connection id                   none
 *   IMAGE           control -> data     the new cluster image; the old one stays  IMAGE_DONE
 *                                       valid until the answer
 *   IMAGE_DONE      data -> control     the image before it is not used any more  none
 *   LISTEN, DRAIN   control -> data     start accepting; stop accepting, answer   LISTENING, DRAINED
 *                                       what is open, close
 *
 * A full ring is not an error: the port keeps the message in order in its spill and moves it into
 * the ring when there is room (mr_port_flush). Nobody waits, nobody drops.
 */
#ifndef MILLRACE_PLANE_H
#define MILLRACE_PLANE_H

#include "millrace/base/arena.h"
#include "millrace/base/fail.h"
#include "millrace/base/ring.h"
#include "millrace/base/str.h"
#include "millrace/base/span.h"

#include <stdint.h>

enum mr_plane_kind {
    MR_PLANE_STORAGE_OP = 1,
    MR_PLANE_STORAGE_DONE,
    MR_PLANE_RELEASE,
    MR_PLANE_WATCH,
    MR_PLANE_UNWATCH,
    MR_PLANE_MOVED,
    MR_PLANE_OFFLINE,
    MR_PLANE_REQUEST,
    MR_PLANE_REPLY,
    MR_PLANE_REPLY_DONE,
    MR_PLANE_CONN_CLOSED,
    MR_PLANE_IMAGE,
    MR_PLANE_IMAGE_DONE,
    MR_PLANE_LISTEN,
    MR_PLANE_LISTENING,
    MR_PLANE_DRAIN,
    MR_PLANE_DRAINED,
};

struct mr_storage_op;
struct mr_image;

/*
 * A request that the control thread answers. The frame's bytes stay with the data core and are
 * readable by control until it replies. `reply` is a chain of spans in control's memory.
 *
 * A data core may make one of its own, without a client: for automatic topic creation a CreateTopics
 * with -1 partitions, replication factor -1 and no configs, which means the broker's defaults (for
 * __consumer_offsets those of the internal topic). It is answered like any other.
 */
struct mr_forward {
    uint64_t        conn_id; /* unique per data core for ever; never reused */
    uint32_t        data_endpoint;
    int16_t         api_key;
    int16_t         api_version;
    int32_t         correlation_id;
    struct mr_str   client_id;
    struct mr_str   client_host; /* the peer's address as text */
    uint32_t        listener;
    struct mr_chain body; /* after the request header */

    /* control's answer: the response body, without size and header. No spans and is_silent: no answer. */
    struct mr_chain reply;
    bool            is_silent;       /* nothing is sent (a request that has no answer) */
    bool            is_close_wanted; /* close the connection instead of answering */
    void           *reply_cookie;    /* control's, given back in REPLY_DONE */

    void *session;      /* data core's own */
    void *session_slot; /* data core's own */
};

struct mr_plane_msg {
    uint16_t kind; /* enum mr_plane_kind */
    uint16_t count;
    uint32_t from; /* endpoint */
    union {
        struct mr_storage_op *op; /* STORAGE_OP, STORAGE_DONE */
        uint64_t              pages[6]; /* RELEASE: `count` page references */
        struct {
            uint64_t log_id;
            int64_t  offset;
            uint64_t token; /* the watcher's, unique among its live watches */
            bool     is_committed; /* of WATCH: the end of the stable part counts, not the high watermark */
        } watch; /* WATCH, UNWATCH (log_id and token) */
        struct {
            uint64_t token;
            int64_t  high_watermark;
        } moved[3]; /* MOVED: `count` of them */
        struct mr_forward *forward; /* REQUEST, REPLY */
        void              *cookie;  /* REPLY_DONE */
        uint64_t           conn_id; /* CONN_CLOSED */
        struct {
            const struct mr_image *image;
            uint64_t               version;
        } image;       /* IMAGE, IMAGE_DONE */
        int32_t err; /* LISTENING, OFFLINE: enum mr_err */
    } u;
};
_Static_assert(sizeof(struct mr_plane_msg) <= MR_RING_SLOT, "a message is at most one slot");

/* ---- Endpoints and ports ---- */

#define MR_CORES_MAX     64
#define MR_ENDPOINTS_MAX (2 * MR_CORES_MAX + 2)

#define MR_DIRS_MAX      32 /* log directories */

/*
 * Which endpoint is which. A storage core serves one log directory: with several directories each of them has as many
 * storage cores, those of the first directory (which has the metadata log) come first.
 */
struct mr_endpoints {
    uint32_t data_count;    /* data cores:    endpoints [0, data_count) */
    uint32_t storage_count; /* storage cores: endpoints [data_count, data_count + storage_count) */
    uint32_t dir_count;     /* log directories; 0: one */
};

static inline uint32_t mr_endpoint_dirs(const struct mr_endpoints *e)
{
    return e->dir_count > 1 ? e->dir_count : 1;
}

/* Storage cores of each directory. */
static inline uint32_t mr_endpoint_dir_cores(const struct mr_endpoints *e)
{
    return e->storage_count / mr_endpoint_dirs(e);
}

/* Whose directory a storage core serves. */
static inline uint32_t mr_endpoint_dir(const struct mr_endpoints *e, uint32_t storage_core)
{
    return storage_core / mr_endpoint_dir_cores(e);
}

static inline uint32_t mr_endpoint_data(const struct mr_endpoints *e, uint32_t core)
{
    mr_assert(core < e->data_count);
    return core;
}

static inline uint32_t mr_endpoint_storage(const struct mr_endpoints *e, uint32_t core)
{
    mr_assert(core < e->storage_count);
    return e->data_count + core;
}

static inline uint32_t mr_endpoint_control(const struct mr_endpoints *e)
{
    return e->data_count + e->storage_count;
}

static inline uint32_t mr_endpoint_count(const struct mr_endpoints *e)
{
    return e->data_count + e->storage_count + 1;
}

/*
 * One endpoint's side of all its rings. in[x] and out[x] are NULL where x is not talked to.
 * The spill of a destination is a FIFO of messages that found the ring full.
 */
struct mr_port_spill {
    struct mr_plane_msg *slots; /* a circle, capacity a power of two, touched only when used */
    uint32_t             mask;
    uint32_t             head;
    uint32_t             tail;
};

struct mr_port {
    uint32_t             self;
    uint32_t             endpoint_count;
    struct mr_ring      *in[MR_ENDPOINTS_MAX];
    struct mr_ring      *out[MR_ENDPOINTS_MAX];
    struct mr_port_spill spill[MR_ENDPOINTS_MAX];
    uint64_t             dirty[(MR_ENDPOINTS_MAX + 63) / 64]; /* destinations with unpublished messages */
    uint32_t             next_in;                             /* round robin over senders */
};

/* Put a message on its way to `to`; visible there after mr_port_flush. msg->from is set here. The
 * plan sizes the spill for every operation that can be open, so it cannot overflow (asserted). */
static inline void mr_port_send(struct mr_port *port, uint32_t to, struct mr_plane_msg *msg)
{
    mr_assert(to < port->endpoint_count && port->out[to] != NULL);
    struct mr_port_spill *spill = &port->spill[to];
    msg->from = port->self;
    port->dirty[to / 64] |= 1ull << (to % 64);
    if (spill->head == spill->tail && mr_ring_room(port->out[to]) > 0 && !mr_fail(MR_FAIL_ring)) {
        memcpy(mr_ring_in(port->out[to]), msg, sizeof *msg);
        return;
    }
    mr_assert(spill->tail - spill->head <= spill->mask);
    spill->slots[spill->tail++ & spill->mask] = *msg;
}

/* Publish everything sent in this turn. Sets the bit of each endpoint that has news in `woken` (same
 * size as port->dirty): the thread's runner rings those that sleep. Returns whether there is any. */
static inline bool mr_port_flush(struct mr_port *port, uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64])
{
    bool is_any = false;
    for (uint32_t word = 0; word < (MR_ENDPOINTS_MAX + 63) / 64; word++) {
        uint64_t bits = port->dirty[word];
        while (bits != 0) {
            uint32_t to = word * 64 + (uint32_t)__builtin_ctzll(bits);
            bits &= bits - 1;
            struct mr_port_spill *spill = &port->spill[to];
            while (spill->head != spill->tail && mr_ring_room(port->out[to]) > 0) {
                memcpy(mr_ring_in(port->out[to]), &spill->slots[spill->head++ & spill->mask],
                       sizeof(struct mr_plane_msg));
            }
            if (mr_ring_publish(port->out[to]) > 0) {
                woken[word] |= 1ull << (to % 64);
                is_any = true;
            }
            if (spill->head == spill->tail) {
                port->dirty[word] &= ~(1ull << (to % 64));
            }
        }
    }
    return is_any;
}

/* Whether a message still waits for room in a ring: then the thread must not sleep long. */
static inline bool mr_port_has_spill(const struct mr_port *port)
{
    for (uint32_t word = 0; word < (MR_ENDPOINTS_MAX + 63) / 64; word++) {
        if (port->dirty[word] != 0) {
            return true;
        }
    }
    return false;
}

/* Whether a message can be received now (also the re-check before sleeping). */
static inline bool mr_port_has_mail(struct mr_port *port)
{
    for (uint32_t from = 0; from < port->endpoint_count; from++) {
        if (port->in[from] != NULL && mr_ring_ready(port->in[from]) > 0) {
            return true;
        }
    }
    return false;
}

/* The next message, copied; false when there is none. Round robin over senders, FIFO per sender. */
static inline bool mr_port_receive(struct mr_port *port, struct mr_plane_msg *msg)
{
    for (uint32_t tried = 0; tried < port->endpoint_count; tried++) {
        struct mr_ring *ring = port->in[port->next_in];
        if (ring != NULL && mr_ring_ready(ring) > 0) {
            memcpy(msg, mr_ring_out(ring), sizeof *msg);
            mr_ring_retire(ring);
            return true;
        }
        port->next_in = port->next_in + 1 == port->endpoint_count ? 0 : port->next_in + 1;
    }
    return false;
}

/* Build the ring from `from` to `to`. Start-up only. ring_slots and spill_slots are powers of two. */
static inline void mr_port_connect(struct mr_port *from, struct mr_port *to, struct mr_arena *arena,
                                   uint32_t ring_slots, uint32_t spill_slots)
{
    struct mr_ring *ring = mr_arena_get(arena, sizeof *ring, 64);
    mr_ring_init(ring, arena, ring_slots);
    from->out[to->self] = ring;
    to->in[from->self] = ring;
    from->spill[to->self] = (struct mr_port_spill){.mask = spill_slots - 1};
    from->spill[to->self].slots =
        mr_arena_get_fresh(arena, sizeof(struct mr_plane_msg) * spill_slots, 64);
}

#endif
