#include "load_storm.h"

#include "millrace/base/time.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PLACES 1024u /* connections under way */

/* ApiVersions 0, correlation 0, no client id. Its answer: length, correlation, error, and what nobody reads. */
static const uint8_t question[] = {0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
#define ANSWER_HEAD 10u

enum step {
    CONNECT,
    SEND,
    RECEIVE,
};

struct visit {
    struct mr_load_op     op;
    struct mr_load_storm *storm;
    struct visit         *next_free;
    uint64_t              intended_ns;
    int                   fd; /* -1: none */
    enum step             step;
    uint8_t               answer[1024];
};

struct mr_load_storm {
    struct mr_load_worker  *worker;
    double                  per_s;
    struct mr_load_schedule schedule;
    struct sockaddr_storage to;
    socklen_t               to_len;
    struct visit           *free_list;
    struct visit            visits[PLACES];
};

static void leave(struct visit *visit)
{
    struct linger at_once = {.l_onoff = 1};
    if (visit->fd >= 0) {
        (void)setsockopt(visit->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(visit->fd);
    }
    visit->fd = -1;
    visit->next_free = visit->storm->free_list;
    visit->storm->free_list = visit;
}

static void give_up(struct visit *visit, const char *what, int err)
{
    struct mr_load_worker *worker = visit->storm->worker;
    if (worker->error[0] == '\0') {
        snprintf(worker->error, sizeof worker->error, "storm: %s: %s", what, err == 0 ? "closed by the broker" : strerror(err));
    }
    mr_load_count(&worker->counts.errors, 1);
    leave(visit);
}

static void begin_step(struct visit *visit, enum step step)
{
    struct mr_load_storm *storm = visit->storm;
    struct io_uring_sqe  *sqe = mr_load_loop_sqe(&storm->worker->loop);
    visit->step = step;
    switch (step) {
    case CONNECT:
        io_uring_prep_connect(sqe, visit->fd, (struct sockaddr *)&storm->to, storm->to_len);
        break;
    case SEND:
        io_uring_prep_send(sqe, visit->fd, question, sizeof question, MSG_NOSIGNAL);
        break;
    case RECEIVE:
        io_uring_prep_recv(sqe, visit->fd, visit->answer, sizeof visit->answer, 0);
        break;
    }
    io_uring_sqe_set_data(sqe, &visit->op);
}

static void take_answer(struct visit *visit, uint32_t len)
{
    struct mr_load_worker    *worker = visit->storm->worker;
    const struct mr_load_run *run = worker->run;
    if (len < ANSWER_HEAD || visit->answer[8] != 0 || visit->answer[9] != 0) {
        give_up(visit, "not an answer to ApiVersions", EPROTO);
        return;
    }
    if (visit->intended_ns >= run->measure_ns && visit->intended_ns < run->end_ns) {
        mr_load_hist_record(&worker->connected, (worker->loop.now_ns - visit->intended_ns) / MR_NS_PER_US);
    }
    mr_load_count(&worker->counts.connects, 1);
    leave(visit);
}

static void on_done(struct mr_load_op *op, int result)
{
    static const char *const what[] = {"connect", "send", "receive"};
    struct visit            *visit = op->owner;
    if (result < 0 || (result == 0 && visit->step != CONNECT)) {
        give_up(visit, what[visit->step], -result);
    } else if (visit->step == RECEIVE) {
        take_answer(visit, (uint32_t)result);
    } else {
        begin_step(visit, visit->step == CONNECT ? SEND : RECEIVE);
    }
}

struct mr_load_storm *mr_load_storm_open(struct mr_load_worker *worker, double per_s)
{
    struct mr_load_storm *storm = calloc(1, sizeof *storm);
    if (storm == NULL) {
        snprintf(worker->error, sizeof worker->error, "out of memory");
        return NULL;
    }
    *storm = (struct mr_load_storm){.worker = worker, .per_s = per_s, .to_len = sizeof storm->to};
    int fd = mr_load_wire_connect(worker->run->options->broker, worker->error, sizeof worker->error);
    if (fd < 0 || getpeername(fd, (struct sockaddr *)&storm->to, &storm->to_len) != 0) {
        free(storm);
        return NULL;
    }
    close(fd);
    for (uint32_t at = PLACES; at-- > 0;) {
        struct visit *visit = &storm->visits[at];
        *visit = (struct visit){.storm = storm, .fd = -1, .next_free = storm->free_list};
        visit->op = (struct mr_load_op){.kind = MR_LOAD_OP_OTHER, .owner = visit, .done = on_done};
        storm->free_list = visit;
    }
    return storm;
}

void mr_load_storm_start(struct mr_load_storm *storm)
{
    const struct mr_load_run *run = storm->worker->run;
    mr_load_schedule_init(&storm->schedule, run->start_ns, storm->per_s, 0, 1, run->options->arrivals == MR_LOAD_POISSON,
                          run->options->seed ^ storm->worker->index);
}

static void visit_one(struct mr_load_storm *storm, uint64_t intended_ns)
{
    struct visit *visit = storm->free_list;
    storm->free_list = visit->next_free;
    visit->intended_ns = intended_ns;
    visit->fd = socket(storm->to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (visit->fd < 0) {
        give_up(visit, "socket", errno);
        return;
    }
    begin_step(visit, CONNECT);
}

uint64_t mr_load_storm_turn(struct mr_load_storm *storm)
{
    struct mr_load_worker *worker = storm->worker;
    if (atomic_load_explicit(&worker->run->is_stopping, memory_order_relaxed)) {
        return MR_NEVER;
    }
    uint64_t due_ns;
    while (storm->free_list != NULL &&
           (due_ns = mr_load_schedule_due_ns(&storm->schedule, worker->loop.now_ns)) <= worker->loop.now_ns) {
        visit_one(storm, due_ns);
        mr_load_schedule_next(&storm->schedule);
    }
    return storm->free_list == NULL ? MR_NEVER : mr_load_schedule_due_ns(&storm->schedule, worker->loop.now_ns);
}

void mr_load_storm_close(struct mr_load_storm *storm)
{
    for (uint32_t at = 0; storm != NULL && at < PLACES; at++) {
        if (storm->visits[at].fd >= 0) {
            leave(&storm->visits[at]);
        }
    }
    free(storm);
}
