#include "metadata/ctl_seen.h"

bool mr_ctl_seen_init(struct mr_ctl_seen *seen, struct mr_control *control,
                      struct mr_request *request, uint64_t room)
{
    uint32_t slots = 8;
    if (room > UINT32_MAX / 4) {
        return false;
    }
    while (slots < room * 2) {
        slots *= 2;
    }
    *seen = (struct mr_ctl_seen){
        .hash_key = &control->hash_key, .room = (uint32_t)room, .mask = slots - 1};
    seen->keys = MR_REQUEST_NEW(control, request, struct mr_ctl_seen_key, room);
    seen->slots = MR_REQUEST_NEW(control, request, uint32_t, slots);
    return seen->keys != NULL && seen->slots != NULL;
}

/* The slot of the key, or the free one where it belongs. */
static uint32_t *slot_of(const struct mr_ctl_seen *seen, uint64_t hash, int32_t number,
                         const void *data, int32_t len)
{
    for (uint32_t at = (uint32_t)hash & seen->mask;; at = (at + 1) & seen->mask) {
        if (seen->slots[at] == 0) {
            return &seen->slots[at];
        }
        const struct mr_ctl_seen_key *key = &seen->keys[seen->slots[at] - 1];
        if (key->hash == hash && key->number == number && key->len == len &&
            (len <= 0 || memcmp(key->data, data, (size_t)len) == 0)) {
            return &seen->slots[at];
        }
    }
}

static uint64_t hash_of(const struct mr_ctl_seen *seen, int32_t number, const void *data,
                        int32_t len)
{
    uint64_t hash = mr_hash_bytes(seen->hash_key, data, len > 0 ? (size_t)len : 0);
    return mr_hash_u64(hash + (uint64_t)(uint32_t)number * 0x9e3779b97f4a7c15ull + (len < 0));
}

struct mr_ctl_seen_key *mr_ctl_seen_add(struct mr_ctl_seen *seen, int32_t number, const void *data,
                                        int32_t len, int32_t tag)
{
    uint64_t  hash = hash_of(seen, number, data, len);
    uint32_t *slot = slot_of(seen, hash, number, data, len);
    if (*slot == 0) {
        mr_assert(seen->count < seen->room);
        seen->keys[seen->count] =
            (struct mr_ctl_seen_key){.data = data, .len = len, .number = number, .hash = hash};
        *slot = ++seen->count;
    }
    struct mr_ctl_seen_key *key = &seen->keys[*slot - 1];
    key->times++;
    key->last = tag;
    return key;
}

struct mr_ctl_seen_key *mr_ctl_seen_find(const struct mr_ctl_seen *seen, int32_t number,
                                         const void *data, int32_t len)
{
    uint32_t *slot = slot_of(seen, hash_of(seen, number, data, len), number, data, len);
    return *slot == 0 ? NULL : &seen->keys[*slot - 1];
}
