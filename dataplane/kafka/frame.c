/*
 * frame: lengths before messages.
 */
#include "millrace/kafka/frame.h"

#include "millrace/base/bytes.h"

enum mr_err mr_frame_check(const struct mr_chain *chain, uint32_t body_max, uint32_t *body)
{
    *body = 0;
    if (chain->bytes < MR_FRAME_PREFIX) {
        return MR_AGAIN;
    }
    uint8_t prefix[MR_FRAME_PREFIX];
    mr_chain_copy(chain, 0, prefix, sizeof prefix);
    uint32_t len = mr_load_be32(prefix);
    if (len == 0 || len > INT32_MAX) {
        return MR_ERR_MALFORMED;
    }
    if (len > body_max) {
        return MR_ERR_TOO_LARGE;
    }
    *body = len;
    return chain->bytes - MR_FRAME_PREFIX < len ? MR_AGAIN : MR_OK;
}

void mr_frame_reader(const struct mr_chain *chain, uint32_t body, struct mr_reader *reader)
{
    mr_assert(chain->bytes >= MR_FRAME_PREFIX && body <= chain->bytes - MR_FRAME_PREFIX);
    struct mr_chain frame = *chain;
    frame.bytes = MR_FRAME_PREFIX + body;
    mr_reader_init(reader, &frame);
    enum mr_err err = mr_reader_skip(reader, MR_FRAME_PREFIX);
    mr_assert(err == MR_OK);
}

uint8_t *mr_frame_begin(struct mr_writer *writer)
{
    mr_assert(writer->bytes == 0);
    return mr_writer_reserve(writer, MR_FRAME_PREFIX);
}

enum mr_err mr_frame_end(struct mr_writer *writer, uint8_t *prefix)
{
    mr_assert(writer->bytes >= MR_FRAME_PREFIX);
    uint64_t body = writer->bytes - MR_FRAME_PREFIX;
    if (body > INT32_MAX) {
        return MR_ERR_TOO_LARGE;
    }
    mr_store_be32(prefix, (uint32_t)body);
    return MR_OK;
}
