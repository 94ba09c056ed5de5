/*
 * The keeper: starts the worker, and starts it again when it dies; when sandboxd is gone it ends
 * the worker and removes the cgroups. Should it die itself, the worker does that (worker.c).
 *
 * It stays so small because it must not fail: sandboxd has no privilege left to start a helper. It
 * is a child subreaper, so a dead worker's inits (killed by their parent-death signal) become its
 * children, and having no child left proves that nothing runs.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "internal.h"

enum {
    SHORT_LIFE_MS = 1000, /* a worker that lived less is started again after a pause */
    PAUSE_MS = 200,
    PRECEDENCE = -10,     /* nice value */
    LAST_WORDS_MS = 5000, /* for the worker to end its slots after sandboxd is gone */
};

/* Starts a worker and hands sandboxd its end of the socket. Returns a pidfd or -1. */
static int start_worker(const struct config *config, uint32_t starts) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -1;
    pid_t keeper = getpid(), pid = fork();
    if (pid == 0) {
        autoclose int parent = sys_pidfd_open(keeper);
        (void)close(config->ctl);
        (void)close(ends[0]);
        if (parent < 0 || getppid() != keeper) /* what was opened may be another by then */
            _exit(1);
        _exit(worker_run(config, ends[1], parent));
    }
    (void)close(ends[1]);
    struct iovec part = {&starts, sizeof starts};
    struct fds fds = {1, {ends[0]}};
    int pidfd = pid < 0 ? -1 : sys_pidfd_open(pid);
    (void)message_send(config->ctl, &part, 1, &fds); /* a closed ctl is seen by poll */
    fds_close(&fds);
    return pidfd;
}

/* Returns once no process of the worker is left. */
static void reap_all(void) {
    while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
        ;
}

/* A killed worker's slots are empty by now; their directories are not removed yet. */
static void remove_slots(const struct config *config) {
    for (int kind = 0; kind < CG_KINDS && config->cgroup[kind]; kind++)
        for (unsigned i = 0; i < config->slots + config->spare + config->warm; i++) {
            char path[4096];
            snprintf(path, sizeof path, "%s/slot-%u", config->cgroup[kind], i);
            (void)rmdir(path); /* most are gone already */
        }
}

/* Says so where somebody reads it: a log that is full must not keep the helper from its end. */
static void complain(const char *what, const char *path, int error) {
    struct pollfd writable = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&writable, 1, 0) > 0)
        fprintf(stderr, "sandbox-helper: %s %s: %s\n", what, path, strerror(error));
}

const char *keeper_lost_parent(const struct config *config) {
    for (int kind = 0; kind < CG_KINDS && config->cgroup[kind]; kind++)
        if (access(config->cgroup[kind], F_OK) < 0)
            return config->cgroup[kind];
    return NULL;
}

/* Only a start makes them. */
static bool cannot_go_on(const struct config *config) {
    const char *lost = keeper_lost_parent(config);
    if (lost)
        complain("the cgroup was removed while it was in use:", lost, errno);
    return lost;
}

void keeper_remove_parents(const struct config *config) {
    for (int kind = 0; kind < CG_KINDS && config->cgroup[kind]; kind++)
        if (rmdir(config->cgroup[kind]) < 0 && errno != ENOENT)
            complain("cannot remove", config->cgroup[kind], errno);
}

/* sandboxd's one message: how-manieth worker hangs. It may come late, and mean the last one.
 * Returns false when sandboxd is gone. */
static bool obey(int ctl, int worker, uint32_t starts) {
    uint32_t hangs;
    ssize_t n = recv(ctl, &hangs, sizeof hangs, MSG_DONTWAIT);
    if (n == sizeof hangs && hangs == starts && worker >= 0)
        (void)sys_pidfd_send_signal(worker, SIGKILL);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Waits until sandboxd goes (true) or the worker dies (false). */
static bool wait_for_end(int ctl, int worker, uint32_t starts) {
    struct pollfd fds[] = {{.fd = ctl, .events = POLLIN}, {.fd = worker, .events = POLLIN}};
    for (;;) {
        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[0].revents && !obey(ctl, worker, starts))
            return true;
        if (fds[1].revents)
            return false;
    }
}

static void end_worker(int worker) {
    struct pollfd ended = {.fd = worker, .events = POLLIN};
    if (poll(&ended, 1, LAST_WORDS_MS) <= 0)
        (void)sys_pidfd_send_signal(worker, SIGKILL);
}

static bool pause_unless_closed(int ctl) {
    struct pollfd closed = {.fd = ctl, .events = POLLIN};
    return poll(&closed, 1, PAUSE_MS) > 0 && !obey(ctl, -1, 0);
}

void keeper_signals(void (*handler)(int)) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        (void)signal(numbers[i], handler);
}

/* The helper before the jobs, so that a busy host neither delays a limit nor a report. A session of
 * its own, as the scheduler groups by session where nobody else does (sched(7), autogroup). */
static void take_precedence(void) {
    (void)setsid();
    (void)setpriority(PRIO_PROCESS, 0, PRECEDENCE); /* needs CAP_SYS_NICE; it works without */
    autoclose int group = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
    char text[8];
    int len = snprintf(text, sizeof text, "%d", PRECEDENCE);
    if (group >= 0 && write(group, text, (size_t)len) < 0)
        return; /* as above */
}

int keeper_run(const struct config *config) {
    bool over = false;
    take_precedence();
    keeper_signals(SIG_IGN);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
        return 1;
    for (uint32_t starts = 1; !over; starts++) {
        uint64_t began = clock_ns(CLOCK_MONOTONIC);
        autoclose int worker = start_worker(config, starts);
        over = worker < 0 || wait_for_end(config->ctl, worker, starts);
        if (over && worker >= 0)
            end_worker(worker);
        reap_all();
        remove_slots(config);
        over = over || cannot_go_on(config);
        if (!over && clock_ns(CLOCK_MONOTONIC) - began < SHORT_LIFE_MS * 1000000ull)
            over = pause_unless_closed(config->ctl);
    }
    keeper_remove_parents(config);
    return 0;
}
