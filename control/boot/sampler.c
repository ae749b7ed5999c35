#include "boot/sampler.h"

#include "millrace/base/time.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

bool mr_sampler_init(struct mr_sampler *sampler, uint32_t parts)
{
    sampler->parts = parts;
    sampler->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return sampler->event_fd >= 0 && pthread_mutex_init(&sampler->lock, NULL) == 0;
}

void mr_sampler_done(struct mr_sampler *sampler, uint32_t part, uint64_t number)
{
    uint64_t one = 1;
    atomic_store_explicit(&sampler->done[part], number, memory_order_release);
    ssize_t len = write(sampler->event_fd, &one, sizeof one);
    (void)len; /* full: the asker is awake anyway */
}

static uint64_t mono_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / MR_NS_PER_MS;
}

static bool is_done(const struct mr_sampler *sampler, uint64_t number)
{
    for (uint32_t part = 0; part < sampler->parts; part++) {
        if (atomic_load_explicit(&sampler->done[part], memory_order_acquire) != number) {
            return false;
        }
    }
    return true;
}

bool mr_sampler_take(struct mr_sampler *sampler, void (*wake)(void), uint32_t timeout_ms, struct mr_metrics *out)
{
    (void)pthread_mutex_lock(&sampler->lock);
    uint64_t number = mr_sampler_asked(sampler) + 1;
    uint64_t until_ms = mono_ms() + timeout_ms;
    uint64_t now_ms;
    uint64_t rings;
    atomic_store_explicit(&sampler->asked, number, memory_order_release);
    wake();
    while (!is_done(sampler, number) && (now_ms = mono_ms()) < until_ms) {
        struct pollfd event = {.fd = sampler->event_fd, .events = POLLIN};
        (void)poll(&event, 1, (int)(until_ms - now_ms));
        ssize_t len = read(sampler->event_fd, &rings, sizeof rings);
        (void)len;
    }
    bool is_whole = is_done(sampler, number);
    if (is_whole) {
        *out = sampler->metrics;
    }
    (void)pthread_mutex_unlock(&sampler->lock);
    return is_whole;
}
