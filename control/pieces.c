#include "pieces.h"

#include "coord/coord_runtime.h"
#include "metadata/ctl_seen.h"
#include "millrace/base/bug.h"

#define DEPTH_MAX    3
#define WINDOW_MIN   8u
#define WINDOW_FIRST 64u
#define WINDOW_MAX   1024u
#define SLICES_MAX   (1u << 16)
#define WINDOW_LOW   (16u << 10) /* bytes of a window's answer: the next one is larger ... */
#define WINDOW_HIGH  (48u << 10) /* ... or smaller */

/* Where the things are that a request names (none: it asks for all), and the arrays of the answer that have as many, from the
 * outside in. */
struct row {
    int16_t     api_key;
    int16_t     version_min, version_max;
    uint32_t    window_max;
    const char *in[DEPTH_MAX];
    const char *out[DEPTH_MAX];
};

#define ANY      0, INT16_MAX
#define CHANGES  128u /* of metadata, which cost more than they answer */

static const struct row rows[] = {
    {MR_API_OFFSET_COMMIT, ANY, WINDOW_MAX, {"topics", "partitions"}, {"topics", "partitions"}},
    {MR_API_OFFSET_FETCH, 0, 7, WINDOW_MAX, {"topics", "partition_indexes"}, {"topics", "partitions"}},
    {MR_API_OFFSET_FETCH, 8, INT16_MAX, WINDOW_MAX, {"groups", "topics", "partition_indexes"},
     {"groups", "topics", "partitions"}},
    {MR_API_OFFSET_DELETE, ANY, WINDOW_MAX, {"topics", "partitions"}, {"topics", "partitions"}},
    {MR_API_TXN_OFFSET_COMMIT, ANY, WINDOW_MAX, {"topics", "partitions"}, {"topics", "partitions"}},
    {MR_API_ADD_PARTITIONS_TO_TXN, 0, 3, WINDOW_MAX, {"v3_and_below_topics", "partitions"},
     {"results_by_topic_v3_and_below", "results_by_partition"}},
    {MR_API_ADD_PARTITIONS_TO_TXN, 4, INT16_MAX, WINDOW_MAX, {"transactions", "topics", "partitions"},
     {"results_by_transaction", "topic_results", "results_by_partition"}},
    {MR_API_WRITE_TXN_MARKERS, ANY, CHANGES, {"markers", "topics", "partition_indexes"},
     {"markers", "topics", "partitions"}},
    {MR_API_LEAVE_GROUP, 3, INT16_MAX, WINDOW_MAX, {"members"}, {"members"}},
    {MR_API_FIND_COORDINATOR, 4, INT16_MAX, WINDOW_MAX, {"coordinator_keys"}, {"coordinators"}},
    {MR_API_DESCRIBE_GROUPS, ANY, WINDOW_MAX, {"groups"}, {"groups"}},
    {MR_API_CONSUMER_GROUP_DESCRIBE, ANY, WINDOW_MAX, {"group_ids"}, {"groups"}},
    {MR_API_DELETE_GROUPS, ANY, WINDOW_MAX, {"groups_names"}, {"results"}},
    {MR_API_DESCRIBE_TRANSACTIONS, ANY, WINDOW_MAX, {"transactional_ids"}, {"transaction_states"}},
    {MR_API_DESCRIBE_PRODUCERS, ANY, WINDOW_MAX, {"topics", "partition_indexes"}, {"topics", "partitions"}},
    {MR_API_CREATE_TOPICS, ANY, CHANGES, {"topics"}, {"topics"}},
    {MR_API_DELETE_TOPICS, 0, 5, CHANGES, {"topic_names"}, {"responses"}},
    {MR_API_DELETE_TOPICS, 6, INT16_MAX, CHANGES, {"topics"}, {"responses"}},
    {MR_API_CREATE_PARTITIONS, ANY, CHANGES, {"topics"}, {"results"}},
    {MR_API_DESCRIBE_CONFIGS, ANY, WINDOW_MAX, {"resources"}, {"results"}},
    {MR_API_ALTER_CONFIGS, ANY, CHANGES, {"resources"}, {"responses"}},
    {MR_API_INCREMENTAL_ALTER_CONFIGS, ANY, CHANGES, {"resources"}, {"responses"}},
    {MR_API_LIST_GROUPS, ANY, WINDOW_MAX, {NULL}, {"groups"}}, /* by shards */
    {MR_API_LIST_TRANSACTIONS, ANY, WINDOW_MAX, {NULL}, {"transaction_states"}},
};

struct buffer {
    uint8_t *data;
    size_t   len;
    size_t   size;
};

struct level {
    const struct mr_field *in;
    const struct mr_field *out;
    struct buffer          items; /* encoded ones of `out` */
    int32_t                count;
    /* Of the item (of the answer itself, on the outermost level) that holds `out`. */
    const struct mr_struct *holder;
    struct buffer           before;
    struct buffer           after;
    int16_t                 error;
    bool                    is_open; /* it is not among the items of the level outside yet */
};

struct mr_pieces {
    const struct mr_msg *msg; /* of the answer */
    int16_t              version;
    uint32_t             depth;
    const uint8_t       *message; /* the whole one */
    uint32_t             window;  /* things */
    uint32_t             window_max;
    uint32_t             at[DEPTH_MAX]; /* where the window begins: an index into the array of each level */
    uint32_t             next[DEPTH_MAX];
    uint32_t             parts; /* slices of shards that are asked for all that they have; 0: things are named */
    uint32_t             slices; /* of each shard */
    bool                 is_last;
    bool                 is_taken;
    uint64_t             bytes; /* of the answer to this window */
    struct level         levels[DEPTH_MAX];
};

/* ---- arrays of messages ---- */

static const struct mr_field *field_of(const struct mr_struct *desc, const char *name, int16_t version)
{
    for (uint32_t index = 0; index < desc->field_count; index++) {
        const struct mr_field *field = &desc->fields[index];
        if (mr_str_equal(mr_str(field->name), mr_str(name)) && field->since <= version && version <= field->until) {
            return field;
        }
    }
    return NULL;
}

static const uint8_t *items_of(const struct mr_field *array, const uint8_t *holder)
{
    return *(const uint8_t *const *)(const void *)(holder + array->offset);
}

static uint32_t count_of(const struct mr_field *array, const uint8_t *holder)
{
    int32_t count = *(const int32_t *)(const void *)(holder + array->count_offset);
    return count < 0 ? 0 : (uint32_t)count;
}

static void set_items(const struct mr_field *array, uint8_t *holder, const uint8_t *items, uint32_t count)
{
    *(const uint8_t **)(void *)(holder + array->offset) = items;
    *(int32_t *)(void *)(holder + array->count_offset) = (int32_t)count;
}

/* The row's fields, from the outside in. */
static void find_levels(struct mr_pieces *p, const struct row *row, const struct mr_struct *request)
{
    const struct mr_struct *in = request;
    const struct mr_struct *out = p->msg->root;
    for (p->depth = 0; p->depth < DEPTH_MAX && row->out[p->depth] != NULL; p->depth++) {
        struct level *level = &p->levels[p->depth];
        bool          is_named = row->in[p->depth] != NULL;
        level->in = is_named ? field_of(in, row->in[p->depth], p->version) : NULL;
        level->out = field_of(out, row->out[p->depth], p->version);
        mr_assert((level->in != NULL || !is_named) && level->out != NULL);
        level->holder = out;
        in = is_named ? level->in->sub : NULL;
        out = level->out->sub;
    }
}

/* Things in `holder`, what holds them counted too, until there are more than `enough`. */
static uint32_t things_in(const struct mr_pieces *p, uint32_t depth, const uint8_t *holder, uint32_t enough)
{
    const struct mr_field *array = p->levels[depth].in;
    uint32_t               count = count_of(array, holder);
    uint32_t               sum = count;
    if (depth + 1 < p->depth) {
        const uint8_t *item = items_of(array, holder);
        for (uint32_t index = 0; index < count && sum <= enough; index++, item += array->sub->size) {
            sum += things_in(p, depth + 1, item, enough);
        }
    }
    return sum;
}

/* ---- names twice ---- */

static const struct mr_str *text_of(const struct mr_struct *desc, const char *name, int16_t version, const uint8_t *item)
{
    const struct mr_field *field = field_of(desc, name, version);
    return field == NULL ? NULL : (const struct mr_str *)(const void *)(item + field->offset);
}

/* What an item of a request that changes metadata names: by a name, a type and a name, or an id. */
static void add_name(struct mr_ctl_seen *seen, const struct mr_pieces *p, const uint8_t *item)
{
    const struct mr_struct *desc = p->levels[0].in->sub;
    const struct mr_str    *name = desc == NULL ? (const struct mr_str *)(const void *)item
                                                : text_of(desc, "name", p->version, item);
    const struct mr_field  *id = desc == NULL ? NULL : field_of(desc, "topic_id", p->version);
    int32_t                 type = -1;
    if (name == NULL) {
        name = text_of(desc, "resource_name", p->version, item);
        type = *(const int8_t *)(item + field_of(desc, "resource_type", p->version)->offset);
    }
    if (id != NULL && mr_str_is_null(*name)) {
        (void)mr_ctl_seen_add(seen, 0, item + id->offset, (int32_t)sizeof(struct mr_uuid), 0);
    } else {
        (void)mr_ctl_seen_add(seen, type, name->data, name->len, 0);
    }
}

/* Then both are refused, and only who sees the whole request can do that. Also when there is no memory to tell. */
static bool is_any_twice(struct mr_control *control, struct mr_request *request, const struct mr_pieces *p)
{
    const struct mr_field *array = p->levels[0].in;
    uint32_t               count = count_of(array, p->message);
    const uint8_t         *item = items_of(array, p->message);
    struct mr_ctl_seen     seen;
    if (!mr_ctl_seen_init(&seen, control, request, count)) {
        return true;
    }
    for (uint32_t index = 0; index < count; index++, item += mr_fields_item_size(array)) {
        add_name(&seen, p, item);
    }
    bool is_any = seen.count < count;
    mr_request_forget(control, request);
    return is_any;
}

/* ---- windows ---- */

/* `holder` is a copy: its array becomes what of it is in the window, which may have *left more things. Returns whether that
 * is all the rest of it; else p->next says where the next window begins. */
static bool cut(struct mr_control *control, struct mr_request *request, uint32_t depth, uint8_t *holder, uint32_t *left)
{
    struct mr_pieces      *p = request->pieces;
    const struct mr_field *array = p->levels[depth].in;
    uint32_t               size = mr_fields_item_size(array);
    uint32_t               begin = p->at[depth];
    uint32_t               rest = count_of(array, holder) - begin;
    uint32_t               count = rest < *left ? rest : *left;
    if (count_of(array, holder) == 0) {
        return true; /* also a null */
    }
    const uint8_t *items = items_of(array, holder) + (size_t)begin * size;
    p->next[depth] = begin + count;
    if (depth + 1 == p->depth) {
        *left -= count;
        set_items(array, holder, items, count);
        return count == rest;
    }
    uint8_t *copies = mr_request_memory(control, request, (size_t)size * (count + 1));
    if (copies == NULL) {
        request->is_broken = true;
        return false;
    }
    bool     is_whole = true;
    uint32_t taken = 0;
    /* Who is taken has room for at least one thing, so that a window never ends before the first of an item. */
    while (taken < count && *left >= p->depth - depth && is_whole) {
        uint8_t *item = memcpy(copies + (size_t)taken * size, items + (size_t)taken * size, size);
        --*left;
        is_whole = cut(control, request, depth + 1, item, left);
        p->at[depth + 1] = 0;
        taken++;
    }
    p->next[depth] = begin + taken - (is_whole ? 0 : 1);
    for (uint32_t inner = depth + 1; is_whole && inner < p->depth; inner++) {
        p->next[inner] = 0;
    }
    set_items(array, holder, copies, taken);
    return is_whole && taken == rest;
}

/* Some slices of shards, of a request for all that they have. */
static void serve_parts(struct mr_control *control, struct mr_now now, struct mr_request *request)
{
    struct mr_pieces *p = request->pieces;
    uint32_t          end = p->parts - p->at[0] < p->window ? p->parts : p->at[0] + p->window;
    p->next[0] = end;
    p->is_last = end == p->parts;
    p->is_taken = false;
    control->handlers[request->forward->api_key](control, now, request);
}

struct mr_parts mr_pieces_parts(const struct mr_request *request, uint32_t shard_count)
{
    const struct mr_pieces *p = request->pieces;
    if (p == NULL) {
        return (struct mr_parts){.end = shard_count, .slices = 1};
    }
    uint32_t end = shard_count * p->slices; /* there may be fewer than when it began */
    return (struct mr_parts){
        .begin = p->at[0], .end = p->next[0] < end ? p->next[0] : end, .slices = p->slices};
}

/* Serve the window that begins at p->at. */
static void serve(struct mr_control *control, struct mr_now now, struct mr_request *request)
{
    struct mr_pieces    *p = request->pieces;
    const struct mr_msg *msg = mr_api_request_desc(request->forward->api_key);
    if (p->parts > 0) {
        serve_parts(control, now, request);
        return;
    }
    uint8_t             *message = mr_request_memory(control, request, msg->root->size);
    uint32_t             left = p->window;
    uint32_t             at[DEPTH_MAX];
    if (message == NULL) {
        mr_control_reply_close(control, request);
        return;
    }
    memcpy(at, p->at, sizeof at);
    memcpy(message, p->message, msg->root->size);
    memset(p->next, 0, sizeof p->next);
    p->is_last = cut(control, request, 0, message, &left);
    memcpy(p->at, at, sizeof at);
    if (request->is_broken) {
        mr_control_reply_close(control, request);
        return;
    }
    p->is_taken = false;
    request->message = message;
    request->user = NULL;
    control->handlers[request->forward->api_key](control, now, request);
}

bool mr_pieces_begin(struct mr_control *control, struct mr_now now, struct mr_request *request)
{
    const struct mr_forward *forward = request->forward;
    const struct row        *row = rows;
    const struct row        *end = rows + sizeof rows / sizeof rows[0];
    while (row < end && (row->api_key != forward->api_key || forward->api_version < row->version_min ||
                         forward->api_version > row->version_max)) {
        row++;
    }
    if (row == end || mr_bug("long-turns")) {
        return false;
    }
    struct mr_pieces p = {.msg = mr_api_response_desc(forward->api_key),
                          .version = forward->api_version,
                          .message = request->message,
                          .window = control->things_max < WINDOW_FIRST ? WINDOW_MIN : WINDOW_FIRST,
                          .window_max = row->window_max};
    find_levels(&p, row, mr_api_request_desc(forward->api_key)->root);
    if (row->in[0] == NULL) {
        const struct mr_coord *coord =
            row->api_key == MR_API_LIST_GROUPS ? control->coord : control->txn_coord;
        struct mr_coord_counts counts = mr_coord_count(coord);
        p.window = 1;
        p.slices = 1;
        while (p.slices * WINDOW_FIRST < counts.most && p.slices < SLICES_MAX) {
            p.slices *= 2;
        }
        p.parts = counts.all > control->things_max ? coord->shard_count * p.slices : 0;
    }
    if (row->in[0] == NULL ? p.parts == 0
                           : things_in(&p, 0, request->message, control->things_max) <= control->things_max) {
        return false;
    }
    if (row->window_max == CHANGES && p.depth == 1 && is_any_twice(control, request, &p)) {
        return false;
    }
    request->pieces = MR_HEAP_NEW(&control->heap, struct mr_pieces);
    if (request->pieces == NULL) {
        mr_control_reply_close(control, request);
        return true;
    }
    *request->pieces = p;
    serve(control, now, request);
    return true;
}

/* ---- answers ---- */

static bool reserve(struct mr_control *control, struct buffer *buffer, size_t bytes)
{
    if (buffer->size - buffer->len >= bytes) {
        return true;
    }
    size_t size = buffer->size * 2 > buffer->len + bytes ? buffer->size * 2 : buffer->len + bytes;
    void  *grown = mr_heap_resize(&control->heap, buffer->data, buffer->size, size);
    if (grown == NULL) {
        return false;
    }
    buffer->data = grown;
    buffer->size = size;
    return true;
}

static bool append(struct mr_control *control, struct buffer *to, const struct buffer *from)
{
    if (!reserve(control, to, from->len)) {
        return false;
    }
    if (from->len > 0) {
        memcpy(to->data + to->len, from->data, from->len);
    }
    to->len += from->len;
    return true;
}

/* Which part of a message: what stands before or behind a level's array, or some of its items. */
enum part { BEFORE, AFTER, COUNT, ITEMS };

static enum mr_err write_part(const struct mr_pieces *p, const struct level *level, enum part part, const void *in,
                              int32_t count, struct mr_writer *writer)
{
    switch (part) {
    case BEFORE:
        return mr_msg_encode_before(p->msg, p->version, level->holder, level->out, in, writer);
    case AFTER:
        return mr_msg_encode_after(p->msg, p->version, level->holder, level->out, in, writer);
    case COUNT:
        return mr_msg_encode_count(p->msg, p->version, level->out, count, writer);
    case ITEMS:
        return mr_msg_encode_items(p->msg, p->version, level->out, in, count, writer);
    }
    mr_unreachable("part");
}

/* Append a part's bytes: measured first, so that they are one piece. False: no memory, or it cannot be encoded. */
static bool encode(struct mr_control *control, const struct mr_pieces *p, const struct level *level, enum part part,
                   const void *in, int32_t count, struct buffer *to)
{
    struct mr_writer writer = mr_writer_counter();
    if (write_part(p, level, part, in, count, &writer) != MR_OK || !reserve(control, to, writer.bytes)) {
        return false;
    }
    if (writer.bytes == 0) {
        return true;
    }
    struct mr_arena arena;
    struct mr_span  spans[2];
    size_t          bytes = writer.bytes;
    mr_arena_init(&arena, to->data + to->len, bytes);
    mr_writer_init(&writer, &arena, spans, 2);
    enum mr_err err = write_part(p, level, part, in, count, &writer);
    mr_assert(err == MR_OK && mr_writer_finish(&writer).bytes == bytes);
    to->len += bytes;
    control->work += bytes;
    return true;
}

/* What holds the level's array: new, or the one that the window before had too, then only an error of it is news. */
static bool hold(struct mr_control *control, const struct mr_pieces *p, struct level *level, const uint8_t *holder,
                 bool is_new)
{
    const struct mr_field *field = field_of(level->holder, "error_code", p->version);
    int16_t                error = field == NULL ? 0 : *(const int16_t *)(const void *)(holder + field->offset);
    if (!is_new && (level->error != 0 || error == 0)) {
        return true;
    }
    level->error = error;
    level->is_open = true;
    level->before.len = 0;
    level->after.len = 0;
    return encode(control, p, level, BEFORE, holder, 0, &level->before) &&
           encode(control, p, level, AFTER, holder, 0, &level->after);
}

/* The bytes of what holds the level's array, whole. */
static bool close_into(struct mr_control *control, const struct mr_pieces *p, struct level *level, struct buffer *to)
{
    bool is_good = append(control, to, &level->before) &&
                   encode(control, p, level, COUNT, NULL, level->count, to) &&
                   append(control, to, &level->items) && append(control, to, &level->after);
    level->items.len = 0;
    level->count = 0;
    level->is_open = false;
    return is_good;
}

/* The levels inside `depth` are over: each becomes an item of the one outside it. */
static bool close_inside(struct mr_control *control, struct mr_pieces *p, uint32_t depth)
{
    bool is_good = true;
    for (uint32_t inner = p->depth - 1; inner > depth && is_good; inner--) {
        if (p->levels[inner].is_open) {
            is_good = close_into(control, p, &p->levels[inner], &p->levels[inner - 1].items);
            p->levels[inner - 1].count++;
        }
    }
    return is_good;
}

/* Whether the first item of this level is one that the window before ended in. */
static bool is_continued(const struct mr_pieces *p, uint32_t depth)
{
    for (uint32_t inner = depth + 1; inner < p->depth; inner++) {
        if (p->at[inner] > 0) {
            return true;
        }
    }
    return false;
}

static bool take_level(struct mr_control *control, struct mr_pieces *p, uint32_t depth, const uint8_t *holder,
                       bool is_first)
{
    struct level  *level = &p->levels[depth];
    const uint8_t *item = items_of(level->out, holder);
    uint32_t       count = count_of(level->out, holder);
    if (depth + 1 == p->depth) {
        level->count += (int32_t)count;
        return encode(control, p, level, ITEMS, item, (int32_t)count, &level->items);
    }
    bool is_good = true;
    for (uint32_t index = 0; index < count && is_good; index++, item += level->out->sub->size) {
        bool is_old = is_first && index == 0 && is_continued(p, depth) && p->levels[depth + 1].is_open;
        is_good = (is_old || close_inside(control, p, depth)) &&
                  hold(control, p, &p->levels[depth + 1], item, !is_old) &&
                  take_level(control, p, depth + 1, item, is_old);
    }
    return is_good;
}

void mr_pieces_take(struct mr_control *control, struct mr_request *request, const void *response)
{
    struct mr_pieces *p = request->pieces;
    uint64_t          before = control->work;
    /* Taken twice: an error instead of an answer that was ready. It cannot be taken back out of what is joined. */
    request->is_broken |= p->is_taken || !hold(control, p, &p->levels[0], response, !p->levels[0].is_open) ||
                          !take_level(control, p, 0, response, true);
    if (p->parts > 0 && p->levels[0].error != 0) { /* of all: nothing is listed */
        p->levels[0].items.len = 0;
        p->levels[0].count = 0;
        p->is_last = true;
    }
    p->is_taken = true;
    p->bytes = control->work - before;
}

bool mr_pieces_next(struct mr_control *control, struct mr_request *request)
{
    struct mr_pieces *p = request->pieces;
    if (p->is_last || request->is_broken) {
        return false;
    }
    if (p->bytes < WINDOW_LOW && p->window < p->window_max) {
        p->window *= 2;
    } else if (p->bytes > WINDOW_HIGH && p->window > (p->parts > 0 ? 1 : WINDOW_MIN)) {
        p->window /= 2;
    }
    memcpy(p->at, p->next, sizeof p->at);
    mr_request_forget(control, request);
    mr_list_add_tail(&control->pieces, &request->link);
    return true;
}

struct mr_reply_box *mr_pieces_join(struct mr_control *control, struct mr_request *request)
{
    struct mr_pieces    *p = request->pieces;
    struct buffer        whole = {0};
    struct mr_reply_box *box = NULL;
    if (close_inside(control, p, 0) && close_into(control, p, &p->levels[0], &whole)) {
        box = mr_control_box(control, whole.len);
    }
    if (box != NULL) {
        memcpy(mr_control_box_bytes(box), whole.data, whole.len);
    }
    if (whole.size > 0) {
        mr_heap_free(&control->heap, whole.data, whole.size);
    }
    return box;
}

void mr_pieces_end(struct mr_control *control, struct mr_request *request)
{
    struct mr_pieces *p = request->pieces;
    for (uint32_t depth = 0; p != NULL && depth < p->depth; depth++) {
        struct buffer *buffers[] = {&p->levels[depth].items, &p->levels[depth].before, &p->levels[depth].after};
        for (uint32_t index = 0; index < sizeof buffers / sizeof buffers[0]; index++) {
            if (buffers[index]->size > 0) {
                mr_heap_free(&control->heap, buffers[index]->data, buffers[index]->size);
            }
        }
    }
    if (p != NULL) {
        MR_HEAP_DELETE(&control->heap, p);
        request->pieces = NULL;
    }
}

bool mr_pieces_turn(struct mr_control *control, struct mr_now now)
{
    bool is_any = !mr_list_is_empty(&control->pieces);
    bool is_due = is_any; /* at least one, however much mail there is */
    while (is_due) {
        struct mr_request *request = MR_LIST_ENTRY(control->pieces.next, struct mr_request, link);
        mr_list_remove(&request->link);
        serve(control, now, request);
        is_due = !mr_list_is_empty(&control->pieces) && !mr_control_has_worked(control);
    }
    return is_any;
}

void mr_pieces_abandon(struct mr_control *control)
{
    struct mr_list *link;
    while ((link = mr_list_pop(&control->pieces)) != NULL) {
        mr_control_reply_close(control, MR_LIST_ENTRY(link, struct mr_request, link));
    }
}
