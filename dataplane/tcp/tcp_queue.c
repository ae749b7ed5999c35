/*
 * tcp_queue: the spans that were lent for sending, and the tokens between them, in blocks.
 *
 *   head -> [ acked | first .. count ) -> [ ... ) -> tail
 *             ^ una_pos lies in pieces[first] of the head, or in front of a token behind it
 */
#include "tcp/tcp_conn.h"

static struct mr_tcp_block *add_block(struct mr_tcp_conn *c)
{
    struct mr_tcp_block *block = mr_pool_get(&c->tcp->blocks);
    mr_assert(block != NULL); /* counted before */
    block->next = NULL;
    block->first = block->count = 0;
    block->pos = c->end_pos;
    if (c->tail == NULL) {
        c->head = block;
    } else {
        c->tail->next = block;
    }
    c->tail = block;
    return block;
}

static void add(struct mr_tcp_conn *c, struct mr_tcp_queued piece)
{
    struct mr_tcp_block *block = c->tail;
    if (block == NULL || block->count == MR_TCP_BLOCK_PIECES) {
        block = add_block(c);
    }
    block->pieces[block->count++] = piece;
    c->end_pos += piece.data != NULL ? piece.len_or_token : 0;
}

enum mr_err mr_tcp_send(struct mr_tcp_conn *c, const struct mr_span *spans, uint32_t span_count, uint64_t token)
{
    mr_assert(token != 0);
    if (c->is_fin_wanted || c->is_reset_due || c->is_end_due || c->state == MR_TCP_CLOSED) {
        return MR_ERR_CLOSED;
    }
    struct mr_pool *pool = &c->tcp->blocks;
    uint32_t room = c->tail == NULL ? 0 : MR_TCP_BLOCK_PIECES - c->tail->count;
    uint32_t need =
        span_count + 1 > room ? (span_count + 1 - room + MR_TCP_BLOCK_PIECES - 1) / MR_TCP_BLOCK_PIECES : 0;
    uint64_t bytes = 0;
    for (uint32_t index = 0; index < span_count; index++) {
        bytes += spans[index].len;
    }
    /* Sequence numbers compare within half of the circle: what is queued stays far below. */
    bool is_too_long = c->end_pos - c->una_pos + bytes > INT32_MAX / 2;
    if (pool->capacity - pool->used < need || is_too_long) {
        if (c->head == NULL) {
            return MR_ERR_TOO_LARGE; /* nothing of its own will make room */
        }
        c->is_blocked = true;
        return MR_AGAIN;
    }
    for (uint32_t index = 0; index < span_count; index++) {
        if (spans[index].len > 0) {
            add(c, (struct mr_tcp_queued){.data = spans[index].data, .len_or_token = spans[index].len});
        }
    }
    add(c, (struct mr_tcp_queued){.len_or_token = token});
    if (c->una_pos == c->end_pos) {
        mr_tcp_queue_acked(c, 0); /* a token of nothing is done with at once */
    }
    mr_tcp_dirty(c);
    return MR_OK;
}

void mr_tcp_queue_acked(struct mr_tcp_conn *c, uint32_t bytes)
{
    c->una_pos += bytes;
    mr_assert(c->una_pos <= c->end_pos);
    bool is_token_new = false;
    while (c->head != NULL) {
        struct mr_tcp_block *block = c->head;
        while (block->first < block->count) {
            const struct mr_tcp_queued *piece = &block->pieces[block->first];
            if (piece->data == NULL) {
                c->sent_token = piece->len_or_token;
                is_token_new = true;
            } else if (block->pos + piece->len_or_token <= c->una_pos) {
                block->pos += piece->len_or_token;
            } else {
                break;
            }
            block->first++;
        }
        if (block->first < block->count) {
            break;
        }
        c->head = block->next;
        c->tail = c->head == NULL ? NULL : c->tail;
        c->cursor.block = c->cursor.block == block ? NULL : c->cursor.block;
        mr_pool_put(&c->tcp->blocks, block);
    }
    if (is_token_new && c->is_blocked) {
        c->is_blocked = false;
        c->is_room_due = true;
    }
    if (is_token_new) {
        mr_tcp_eventful(c);
    }
}

/* The cursor at the piece that holds `pos`: new data goes on where the last left off, a retransmission begins at the
 * head again, and steps over whole blocks. block->pos is that of pieces[first]. */
static void seek(struct mr_tcp_conn *c, uint64_t pos)
{
    struct mr_tcp_cursor *at = &c->cursor;
    if (at->block == NULL || pos < at->pos || at->index < at->block->first) {
        *at = (struct mr_tcp_cursor){.block = c->head, .index = c->head->first, .pos = c->head->pos};
    }
    for (;;) {
        struct mr_tcp_block *next = at->block->next;
        if (next != NULL && next->pos <= pos) {
            *at = (struct mr_tcp_cursor){.block = next, .index = next->first, .pos = next->pos};
            continue;
        }
        const struct mr_tcp_queued *piece = &at->block->pieces[at->index];
        uint64_t len = piece->data == NULL ? 0 : piece->len_or_token;
        if (pos < at->pos + len) {
            return;
        }
        at->pos += len;
        at->index++;
        mr_assert(at->index < at->block->count);
    }
}

uint32_t mr_tcp_queue_spans(struct mr_tcp_conn *c, uint64_t pos, uint32_t len, struct mr_span *spans, uint32_t max,
                            uint32_t *count)
{
    uint32_t held = 0;
    *count = 0;
    if (len == 0) {
        return 0;
    }
    mr_assert(pos >= c->una_pos && pos + len <= c->end_pos);
    seek(c, pos);
    struct mr_tcp_cursor at = c->cursor;
    while (held < len && *count < max) {
        if (at.index == at.block->count) {
            at.block = at.block->next;
            at.index = at.block->first;
            continue;
        }
        const struct mr_tcp_queued *piece = &at.block->pieces[at.index++];
        if (piece->data == NULL) {
            continue;
        }
        uint32_t skip = (uint32_t)(pos + held - at.pos);
        uint32_t part = (uint32_t)piece->len_or_token - skip;
        part = part < len - held ? part : len - held;
        spans[(*count)++] = (struct mr_span){.data = piece->data + skip, .len = part};
        held += part;
        at.pos += piece->len_or_token;
    }
    return held;
}

void mr_tcp_queue_drop(struct mr_tcp_conn *c)
{
    while (c->head != NULL) {
        struct mr_tcp_block *block = c->head;
        c->head = block->next;
        mr_pool_put(&c->tcp->blocks, block);
    }
    c->tail = NULL;
    c->cursor.block = NULL;
    c->una_pos = c->end_pos;
}
