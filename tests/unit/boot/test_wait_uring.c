/*
 * wait_uring: completions are sorted by tag, a deadline ends the wait, a doorbell from another thread ends
 * it too and is never lost (two threads hand a counter to and fro; a lost ring would hang the test).
 */
#include "boot/wait_uring.h"
#include "test.h"

#include <liburing.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define ENTRIES 64u

struct side {
    struct mr_doorbell bell;
    struct mr_wait *wait;
    _Atomic uint32_t mail;
    struct side *other;
    uint32_t rounds;
};

static uint64_t mono_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * MR_NS_PER_S + (uint64_t)now.tv_nsec;
}

static struct mr_wait *make_wait(struct mr_doorbell *bell)
{
    int os_errno = 0;
    void *memory = aligned_alloc(64, (mr_wait_uring_bytes(ENTRIES) + 63) & ~(size_t)63);
    struct mr_wait *wait = mr_wait_uring_init(memory, ENTRIES, bell, &os_errno);
    assert_non_null(wait);
    return wait;
}

static void test_wait_completions_arrive_by_tag_in_order(void **state)
{
    struct mr_doorbell bell;
    struct mr_completion out[200];
    (void)state;
    assert_true(mr_doorbell_init(&bell));
    struct mr_wait *wait = make_wait(&bell);
    /* More than the ring has room for: mr_wait_sqe submits by itself. */
    for (uint64_t index = 0; index < 150; index++) {
        struct io_uring_sqe *sqe = mr_wait_sqe(wait);
        io_uring_prep_nop(sqe);
        io_uring_sqe_set_data64(
            sqe, (index << 3) | (index % 2 == 0 ? MR_WAIT_TAG_DISK : MR_WAIT_TAG_TRANSPORT));
    }
    uint32_t disk = 0;
    uint32_t transport = 0;
    while (disk + transport < 150) {
        mr_wait(wait, 0);
        uint32_t got = mr_wait_take(wait, MR_WAIT_TAG_DISK, out, 200);
        for (uint32_t index = 0; index < got; index++) {
            assert_int_equal(out[index].user_data >> 3, 2 * (disk + index));
        }
        disk += got;
        got = mr_wait_take(wait, MR_WAIT_TAG_TRANSPORT, out, 7);
        for (uint32_t index = 0; index < got; index++) {
            assert_int_equal(out[index].user_data >> 3, 2 * (transport + index) + 1);
        }
        transport += got;
    }
    assert_int_equal(disk, 75);
    assert_int_equal(mr_wait_ready(wait, MR_WAIT_TAG_DISK), 0);
    mr_wait_uring_deinit(wait);
    free(wait);
    mr_doorbell_deinit(&bell);
}

static void test_wait_deadline_ends_the_sleep_not_before(void **state)
{
    struct mr_doorbell bell;
    (void)state;
    assert_true(mr_doorbell_init(&bell));
    struct mr_wait *wait = make_wait(&bell);
    uint64_t until_ns = mono_ns() + 3 * MR_NS_PER_MS;
    while (mono_ns() < until_ns) {
        mr_wait(wait, until_ns);
    }
    mr_wait(wait, 1); /* long over: returns */
    mr_wait_uring_deinit(wait);
    free(wait);
    mr_doorbell_deinit(&bell);
}

static void test_doorbell_silent_while_awake(void **state)
{
    struct mr_doorbell bell;
    uint64_t count = 0;
    (void)state;
    assert_true(mr_doorbell_init(&bell));
    mr_doorbell_ring(&bell); /* nobody sleeps: no system call, nothing to be read */
    mr_doorbell_sleep(&bell);
    mr_doorbell_ring(&bell);
    mr_doorbell_ring(&bell); /* the sleeper is woken already */
    assert_int_equal(read(bell.event_fd, &count, sizeof count), sizeof count);
    assert_int_equal(count, 1);
    mr_doorbell_deinit(&bell);
}

static void *side_main(void *argument)
{
    struct side *side = argument;
    side->wait = make_wait(&side->bell);
    for (uint32_t round = 0; round < side->rounds; round++) {
        while (atomic_load_explicit(&side->mail, memory_order_acquire) == round) {
            mr_doorbell_sleep(&side->bell);
            if (atomic_load_explicit(&side->mail, memory_order_acquire) == round) {
                mr_wait(side->wait, MR_NEVER);
            }
            mr_doorbell_awake(&side->bell);
        }
        atomic_fetch_add_explicit(&side->other->mail, 1, memory_order_release);
        mr_doorbell_ring(&side->other->bell);
    }
    mr_wait_uring_deinit(side->wait);
    free(side->wait);
    return NULL;
}

static void test_doorbell_between_two_threads_is_never_lost(void **state)
{
    static struct side sides[2];
    pthread_t threads[2];
    (void)state;
    for (int index = 0; index < 2; index++) {
        assert_true(mr_doorbell_init(&sides[index].bell));
        sides[index].other = &sides[1 - index];
        sides[index].rounds = 20000;
    }
    atomic_store(&sides[0].mail, 1); /* the first serve */
    for (int index = 0; index < 2; index++) {
        assert_int_equal(pthread_create(&threads[index], NULL, side_main, &sides[index]), 0);
    }
    for (int index = 0; index < 2; index++) {
        assert_int_equal(pthread_join(threads[index], NULL), 0);
        mr_doorbell_deinit(&sides[index].bell);
    }
    assert_int_equal(atomic_load(&sides[1].mail), 20000);
}

int main(void)
{
    char why[1024];
    if (!mr_wait_uring_probe(why, sizeof why)) {
        print_message("SKIPPED: %s\n", why);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wait_completions_arrive_by_tag_in_order),
        cmocka_unit_test(test_wait_deadline_ends_the_sleep_not_before),
        cmocka_unit_test(test_doorbell_silent_while_awake),
        cmocka_unit_test(test_doorbell_between_two_threads_is_never_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
