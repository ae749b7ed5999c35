/* frame: lengths out of chains that are cut at every place, and lengths that must be refused. */
#include "test.h"

#include "millrace/kafka/frame.h"

static struct mr_chain chain_of(struct mr_span *spans, uint32_t count)
{
    struct mr_chain chain = {.spans = spans, .span_count = count};
    for (uint32_t index = 0; index < count; index++) {
        chain.bytes += spans[index].len;
    }
    return chain;
}

static void test_frame_cut_anywhere_is_found_when_whole(void **state)
{
    (void)state;
    static const uint8_t stream[] = {0, 0, 0, 5, 'h', 'e', 'l', 'l', 'o', 0, 0, 0, 9};
    for (uint32_t have = 0; have <= sizeof stream; have++) {
        for (uint32_t cut = 0; cut <= have; cut++) {
            struct mr_span  spans[3] = {{.data = stream, .len = cut},
                                        {.data = stream, .len = 0},
                                        {.data = stream + cut, .len = have - cut}};
            struct mr_chain chain = chain_of(spans, 3);
            uint32_t        body;
            enum mr_err     err = mr_frame_check(&chain, 100, &body);
            assert_int_equal(body, have >= 4 ? 5 : 0);
            if (have < 9) {
                assert_int_equal(err, MR_AGAIN);
                continue;
            }
            assert_int_equal(err, MR_OK);
            struct mr_reader reader;
            struct mr_arena  scratch;
            uint8_t          memory[256];
            struct mr_chain  got;
            char             text[5];
            mr_arena_init(&scratch, memory, sizeof memory);
            mr_frame_reader(&chain, body, &reader);
            assert_int_equal(mr_reader_left(&reader), 5); /* and nothing of the next frame */
            assert_int_equal(mr_reader_chain(&reader, 5, &scratch, &got), MR_OK);
            mr_chain_copy(&got, 0, text, 5);
            assert_memory_equal(text, "hello", 5);
            assert_int_equal(mr_reader_skip(&reader, 1), MR_ERR_TRUNCATED);
        }
    }
}

static enum mr_err check_length(uint32_t length, uint32_t body_max)
{
    uint8_t bytes[4] = {(uint8_t)(length >> 24), (uint8_t)(length >> 16), (uint8_t)(length >> 8),
                        (uint8_t)length};
    struct mr_span  span = {.data = bytes, .len = 4};
    struct mr_chain chain = chain_of(&span, 1);
    uint32_t        body;
    enum mr_err     err = mr_frame_check(&chain, body_max, &body);
    assert_true(err == MR_AGAIN || body == 0);
    return err;
}

static void test_frame_length_out_of_range_is_refused_at_once(void **state)
{
    (void)state;
    assert_int_equal(check_length(1, 100), MR_AGAIN);
    assert_int_equal(check_length(100, 100), MR_AGAIN);
    assert_int_equal(check_length(101, 100), MR_ERR_TOO_LARGE);
    assert_int_equal(check_length(0, 100), MR_ERR_MALFORMED);
    assert_int_equal(check_length(0x80000000u, UINT32_MAX), MR_ERR_MALFORMED);
    assert_int_equal(check_length(UINT32_MAX, UINT32_MAX), MR_ERR_MALFORMED);
    assert_int_equal(check_length(0x47455420u, 100u << 20), MR_ERR_TOO_LARGE); /* "GET " */
    assert_int_equal(check_length(0x16030100u, 100u << 20), MR_ERR_TOO_LARGE); /* a TLS hello */
}

static void test_frame_begin_and_end_write_the_length_of_copies_and_chains(void **state)
{
    (void)state;
    uint8_t          memory[1024];
    struct mr_span   spans[8];
    struct mr_span   part = {.data = (const uint8_t *)"records", .len = 7};
    struct mr_chain  chain = chain_of(&part, 1);
    struct mr_arena  scratch;
    struct mr_writer writer;
    mr_arena_init(&scratch, memory, sizeof memory);
    mr_writer_init(&writer, &scratch, spans, 8);
    uint8_t *prefix = mr_frame_begin(&writer);
    assert_non_null(prefix);
    assert_int_equal(mr_writer_int32(&writer, 42), MR_OK);
    assert_int_equal(mr_writer_chain(&writer, &chain), MR_OK);
    assert_int_equal(mr_writer_int16(&writer, 1), MR_OK);
    assert_int_equal(mr_frame_end(&writer, prefix), MR_OK);
    struct mr_chain frame = mr_writer_finish(&writer);
    uint8_t         bytes[17];
    assert_int_equal(frame.bytes, sizeof bytes);
    mr_chain_copy(&frame, 0, bytes, sizeof bytes);
    assert_memory_equal(bytes, "\0\0\0\x0d\0\0\0\x2arecords\0\x01", sizeof bytes);
    assert_ptr_equal(frame.spans[1].data, part.data);
}

static void test_frame_end_refuses_what_no_length_can_say(void **state)
{
    (void)state;
    uint8_t          memory[64];
    struct mr_span   spans[2];
    struct mr_span   huge = {.data = memory, .len = (uint32_t)INT32_MAX + 1u};
    struct mr_chain  chain = chain_of(&huge, 1);
    struct mr_arena  scratch;
    struct mr_writer writer;
    mr_arena_init(&scratch, memory, sizeof memory);
    mr_writer_init(&writer, &scratch, spans, 2);
    uint8_t *prefix = mr_frame_begin(&writer);
    assert_non_null(prefix);
    assert_int_equal(mr_writer_chain(&writer, &chain), MR_OK);
    assert_int_equal(mr_frame_end(&writer, prefix), MR_ERR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_cut_anywhere_is_found_when_whole),
        cmocka_unit_test(test_frame_length_out_of_range_is_refused_at_once),
        cmocka_unit_test(test_frame_begin_and_end_write_the_length_of_copies_and_chains),
        cmocka_unit_test(test_frame_end_refuses_what_no_length_can_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
