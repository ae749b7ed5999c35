/* disk_uring: every operation on a real directory, through the ring, the helper and the direct way. */
#include "test.h"

#include "millrace/storage.h"
#include "millrace/wait.h"

#include <liburing.h>
#include <stdalign.h>
#include <unistd.h>

/* The least wait there is; the real one lies in another plane. */
struct mr_wait {
    struct io_uring      ring;
    struct mr_completion taken[64];
    uint32_t             count;
};

struct io_uring *mr_wait_ring(struct mr_wait *wait)
{
    return &wait->ring;
}

struct io_uring_sqe *mr_wait_sqe(struct mr_wait *wait)
{
    return io_uring_get_sqe(&wait->ring);
}

uint32_t mr_wait_ready(const struct mr_wait *wait, enum mr_wait_tag tag)
{
    return tag == MR_WAIT_TAG_DISK ? wait->count : 0;
}

uint32_t mr_wait_take(struct mr_wait *wait, enum mr_wait_tag tag, struct mr_completion *out, uint32_t max)
{
    uint32_t count = mr_wait_ready(wait, tag) < max ? mr_wait_ready(wait, tag) : max;
    memcpy(out, wait->taken, count * sizeof *out);
    wait->count -= count;
    memmove(wait->taken, wait->taken + count, wait->count * sizeof *out);
    return count;
}

void mr_wait(struct mr_wait *wait, uint64_t until_ns)
{
    io_uring_submit_and_wait(&wait->ring, until_ns == 0 ? 0 : 1);
    struct io_uring_cqe *cqe;
    while (wait->count < 64 && io_uring_peek_cqe(&wait->ring, &cqe) == 0) {
        wait->taken[wait->count++] =
            (struct mr_completion){.user_data = cqe->user_data, .res = cqe->res, .flags = cqe->flags};
        io_uring_cqe_seen(&wait->ring, cqe);
    }
}

static struct mr_wait  wait_of_test;
static struct mr_disk *disk;
static int32_t         dir;

static enum mr_err go(struct mr_disk_op *op, bool is_direct)
{
    struct mr_disk_op *done = NULL;
    if (is_direct) {
        return mr_disk_run(disk, op);
    }
    mr_disk_submit(disk, op);
    while (mr_disk_reap(disk, &done, 1) == 0) {
        disk->ops->wait(disk);
    }
    assert_ptr_equal(done, op);
    assert_int_equal(disk->in_flight, 0);
    return op->err;
}

static void all_operations(bool is_direct, uint32_t background)
{
    alignas(4096) static uint8_t out[8192];
    alignas(4096) static uint8_t in[16384];
    struct mr_disk_op op = {
        .kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE | background, .dir = dir, .name = "a"};
    assert_int_equal(go(&op, is_direct), MR_OK);
    int32_t file = op.file;
    memset(out, 'x', sizeof out);
    op = (struct mr_disk_op){.kind = MR_DISK_WRITE,
                             .flags = MR_DISK_DSYNC | background,
                             .file = file,
                             .buffer = out,
                             .len = 5000,
                             .pos = 100};
    assert_int_equal(go(&op, is_direct), MR_OK);
    assert_int_equal(op.done_bytes, 5000);
    op = (struct mr_disk_op){.kind = MR_DISK_READ, .flags = background, .file = file, .buffer = in, .len = 9000};
    assert_int_equal(go(&op, is_direct), MR_OK);
    assert_int_equal(op.done_bytes, 5100); /* the end of the file */
    assert_int_equal(in[99], 0);
    assert_memory_equal(in + 100, out, 5000);
    static const enum mr_disk_kind plain[] = {MR_DISK_SYNC, MR_DISK_LOCK, MR_DISK_SYNC_FS};
    for (uint32_t index = 0; index < 3; index++) {
        op = (struct mr_disk_op){.kind = plain[index], .flags = background, .file = file};
        assert_int_equal(go(&op, is_direct), MR_OK);
    }
    op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .dir = dir, .name = "a"};
    assert_int_equal(go(&op, is_direct), MR_OK);
    int32_t second = op.file;
    op = (struct mr_disk_op){.kind = MR_DISK_LOCK, .file = second};
    assert_int_equal(go(&op, is_direct), MR_ERR_LOCKED);
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = second};
    assert_int_equal(go(&op, is_direct), MR_OK);
    op = (struct mr_disk_op){.kind = MR_DISK_ALLOCATE, .file = file, .len64 = 10000};
    assert_int_equal(go(&op, is_direct), MR_OK);
    op = (struct mr_disk_op){.kind = MR_DISK_STAT, .dir = dir, .name = "a"};
    assert_int_equal(go(&op, is_direct), MR_OK);
    assert_int_equal(op.size, 10000);
    op = (struct mr_disk_op){.kind = MR_DISK_TRUNCATE, .file = file, .pos = 10};
    assert_int_equal(go(&op, is_direct), MR_OK);
    op = (struct mr_disk_op){.kind = MR_DISK_STAT, .file = dir};
    assert_int_equal(go(&op, is_direct), MR_OK);
    assert_true(op.is_directory && op.space_free_bytes > 0);
    op = (struct mr_disk_op){.kind = MR_DISK_MKDIR, .dir = dir, .name = "d"};
    assert_int_equal(go(&op, is_direct), MR_OK);
    assert_int_equal(go(&op, is_direct), MR_ERR_EXISTS);
    op = (struct mr_disk_op){.kind = MR_DISK_RENAME, .dir = dir, .name = "a", .new_name = "d/b"};
    assert_int_equal(go(&op, is_direct), MR_OK);
    op = (struct mr_disk_op){.kind = MR_DISK_LIST, .file = dir, .buffer = in, .len = sizeof in};
    assert_int_equal(go(&op, is_direct), MR_OK);
    const struct mr_disk_list_entry *entry = (const struct mr_disk_list_entry *)(const void *)in;
    assert_int_equal(op.done_bytes, entry->entry_bytes);
    assert_string_equal(entry->name, "d");
    assert_true(entry->is_directory);
    op = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .flags = MR_DISK_DIRECTORY, .dir = dir, .name = "d"};
    assert_int_equal(go(&op, is_direct), MR_ERR_EXISTS);
    op = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .dir = dir, .name = "d/b"};
    assert_int_equal(go(&op, is_direct), MR_OK);
    op = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .flags = MR_DISK_DIRECTORY, .dir = dir, .name = "d"};
    assert_int_equal(go(&op, is_direct), MR_OK);
    op = (struct mr_disk_op){.kind = MR_DISK_SYNC_DIR, .file = dir};
    assert_int_equal(go(&op, is_direct), MR_OK);
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file};
    assert_int_equal(go(&op, is_direct), MR_OK);
    op = (struct mr_disk_op){.kind = MR_DISK_OPEN, .dir = dir, .name = "none"};
    assert_int_equal(go(&op, is_direct), MR_ERR_NOT_FOUND);
}

/* A write of four pieces of which the kernel says `done` bytes first. The rest must come from the right places. */
static void write_in_pieces(int32_t file, uint32_t done)
{
    alignas(4096) static uint8_t out[5 * 4096];
    alignas(4096) static uint8_t in[5 * 4096];
    static const uint32_t        lens[] = {4096, 8192, 4096, 4096};
    struct mr_disk_piece         pieces[4];
    struct mr_disk_op           *reaped = NULL;
    for (uint32_t at = 0; at < sizeof out; at++) {
        out[at] = (uint8_t)(at / 512 * 7 + at + done);
    }
    for (uint32_t index = 0, at = 0; index < 4; at += lens[index++]) {
        pieces[index] = (struct mr_disk_piece){.data = out + at, .len = lens[index]};
    }
    struct mr_disk_op op = {.kind = MR_DISK_WRITE, .flags = MR_DISK_DSYNC, .file = file, .len = sizeof out,
                            .pos = 4096, .pieces = pieces, .piece_count = 4};
    mr_disk_submit(disk, &op);
    while (wait_of_test.count == 0) {
        mr_wait(&wait_of_test, MR_NEVER);
    }
    assert_int_equal(wait_of_test.taken[0].res, sizeof out);
    wait_of_test.taken[0].res = (int32_t)done;
    while (mr_disk_reap(disk, &reaped, 1) == 0) {
        disk->ops->wait(disk);
    }
    assert_int_equal(op.err, MR_OK);
    assert_int_equal(op.done_bytes, sizeof out);
    op = (struct mr_disk_op){.kind = MR_DISK_READ, .file = file, .buffer = in, .len = sizeof in, .pos = 4096};
    assert_int_equal(go(&op, false), MR_OK);
    assert_memory_equal(in, out, sizeof out);
}

static void pieces_short_and_whole(void)
{
    static const uint32_t done[] = {512, 4096, 4096 + 4096, 4096 + 4608, 12288, 5 * 4096 - 1, 5 * 4096};
    struct mr_disk_op     op = {.kind = MR_DISK_OPEN, .flags = MR_DISK_CREATE, .dir = dir, .name = "p"};
    assert_int_equal(go(&op, true), MR_OK);
    int32_t file = op.file;
    for (uint32_t index = 0; index < sizeof done / sizeof done[0]; index++) {
        write_in_pieces(file, done[index]);
    }
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file};
    assert_int_equal(go(&op, true), MR_OK);
    op = (struct mr_disk_op){.kind = MR_DISK_UNLINK, .dir = dir, .name = "p"};
    assert_int_equal(go(&op, true), MR_OK);
}

/* Whoever reaps takes what has arrived for the other, too, and the other finds it: from the ring and from a helper. */
static void two_on_one_ring(void)
{
    struct mr_disk    *other = mr_disk_uring_init(calloc(1, mr_disk_uring_bytes()), &wait_of_test);
    struct mr_disk_op *done = NULL;
    static const uint32_t flags[] = {0, MR_DISK_BACKGROUND};
    for (uint32_t index = 0; index < 2; index++) {
        struct mr_disk_op theirs = {.kind = MR_DISK_SYNC, .flags = flags[index], .file = dir};
        mr_disk_submit(other, &theirs);
        assert_false(mr_disk_uring_is_ready(other));
        while (!mr_disk_uring_is_ready(other)) {
            mr_wait(&wait_of_test, MR_NEVER);
            assert_int_equal(mr_disk_reap(disk, &done, 1), 0);
        }
        struct mr_disk_op ours = {.kind = MR_DISK_SYNC, .flags = flags[index], .file = dir};
        assert_int_equal(go(&ours, false), MR_OK);
        assert_int_equal(mr_disk_reap(other, &done, 1), 1);
        assert_ptr_equal(done, &theirs);
        assert_int_equal(theirs.err, MR_OK);
        assert_int_equal(other->in_flight, 0);
    }
    mr_disk_uring_deinit(other);
    free(other);
}

static void test_disk_uring_every_operation_each_way(void **state)
{
    (void)state;
    char  path[] = "/tmp/millrace-disk-XXXXXX";
    void *memory = calloc(1, mr_disk_uring_bytes());
    assert_non_null(mkdtemp(path));
    if (io_uring_queue_init(64, &wait_of_test.ring, 0) != 0) {
        rmdir(path);
        free(memory);
        skip();
    }
    disk = mr_disk_uring_init(memory, &wait_of_test);
    struct mr_disk_op op = {
        .kind = MR_DISK_OPEN, .flags = MR_DISK_DIRECTORY, .dir = MR_DISK_ROOT, .name = path};
    assert_int_equal(go(&op, true), MR_OK);
    dir = op.file;
    all_operations(true, 0);
    all_operations(false, 0);
    all_operations(false, MR_DISK_BACKGROUND);
    pieces_short_and_whole();
    two_on_one_ring();
    op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = dir};
    assert_int_equal(go(&op, true), MR_OK);
    mr_disk_uring_deinit(disk);
    io_uring_queue_exit(&wait_of_test.ring);
    free(memory);
    assert_int_equal(rmdir(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_disk_uring_every_operation_each_way)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
