#include "millrace/side_car.h"

#include "millrace/base/bytes.h"
#include "millrace/batch.h"

#define MAGIC   0x4544495358524D4Dull /* "MMRXSIDE" */
#define VERSION 1u
#define ID_AT   16u
#define ID_END  64u /* of the head's bytes that mean something */

/* The identity as bytes: the same in the head and under the sums. */
static void id_store(const struct mr_side_id *id, uint8_t out[ID_END - ID_AT])
{
    memcpy(out, id->topic_id.bytes, 16);
    mr_store_le32(out + 16, id->partition);
    mr_store_le32(out + 20, id->size);
    mr_store_le64(out + 24, (uint64_t)id->base);
    mr_store_le64(out + 32, (uint64_t)id->changed_ns);
    mr_store_le32(out + 40, MR_SIDE_CHUNK);
    mr_store_le32(out + 44, VERSION);
}

uint32_t mr_side_seed(const struct mr_side_id *id)
{
    uint8_t bytes[ID_END - ID_AT];
    id_store(id, bytes);
    return mr_crc32c(0, bytes, sizeof bytes);
}

static uint32_t seeded(uint32_t seed, uint32_t number)
{
    uint8_t bytes[4];
    mr_store_le32(bytes, number);
    return mr_crc32c(seed, bytes, sizeof bytes);
}

uint32_t mr_side_sum(uint32_t seed, uint32_t chunk, const uint8_t *bytes, uint32_t len)
{
    return mr_crc32c(seeded(seed, chunk), bytes, len);
}

void mr_side_head_store(const struct mr_side_id *id, uint8_t head[MR_SIDE_BLOCK])
{
    memset(head, 0, MR_SIDE_BLOCK);
    mr_store_le64(head, MAGIC);
    id_store(id, head + ID_AT);
    mr_store_le32(head + 8, mr_crc32c(0, head + 12, MR_SIDE_BLOCK - 12));
}

bool mr_side_head_load(const uint8_t *head, uint32_t len, struct mr_side_id *id)
{
    if (len < MR_SIDE_BLOCK || mr_load_le64(head) != MAGIC ||
        mr_load_le32(head + 8) != mr_crc32c(0, head + 12, MR_SIDE_BLOCK - 12) ||
        mr_load_le32(head + ID_AT + 40) != MR_SIDE_CHUNK || mr_load_le32(head + ID_AT + 44) != VERSION) {
        return false;
    }
    memcpy(id->topic_id.bytes, head + ID_AT, 16);
    id->partition = mr_load_le32(head + ID_AT + 16);
    id->size = mr_load_le32(head + ID_AT + 20);
    id->base = (int64_t)mr_load_le64(head + ID_AT + 24);
    id->changed_ns = (int64_t)mr_load_le64(head + ID_AT + 32);
    return true;
}

enum mr_side_fit mr_side_head_fits(const uint8_t *head, uint32_t len, const struct mr_side_id *id)
{
    struct mr_side_id own;
    if (!mr_side_head_load(head, len, &own) || own.size != id->size || own.changed_ns != id->changed_ns) {
        return MR_SIDE_STALE;
    }
    bool is_same = mr_uuid_equal(&own.topic_id, &id->topic_id) && own.partition == id->partition &&
                   own.base == id->base;
    return is_same ? MR_SIDE_FITS : MR_SIDE_FOREIGN;
}

void mr_side_block_set(uint8_t block[MR_SIDE_BLOCK], uint32_t index, uint32_t sum)
{
    mr_store_le32(block + 4 + (size_t)index * 4, sum);
}

uint32_t mr_side_block_get(const uint8_t *block, uint32_t index)
{
    return mr_load_le32(block + 4 + (size_t)index * 4);
}

/* A chunk's number has 17 bits: a block's sum begins elsewhere. */
static uint32_t block_sum(uint32_t seed, uint32_t number, const uint8_t *block)
{
    return mr_crc32c(seeded(seed, ~number), block + 4, MR_SIDE_BLOCK - 4);
}

void mr_side_block_seal(uint32_t seed, uint32_t number, uint8_t block[MR_SIDE_BLOCK])
{
    mr_store_le32(block, block_sum(seed, number, block));
}

bool mr_side_block_is_whole(uint32_t seed, uint32_t number, const uint8_t *block, uint32_t len)
{
    return len == MR_SIDE_BLOCK && mr_load_le32(block) == block_sum(seed, number, block);
}
