/*
 * The worker: one epoll loop, all the privilege.
 *
 * It sleeps until sandboxd, a slot, or a deadline wants something. Nothing in the loop waits for a
 * job or for the making of a slot, so its length bounds how late a limit can be: some tens of
 * microseconds for each event, and for a result of 100 MiB some milliseconds (output.c). What can
 * wait for a job, reading its pipes, is done by threads (reader.c).
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "worker.h"

enum {
    MAX_EVENTS = 64,
    SEND_BUFFER = 8 << 20,  /* room for a full inline result of every slot at once */
    STUCK_DAEMON_MS = 5000, /* with that much unread, sandboxd is not coming back */
};

int worker_watch(struct worker *worker, int fd, uint32_t events, enum source source,
                 const struct slot *slot) {
    struct epoll_event event = {.events = events};
    event.data.u64 = source;
    if (slot)
        event.data.u64 |= (uint64_t)slot->index << 8 | (uint64_t)slot->generation << 32;
    return epoll_ctl(worker->epoll, EPOLL_CTL_ADD, fd, &event);
}

void worker_unwatch(struct worker *worker, int fd) {
    if (fd >= 0)
        (void)epoll_ctl(worker->epoll, EPOLL_CTL_DEL, fd, NULL);
}

void worker_send(struct worker *worker, const struct iovec *parts, size_t count,
                 const struct fds *fds) {
    while (message_send(worker->sock, parts, count, fds) < 0) {
        struct pollfd writable = {.fd = worker->sock, .events = POLLOUT};
        if (errno != EAGAIN || poll(&writable, 1, STUCK_DAEMON_MS) <= 0) {
            worker->stopping = true; /* no one is there to be told */
            return;
        }
    }
}

static void say_hello(struct worker *worker) {
    struct sbx_hello hello = {.type = SBX_MSG_HELLO,
                              .abi = SBX_ABI,
                              .slots = worker->slot_count,
                              .cgroup_version = worker->config->cgroup_version,
                              .recycles = worker->recycles,
                              .pid = (uint32_t)getpid()};
    struct iovec part = {&hello, sizeof hello};
    worker_send(worker, &part, 1, NULL);
}

/* ---- messages of sandboxd ---- */

static void on_job(struct worker *worker, struct waiting *waiting, size_t len) {
    if (!waiting->job.job_id) {
        close_aside(&waiting->fds);
        worker->stopping = true; /* sandboxd does not keep its side: 0 is nobody's, as in held_by */
        return;
    }
    waiting->job.blob_len = (uint32_t)(len - sizeof waiting->job);
    if (waiting->job.limits.output_bytes > worker->config->output_max)
        waiting->job.limits.output_bytes = worker->config->output_max;
    queue_add(worker, waiting);
}

static struct slot *find_job(struct worker *worker, uint64_t job_id) {
    for (unsigned i = 0; i < worker->slot_count; i++) {
        struct slot *slot = &worker->slot[i];
        if (slot->active && slot->job.job_id == job_id)
            return slot;
    }
    return NULL;
}

static void on_kill(struct worker *worker, const struct sbx_control *control) {
    struct waiting *waiting = queue_find(worker, control->job_id);
    struct slot *slot = find_job(worker, control->job_id);
    if (waiting) {
        queue_drop(waiting);
        result_send_unstarted(worker, &waiting->job, control->value, (struct fault){0, 0});
    } else if (slot) {
        slot_kill_job(worker, slot, control->value);
    } /* else it has ended, and its result is on the way */
}

static void on_signal(struct worker *worker, const struct sbx_control *control) {
    struct slot *slot = find_job(worker, control->job_id);
    if (slot)
        slot_signal_job(slot, (int)control->value);
}

static void on_release(struct worker *worker, const struct sbx_control *control) {
    for (unsigned i = 0; control->job_id && i < worker->slot_count; i++)
        if (worker->slot[i].held_by == control->job_id && !worker->slot[i].active)
            slot_retire(worker, &worker->slot[i]);
}

static void on_stats(struct worker *worker) {
    struct sbx_stats *stats = &worker->stats;
    stats->type = SBX_MSG_STATS_IS;
    stats->ready = stats->running = stats->preparing = stats->held = stats->waiting = 0;
    stats->warm = 0;
    stats->lost = worker->lost;
    for (unsigned i = 0; i < worker->slot_count; i++) {
        const struct slot *slot = &worker->slot[i];
        stats->warm += slot->warm && slot->state != SLOT_DYING;
        if (slot->active)
            stats->running++;
        else if (slot->held_by)
            stats->held++;
        else if (slot->state == SLOT_IDLE)
            stats->ready++;
        else if (!slot->lost)
            stats->preparing++;
    }
    for (unsigned i = 0; i < worker->waiting_count; i++)
        stats->waiting += worker->waiting[i].used;
    struct iovec part = {stats, sizeof *stats};
    worker_send(worker, &part, 1, NULL);
}

static struct environment *find_environment(struct worker *worker, uint64_t id) {
    for (unsigned i = 0; i < SBX_MAX_ROOTS; i++)
        if (worker->environment[i].id == id)
            return &worker->environment[i];
    return NULL;
}

int worker_root(const struct worker *worker, uint64_t id) {
    for (unsigned i = 0; id && i < SBX_MAX_ROOTS; i++)
        if (worker->environment[i].id == id)
            return worker->environment[i].directory;
    return -1;
}

static void on_root(struct worker *worker, const struct sbx_control *control, struct fds *fds) {
    struct environment *place = find_environment(worker, 0);
    if (!place || fds->count != 1 || !control->job_id) {
        worker->stopping = true; /* sandboxd does not keep its side */
        return;
    }
    *place = (struct environment){control->job_id, take_fd(&fds->fd[0])};
}

static void on_unroot(struct worker *worker, const struct sbx_control *control) {
    struct environment *place = find_environment(worker, control->job_id);
    if (!control->job_id || !place)
        return;
    close_fd(&place->directory);
    place->id = 0;
    for (unsigned i = 0; i < worker->slot_count; i++) {
        struct slot *slot = &worker->slot[i];
        if (slot->root != control->job_id || slot->state == SLOT_BUILDING)
            continue; /* what is being made is given up when it is ready */
        slot->mounts = slot->root = 0;
        slot_retire(worker, slot);
    }
}

static void on_control(struct worker *worker, const struct sbx_control *control, struct fds *fds) {
    if (control->type == SBX_MSG_KILL)
        on_kill(worker, control);
    else if (control->type == SBX_MSG_SIGNAL)
        on_signal(worker, control);
    else if (control->type == SBX_MSG_RELEASE)
        on_release(worker, control);
    else if (control->type == SBX_MSG_STATS)
        on_stats(worker);
    else if (control->type == SBX_MSG_ROOT)
        on_root(worker, control, fds);
    else if (control->type == SBX_MSG_UNROOT)
        on_unroot(worker, control);
}

/* One message; returns false when there is none. Messages are received into a free place of the
 * queue. There is one place more than sandboxd may send jobs at once. */
static bool receive_one(struct worker *worker) {
    struct waiting *place = queue_free(worker);
    if (!place) {
        worker->stopping = true; /* sandboxd does not keep its side: start over */
        return false;
    }
    struct iovec parts[] = {{&place->job, sizeof place->job}, {place->blob, SBX_INLINE_BLOB}};
    ssize_t n = message_receive(worker->sock, parts, 2, &place->fds, NULL, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) {
        worker->stopping = true;
        return false;
    }
    if (place->job.type == SBX_MSG_JOB && n >= (ssize_t)sizeof place->job) {
        on_job(worker, place, (size_t)n);
        return true;
    }
    struct sbx_control control;
    if (n >= (ssize_t)sizeof control) {
        memcpy(&control, &place->job, sizeof control);
        on_control(worker, &control, &place->fds);
    }
    close_aside(&place->fds);
    return true;
}

/* ---- the loop ---- */

static void on_keeper_gone(struct worker *worker) {
    (void)epoll_ctl(worker->epoll, EPOLL_CTL_DEL, worker->keeper, NULL);
    worker->orphaned = worker->stopping = true;
}

static void on_event(struct worker *worker, uint64_t data) {
    enum source source = data & 0xff;
    if (source == FROM_KEEPER) {
        on_keeper_gone(worker);
        return;
    }
    if (source == FROM_DAEMON) {
        while (!worker->stopping && receive_one(worker))
            ;
        return;
    }
    if (source == FROM_READER) {
        slot_end_full(worker);
        return;
    }
    struct slot *slot = &worker->slot[data >> 8 & 0xffffff];
    if (slot->generation == data >> 32) /* else of an earlier life, closed in this same round */
        slot_event(worker, slot, source);
}

static unsigned count_ready(const struct worker *worker) {
    unsigned ready = 0;
    for (unsigned i = 0; i < worker->slot_count; i++)
        ready += worker->slot[i].state == SLOT_IDLE && !worker->slot[i].jobs_run &&
                 !worker->slot[i].for_warm;
    return ready;
}

static uint64_t run_timers(struct worker *worker) {
    uint64_t now = clock_ns(CLOCK_MONOTONIC), next = UINT64_MAX;
    /* Those that are ready may all be of another kind than a job waits for. */
    worker->scarce = worker->wanting || count_ready(worker) < worker->config->slots;
    for (unsigned i = 0; i < worker->slot_count; i++) {
        struct slot *slot = &worker->slot[i];
        uint64_t due = slot_next(worker, slot);
        if (due <= now)
            due = slot_due(worker, slot, now);
        if (due < next && !(worker->stopping && slot->state == SLOT_EMPTY))
            next = due;
    }
    return next;
}

static int wait_for_events(struct worker *worker, struct epoll_event *events, uint64_t next) {
    if (next == UINT64_MAX)
        return epoll_pwait2(worker->epoll, events, MAX_EVENTS, NULL, NULL);
    uint64_t now = clock_ns(CLOCK_MONOTONIC), wait = next > now ? next - now : 0;
    struct timespec timeout = {(time_t)(wait / 1000000000u), (long)(wait % 1000000000u)};
    return epoll_pwait2(worker->epoll, events, MAX_EVENTS, &timeout, NULL);
}

static void loop(struct worker *worker) {
    struct epoll_event events[MAX_EVENTS];
    while (!worker->stopping) {
        queue_run(worker);
        int n = wait_for_events(worker, events, run_timers(worker));
        for (int i = 0; i < n; i++)
            on_event(worker, events[i].data.u64);
    }
}

static bool all_empty(const struct worker *worker) {
    for (unsigned i = 0; i < worker->slot_count; i++)
        if (worker->slot[i].state != SLOT_EMPTY)
            return false;
    return true;
}

/* Kills every slot and waits until each is gone, cgroups and all. */
static void shut_down(struct worker *worker) {
    struct epoll_event events[MAX_EVENTS];
    (void)epoll_ctl(worker->epoll, EPOLL_CTL_DEL, worker->sock, NULL);
    for (unsigned i = 0; i < worker->slot_count; i++)
        slot_retire(worker, &worker->slot[i]);
    while (!all_empty(worker)) {
        int n = wait_for_events(worker, events, run_timers(worker));
        for (int i = 0; i < n; i++)
            on_event(worker, events[i].data.u64);
    }
    for (unsigned i = 0; i < worker->slot_count; i++)
        cgroup_remove(worker->config, i);
}

/* ---- start ---- */

/* Memory that client bytes pass through: no slot's init, a fork of this process, has it. */
static void *private_memory(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || madvise(memory, bytes, MADV_DONTFORK) < 0)
        return NULL;
    return memory;
}

static int make_queue(struct worker *worker) {
    worker->waiting_count = 2 * worker->config->slots + 1;
    worker->waiting = private_memory(worker->waiting_count * sizeof *worker->waiting);
    char *blobs = private_memory((size_t)worker->waiting_count * SBX_INLINE_BLOB);
    if (!worker->waiting || !blobs)
        return -1;
    for (unsigned i = 0; i < worker->waiting_count; i++)
        worker->waiting[i].blob = blobs + (size_t)i * SBX_INLINE_BLOB;
    return 0;
}

static int make_slots(struct worker *worker) {
    const struct config *config = worker->config;
    worker->slot_count = config->slots + config->spare + config->warm;
    worker->slot = calloc(worker->slot_count, sizeof *worker->slot);
    if (!worker->slot)
        return -1;
    for (unsigned i = 0; i < worker->slot_count; i++)
        if (slot_init(&worker->slot[i], config, i) < 0)
            return -1;
    return 0;
}

/* All of the machine's: a job may use those, too, that sandboxd was bound away from. */
static unsigned count_cpus(void) {
    long count = sysconf(_SC_NPROCESSORS_CONF);
    return count < 1 ? 1 : (unsigned)count;
}

/* Which output.c's memory is. The hard limit is the administrator's word, for jobs as well. */
static void allow_large_files(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_FSIZE, &limit);
}

int worker_run(const struct config *config, int sock, int keeper) {
    struct worker worker = {.config = config, .sock = sock, .keeper = keeper, .cpus = count_cpus()};
    const int buffer = SEND_BUFFER;
    const struct rlimit no_core = {1, 1};   /* init.c says why not 0 */
    (void)setrlimit(RLIMIT_CORE, &no_core); /* where the host allows less, so be it */
    allow_large_files();
    /* Needs CAP_NET_ADMIN; without it the default (200 KiB) holds a few results less. */
    (void)setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
    worker.recycles = cgroup_recycles(config);
    worker.epoll = epoll_create1(EPOLL_CLOEXEC);
    worker.full = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker.epoll < 0 || worker.full < 0 || fcntl(sock, F_SETFL, O_NONBLOCK) < 0 ||
        make_queue(&worker) < 0 || make_slots(&worker) < 0 || cpus_find(&worker) < 0 ||
        worker_watch(&worker, sock, EPOLLIN, FROM_DAEMON, NULL) < 0 ||
        worker_watch(&worker, keeper, EPOLLIN, FROM_KEEPER, NULL) < 0 ||
        worker_watch(&worker, worker.full, EPOLLIN, FROM_READER, NULL) < 0)
        return 1;
    say_hello(&worker);
    loop(&worker);
    shut_down(&worker);
    if (worker.orphaned)
        keeper_remove_parents(config);
    return 0;
}
