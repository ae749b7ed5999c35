/*
 * fuzz_records: any bytes as the records of a batch. batch_check, which sees them in spans, and batch_iter, which
 * sees them in one piece, must agree on whether they are records.
 *
 * The input: the number of records (u8), where the bytes are cut (u8), then the records.
 */
#include "millrace/batch.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROOM (1u << 18)

static struct mr_arena scratch;

static bool iterates(const uint8_t *bytes, uint32_t len)
{
    struct mr_record_iter iter;
    struct mr_record      record;
    enum mr_err           err = mr_record_iter_init(&iter, bytes, len, NULL);
    int64_t               count = 0;
    while (err == MR_OK) {
        err = mr_record_iter_next(&iter, &record);
        if (err == MR_OK && record.offset != count++) {
            return false; /* deltas 0, 1, 2...: the iterator does not ask for them */
        }
    }
    return err == MR_ERR_NOT_FOUND;
}

static bool checks(const uint8_t *bytes, uint32_t len, uint32_t cut)
{
    struct mr_log_config    config = {.max_message_bytes = ROOM,
                                      .timestamp_before_max_ms = INT64_MAX,
                                      .timestamp_after_max_ms = INT64_MAX,
                                      .compression_type = -1};
    struct mr_batch_rules   rules = {.config = &config, .produce_version = 12};
    struct mr_span          spans[] = {{bytes, 40}, {bytes + 40, cut - 40}, {bytes + cut, len - cut}};
    struct mr_chain         chain = {.spans = spans, .span_count = 3, .bytes = len};
    struct mr_batch         batch;
    struct mr_batch_refusal refusal;
    mr_arena_reset(&scratch);
    return mr_batch_check(&chain, &rules, &scratch, &batch, &refusal) == MR_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (scratch.base == NULL) {
        mr_arena_init(&scratch, malloc(ROOM), ROOM);
    }
    if (size < 3 || size > ROOM / 4 || data[0] == 0) {
        return 0;
    }
    uint32_t        records = (uint32_t)size - 2;
    uint32_t        len = MR_BATCH_HEADER + records;
    uint8_t        *bytes = malloc(len);
    struct mr_batch batch = {.batch_length = (int32_t)(len - MR_BATCH_LENGTH_BIAS),
                             .magic = 2,
                             .last_offset_delta = data[0] - 1,
                             .producer_id = -1,
                             .producer_epoch = -1,
                             .base_sequence = -1,
                             .record_count = data[0]};
    memcpy(bytes + MR_BATCH_HEADER, data + 2, records);
    mr_batch_header_store(&batch, bytes);
    mr_store_be32(bytes + 17, mr_crc32c(0, bytes + 21, len - 21));
    if (iterates(bytes, len) != checks(bytes, len, MR_BATCH_HEADER + data[1] % (records + 1))) {
        abort();
    }
    free(bytes);
    return 0;
}
