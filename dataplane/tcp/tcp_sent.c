/*
 * tcp_sent: what was sent and is not acknowledged, as records in order of their sequence numbers: the scoreboard
 * of SACK and the times that RACK wants.
 *
 *   in flight --lost--> lost --sent again--> in flight
 *       +------sacked----+-----> sacked        (forgotten: in flight again)
 *
 * pipe, lost_bytes and sacked_bytes are the sums by state. Cost: an ACK takes one walk over the records below its
 * highest SACK block, of which there are MR_TCP_SENT_MAX at most.
 *
 * Source: RFC 2018 5, RFC 2883 5, RFC 6675 3.
 */
#include "tcp/tcp_conn.h"

static struct mr_tcp_sent *sent_of(struct mr_list *link)
{
    return MR_LIST_ENTRY(link, struct mr_tcp_sent, link);
}

static struct mr_tcp_sent *queued_of(struct mr_list *queue)
{
    return MR_LIST_ENTRY(queue, struct mr_tcp_sent, queue);
}

static uint32_t *sum_of(struct mr_tcp_conn *c, enum mr_tcp_sent_state state)
{
    return state == MR_TCP_IN_FLIGHT ? &c->pipe : state == MR_TCP_SACKED ? &c->sacked_bytes : &c->lost_bytes;
}

/* Where in the list by time something that was sent then belongs: behind this. The record in front of it was as a rule
 * sent just before it, so that what comes back in a row (undone, forgotten) is not looked for from the end each time. */
static struct mr_list *place_by_time(struct mr_tcp_conn *c, const struct mr_tcp_sent *sent)
{
    struct mr_list *at = c->flying.prev;
    if (at == &c->flying || queued_of(at)->time_ns <= sent->time_ns) {
        return at;
    }
    if (sent->link.prev != &c->sent && sent_of(sent->link.prev)->state == MR_TCP_IN_FLIGHT) {
        at = &sent_of(sent->link.prev)->queue;
    }
    while (at != &c->flying && queued_of(at)->time_ns > sent->time_ns) {
        at = at->prev;
    }
    while (at->next != &c->flying && queued_of(at->next)->time_ns <= sent->time_ns) {
        at = at->next;
    }
    return at;
}

/* Behind the last that is lost in front of it. Losses are found in runs: the record in front is lost too, or sacked; a
 * walk along the list of what is lost would let a peer make each of thousands cost thousands (CVE-2019-11478's kind). */
static struct mr_list *place_by_number(struct mr_tcp_conn *c, const struct mr_tcp_sent *sent)
{
    struct mr_list *at = sent->link.prev;
    while (at != &c->sent && sent_of(at)->state != MR_TCP_LOST) {
        at = at->prev;
    }
    return at == &c->sent ? &c->lost : &sent_of(at)->queue;
}

static void enqueue(struct mr_tcp_conn *c, struct mr_tcp_sent *sent)
{
    if (sent->state == MR_TCP_IN_FLIGHT) {
        mr_list_add_head(place_by_time(c, sent), &sent->queue);
    } else if (sent->state == MR_TCP_LOST) {
        mr_list_add_head(place_by_number(c, sent), &sent->queue);
    }
}

static void release(struct mr_tcp_conn *c, struct mr_tcp_sent *sent)
{
    *sum_of(c, sent->state) -= sent->end - sent->seq;
    mr_list_remove(&sent->link);
    mr_list_remove(&sent->queue);
    c->sent_count--;
    mr_pool_put(&c->tcp->sents, sent);
}

struct mr_tcp_sent *mr_tcp_sent_add(struct mr_tcp_conn *c, uint32_t seq, uint32_t end, bool has_fin, uint64_t now_ns)
{
    struct mr_tcp_sent *sent = c->sent_count < MR_TCP_SENT_MAX ? mr_pool_get(&c->tcp->sents) : NULL;
    if (sent == NULL) {
        return NULL;
    }
    *sent = (struct mr_tcp_sent){.time_ns = now_ns, .seq = seq, .end = end, .has_fin = has_fin};
    mr_list_add_tail(&c->sent, &sent->link);
    mr_list_init(&sent->queue);
    enqueue(c, sent);
    c->pipe += end - seq;
    c->sent_count++;
    return sent;
}

struct mr_tcp_sent *mr_tcp_sent_split(struct mr_tcp_conn *c, struct mr_tcp_sent *sent, uint32_t seq)
{
    mr_assert(mr_tcp_seq_lt(sent->seq, seq) && mr_tcp_seq_lt(seq, sent->end));
    struct mr_tcp_sent *later = c->sent_count < MR_TCP_SENT_MAX ? mr_pool_get(&c->tcp->sents) : NULL;
    if (later == NULL) {
        return NULL;
    }
    *later = *sent;
    later->seq = sent->end = seq;
    sent->has_fin = false;
    mr_list_add_head(&sent->link, &later->link);
    mr_list_init(&later->queue);
    if (later->state != MR_TCP_SACKED) {
        mr_list_add_head(&sent->queue, &later->queue);
    }
    c->sent_count++;
    return later;
}

void mr_tcp_sent_mark(struct mr_tcp_conn *c, struct mr_tcp_sent *sent, enum mr_tcp_sent_state state)
{
    uint32_t len = sent->end - sent->seq;
    *sum_of(c, sent->state) -= len;
    *sum_of(c, state) += len;
    sent->state = state;
    mr_list_remove(&sent->queue);
    enqueue(c, sent);
}

void mr_tcp_sent_again(struct mr_tcp_conn *c, struct mr_tcp_sent *sent, uint64_t now_ns)
{
    sent->time_ns = now_ns;
    sent->is_retransmitted = true;
    mr_tcp_sent_mark(c, sent, MR_TCP_IN_FLIGHT);
    c->stats.retransmits++;
    c->stats.retransmit_bytes += sent->end - sent->seq;
}

/* The record has arrived: its round trip, if it is certain which sending arrived (Karn; RFC 6298 3). */
static void delivered(struct mr_tcp_conn *c, const struct mr_tcp_sent *sent, struct mr_tcp_acked *acked)
{
    acked->delivered += sent->end - sent->seq;
    if (!sent->is_retransmitted) {
        uint64_t rtt_ns = acked->now_ns - sent->time_ns;
        rtt_ns = rtt_ns == 0 ? 1 : rtt_ns;
        acked->rtt_ns = acked->rtt_ns == 0 ? rtt_ns : mr_earlier(acked->rtt_ns, rtt_ns);
    }
    mr_tcp_rack_delivered(c, sent, acked);
}

void mr_tcp_sent_ack(struct mr_tcp_conn *c, uint32_t ack, struct mr_tcp_acked *acked)
{
    for (struct mr_tcp_sent *sent; (sent = mr_tcp_sent_first(c)) != NULL && mr_tcp_seq_lt(sent->seq, ack);) {
        if (mr_tcp_seq_lt(ack, sent->end)) { /* a part of it */
            uint32_t part = ack - sent->seq;
            acked->delivered += sent->state == MR_TCP_SACKED ? 0 : part;
            *sum_of(c, sent->state) -= part;
            sent->seq = ack;
            return;
        }
        if (sent->state != MR_TCP_SACKED) {
            delivered(c, sent, acked);
        }
        release(c, sent);
    }
}

/* RFC 2883 4: the first block is a duplicate when it is acknowledged already or lies within the second. */
static bool is_dsack(const struct mr_tcp_segment *s)
{
    const struct mr_tcp_sack *first = &s->sacks[0];
    return mr_tcp_seq_lt(first->start, s->ack) ||
           (s->sack_count > 1 && mr_tcp_seq_le(s->sacks[1].start, first->start) &&
            mr_tcp_seq_le(first->end, s->sacks[1].end));
}

/* The blocks that may be believed, sorted: above the acknowledgement, below snd_nxt. */
static uint32_t sort_blocks(const struct mr_tcp_conn *c, const struct mr_tcp_segment *s, struct mr_tcp_sack *blocks)
{
    uint32_t count = 0;
    for (uint32_t index = 0; index < s->sack_count; index++) {
        struct mr_tcp_sack block = s->sacks[index];
        if (!mr_tcp_seq_lt(block.start, block.end) || !mr_tcp_seq_lt(s->ack, block.start) ||
            !mr_tcp_seq_le(block.end, c->snd_nxt)) {
            continue;
        }
        uint32_t at = count++;
        for (; at > 0 && mr_tcp_seq_lt(block.start, blocks[at - 1].start); at--) {
            blocks[at] = blocks[at - 1];
        }
        blocks[at] = block;
    }
    return count;
}

/* The part of the record that the block covers becomes a record of its own; false: none is free, or nothing is covered. */
static struct mr_tcp_sent *carve(struct mr_tcp_conn *c, struct mr_tcp_sent *sent, const struct mr_tcp_sack *block)
{
    if (mr_tcp_seq_lt(sent->seq, block->start)) {
        sent = mr_tcp_sent_split(c, sent, block->start);
    }
    if (sent != NULL && mr_tcp_seq_lt(block->end, sent->end) && mr_tcp_sent_split(c, sent, block->end) == NULL) {
        return NULL;
    }
    return sent;
}

void mr_tcp_sent_sack(struct mr_tcp_conn *c, const struct mr_tcp_segment *s, struct mr_tcp_acked *acked)
{
    struct mr_tcp_sack blocks[MR_TCP_SACKS];
    uint32_t count = sort_blocks(c, s, blocks);
    if (s->sack_count > 0 && is_dsack(s)) {
        acked->has_dsack = true;
        acked->dsack_bytes = s->sacks[0].end - s->sacks[0].start;
    }
    uint32_t index = 0;
    for (struct mr_list *at = c->sent.next; at != &c->sent && index < count;) {
        struct mr_tcp_sent *sent = sent_of(at);
        at = at->next;
        if (mr_tcp_seq_le(blocks[index].end, sent->seq)) {
            index++;
            at = &sent->link; /* once more, with the next block */
            continue;
        }
        if (sent->state == MR_TCP_SACKED || mr_tcp_seq_le(sent->end, blocks[index].start)) {
            continue;
        }
        sent = carve(c, sent, &blocks[index]);
        if (sent == NULL) {
            continue;
        }
        delivered(c, sent, acked);
        mr_tcp_sent_mark(c, sent, MR_TCP_SACKED);
        at = sent->link.next;
    }
}

void mr_tcp_sent_guess(struct mr_tcp_conn *c)
{
    MR_LIST_EACH (link, &c->sent) {
        struct mr_tcp_sent *sent = sent_of(link);
        if (link != c->sent.next && sent->state == MR_TCP_IN_FLIGHT) {
            mr_tcp_sent_mark(c, sent, MR_TCP_SACKED);
            return;
        }
    }
}

void mr_tcp_sent_forget(struct mr_tcp_conn *c)
{
    MR_LIST_EACH (link, &c->sent) {
        if (sent_of(link)->state == MR_TCP_SACKED) {
            mr_tcp_sent_mark(c, sent_of(link), MR_TCP_IN_FLIGHT);
        }
    }
}

struct mr_tcp_sent *mr_tcp_sent_first(const struct mr_tcp_conn *c)
{
    return mr_list_is_empty(&c->sent) ? NULL : sent_of(c->sent.next);
}

void mr_tcp_sent_drop(struct mr_tcp_conn *c)
{
    while (!mr_list_is_empty(&c->sent)) {
        release(c, sent_of(c->sent.next));
    }
}
