/*
 * One slot as the worker sees it.
 *
 *   EMPTY -> BUILDING -> IDLE -> RUNNING -> RESETTING -> IDLE …
 *                                   any of them -> DYING -> EMPTY
 *
 * At a limit or a cancellation init is told to kill the job, reports its end as always and makes
 * the slot ready again. Where it is not quick about that, at the memory limit (which may have hit
 * init itself) and at any doubt about cleanliness init is killed, and with it the kernel kills
 * everything in the slot's pid namespace. Init's pidfd becomes readable when all of it is gone, so
 * no process can outlive that and there is nothing to poll.
 */
#define _GNU_SOURCE
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "worker.h"

enum {
    MS = 1000000,
    COLD_STARTS = 3, /* attempts to start an interpreter; then the slot serves without one */
};
static const uint64_t STOP_NS = 100ull * MS; /* for init to have killed its job */
static const uint64_t QUIET_NS = 3ull * MS;  /* without a job, and slots are made that can wait */
static const uint64_t WARM_PATIENCE_NS = 200ull * MS; /* and without an interpreter */
static const uint64_t LEAST_WAIT_NS = MS / 2;         /* between two looks at a running job */
static const uint64_t UNREAD_NS = MS / 2; /* what most jobs print waits for their end as long */

void slot_signal_job(struct slot *slot, int number) {
    if (!slot->shared->exec_ns)
        return; /* not the program yet */
    autoclose int pidfd = sys_pidfd_open(slot->job_pid);
    /* Its number may have gone to another since; what is in the cgroup after opening is ours. */
    if (pidfd >= 0 && cgroup_has(&slot->cgroup, slot->job_pid))
        (void)sys_pidfd_send_signal(pidfd, number); /* it may have ended */
}

static int stop_job(struct slot *slot) {
    __atomic_store_n(&slot->shared->stop, slot->jobs_run, __ATOMIC_RELEASE);
    slot->next_cpu_ns = UINT64_MAX;
    slot->deadline_ns = slot->killed_ns + STOP_NS;
    return sys_pidfd_send_signal(slot->init_pidfd, SIGTERM);
}

void slot_kill_job(struct worker *worker, struct slot *slot, enum sbx_reason reason) {
    if (!slot->active || slot->reason)
        return;
    slot->reason = reason;
    slot->killed_ns = clock_ns(CLOCK_MONOTONIC);
    if (slot->state != SLOT_RUNNING || reason == SBX_REASON_MEMORY || reason == SBX_REASON_SETUP ||
        stop_job(slot) < 0)
        slot_retire(worker, slot);
}

/* ---- starting a job ---- */

static int set_loopback(struct slot *slot, bool up) {
    struct ifreq request = {.ifr_name = "lo"};
    if (slot->lo_up == up)
        return 0;
    slot->tainted = true; /* what connections leave in the namespace goes with it */
    slot->lo_up = up;
    request.ifr_flags = up ? IFF_UP | IFF_LOOPBACK : IFF_LOOPBACK;
    return ioctl(slot->network, SIOCSIFFLAGS, &request);
}

static int set_disk(struct slot *slot, const struct sbx_limits *limits) {
    if (slot->disk_bytes == limits->disk_bytes && slot->disk_inodes == limits->disk_inodes)
        return 0;
    slot->disk_bytes = limits->disk_bytes;
    slot->disk_inodes = limits->disk_inodes;
    return tmpfs_resize(slot->tmpfs, limits->disk_bytes, limits->disk_inodes);
}

static int apply(struct slot *slot, const struct sbx_job *job, struct fault *fault) {
    /* A held slot starts with an earlier stage's files, which are not this stage's doing. */
    const struct base *base = &slot->shared->base;
    uint64_t files = base->files < slot->disk_bytes ? base->files : slot->disk_bytes;
    uint64_t warm = base->warm < WARM_ROOM ? base->warm : WARM_ROOM;
    uint64_t memory = more(more(job->limits.memory_bytes, files), warm);
    if (cgroup_set_limits(&slot->cgroup, memory, job->limits.processes + slot->warm) < 0)
        return fail(fault, SBX_STEP_LIMITS);
    slot->shared->memory = memory;
    if (set_disk(slot, &job->limits) < 0)
        return fail(fault, SBX_STEP_TMPFS);
    if (set_loopback(slot, job->flags & SBX_JOB_LOOPBACK) < 0)
        return fail(fault, SBX_STEP_NETWORK);
    return 0;
}

/* The CPU limit cannot be reached before every CPU has worked for an equal part of what is left. */
static uint64_t earliest_cpu(const struct worker *worker, uint64_t now, uint64_t left) {
    uint64_t wait = left / worker->cpus;
    return more(now, wait < LEAST_WAIT_NS ? LEAST_WAIT_NS : wait);
}

/* A slot that has just died of the new memory limit says so by init's pidfd. */
static int hand_over(struct slot *slot, const struct iovec parts[2], const struct fds *fds) {
    if (message_send(slot->sock, parts, 2, fds) >= 0 || errno == EPIPE || errno == ECONNRESET)
        return 0;
    return -1;
}

void slot_start(struct worker *worker, struct slot *slot, struct waiting *waiting) {
    struct fault fault = {0, 0};
    struct sbx_job *job = &waiting->job;
    struct iovec parts[] = {{job, sizeof *job}, {waiting->blob, job->blob_len}};
    cpus_take(worker, slot);
    job->limits.cpu = slot->cpu ? 1 + slot->cpu->number : 0;
    slot->job = *job;
    slot->held_by = 0;
    slot->reason = 0;
    slot->shared->keep = !!(job->flags & SBX_JOB_HOLD);
    slot->shared->guest = slot->shared->keep && job->flags & SBX_JOB_NEXT_GUEST;
    slot->shared->next_memory = slot->shared->keep ? job->next_memory : 0;
    output_begin(&slot->output, job->limits.output_bytes, job->flags & SBX_JOB_ORDER);
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    bool ready = apply(slot, job, &fault) == 0;
    slot->single_use = !(job->flags & SBX_JOB_HOLD) &&
                       (job->mode == SBX_MODE_FRESH || slot->tainted || !worker->recycles);
    slot->shared->single_use = slot->single_use;
    ready = ready && hand_over(slot, parts, &waiting->fds) == 0;
    if (!ready && !fault.step)
        fail(&fault, SBX_STEP_BLOB);
    fds_close(&waiting->fds); /* before any report, see queue_drop() */
    if (!ready) {
        result_send_unstarted(worker, job, SBX_REASON_SETUP, fault);
        slot_retire(worker, slot);
        return;
    }
    slot->state = SLOT_RUNNING;
    slot->active = true;
    worker->running++;
    slot->tenant = job->tenant;
    slot->partition = job->partition;
    slot->jobs_run++;
    slot->started_ns = worker->last_start_ns = now;
    slot->cpu_ns = 0;
    slot->deadline_ns = more(now, job->limits.wall_time_ns);
    slot->next_cpu_ns = earliest_cpu(worker, now, job->limits.cpu_time_ns);
}

/* ---- what the slot says ---- */

static void on_built(struct worker *worker, struct slot *slot, struct fds *fds) {
    if (fds->count != 2)
        return;
    slot->cgroup.set_memory = slot_memory(worker->config, slot->for_warm); /* by the builder */
    slot->cgroup.set_processes = slot_processes(worker->config, slot->for_warm);
    slot->tmpfs = take_fd(&fds->fd[0]);
    slot->network = take_fd(&fds->fd[1]);
}

/* Both ends of one pipe, the first of which does not block: or the worker would wait, or find it
 * readable for ever. */
static bool is_pipe(int reader, int writer) {
    struct stat ends[2];
    int flags = fcntl(reader, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) == O_RDONLY && flags & O_NONBLOCK &&
           (fcntl(writer, F_GETFL) & O_ACCMODE) == O_WRONLY && fstat(reader, &ends[0]) == 0 &&
           fstat(writer, &ends[1]) == 0 && S_ISFIFO(ends[0].st_mode) &&
           ends[0].st_dev == ends[1].st_dev && ends[0].st_ino == ends[1].st_ino;
}

static int watch_output(struct worker *worker, struct slot *slot, struct fds *fds) {
    slot_close_output(worker, slot);
    for (int i = 0; i < 2; i++) {
        slot->output_fd[i] = take_fd(&fds->fd[2 * i]);
        slot->writer_fd[i] = take_fd(&fds->fd[2 * i + 1]);
        if (!is_pipe(slot->output_fd[i], slot->writer_fd[i]) ||
            worker_watch(worker, slot->output_fd[i], EPOLLIN | EPOLLONESHOT, FROM_OUTPUT, slot) < 0)
            return -1;
    }
    return 0;
}

/* A prepared process waits, and has sent its pipes; pid is its own on the host. */
static void on_ready(struct worker *worker, struct slot *slot, struct fds *fds, pid_t pid,
                     bool warm) {
    slot->job_pid = pid;
    slot->warm = warm;
    slot->idle_ns = clock_ns(CLOCK_MONOTONIC);
    if (slot_lost_root(worker, slot) || fds->count != 4 || watch_output(worker, slot, fds) < 0) {
        slot_retire(worker, slot);
        return;
    }
    if (slot->for_warm && !warm && slot->state == SLOT_BUILDING && slot->failures < COLD_STARTS) {
        slot_give_up(worker, slot, (struct fault){SBX_STEP_INTERPRETER, ECHILD});
        return;
    }
    if (slot->jobs_run)
        worker->stats.slots_recycled++;
    slot->failures = 0;
    slot->state = SLOT_IDLE;
    slot->deadline_ns = UINT64_MAX;
}

static void on_end(struct worker *worker, struct slot *slot, const struct slot_msg *end) {
    bool dying = slot->state == SLOT_DYING; /* killed when it had just ended by itself */
    if (slot->reason == SBX_REASON_WALL_TIME && end->exec_ns &&
        end->end_ns - end->exec_ns <= slot->job.limits.wall_time_ns)
        slot->reason = 0; /* it ended in time, and the timer was quicker than the news */
    /* Before its exec a process may have ended without reading the job's message, which the next
     * one would take for its own. */
    bool spent = slot->single_use || !end->exec_ns;
    if (slot->job.flags & SBX_JOB_HOLD && !dying && !spent)
        slot->held_by = slot->job.job_id;
    enum sbx_reason reason = result_send(worker, slot, end);
    if (dying)
        return;
    slot->state = SLOT_RESETTING;
    slot->next_cpu_ns = UINT64_MAX;
    slot->deadline_ns = clock_ns(CLOCK_MONOTONIC) + SETUP_NS;
    if (reason == SBX_REASON_MEMORY || spent)
        slot_retire(worker, slot);
}

/* Whether this can come now. What comes before the first SLOT_READY is of the builder and of an
 * init in which nothing of a job has run. What comes later might be of whoever got hold of init: it
 * must not bring the worker to act on other descriptors than the builder's, to lose init, or to
 * give a slot a second job. */
static bool expected(const struct slot *slot, uint32_t type) {
    bool building = slot->state == SLOT_BUILDING;
    if (type == SLOT_CLONED)
        return building && slot->init_pidfd < 0;
    if (type == SLOT_BUILT)
        return building && slot->init_pidfd >= 0 && slot->tmpfs < 0;
    if (type == SLOT_READY)
        return slot->state == SLOT_RESETTING || (building && slot->tmpfs >= 0);
    return type == SLOT_FAILED && building;
}

static void act(struct worker *worker, struct slot *slot, const struct slot_msg *msg,
                struct fds *fds, pid_t pid) {
    if (msg->type == SLOT_END && slot->active) {
        on_end(worker, slot, msg);
    } else if (slot->state == SLOT_DYING) {
        return; /* what else it said before it was killed */
    } else if (!expected(slot, msg->type)) {
        /* SLOT_UNCLEAN; SLOT_END, where a prepared process gave up before there was a job; or
         * nothing that one of ours says. */
        slot_give_up(worker, slot, msg->fault);
    } else if (msg->type == SLOT_CLONED) {
        slot_cloned(worker, slot, fds);
    } else if (msg->type == SLOT_FAILED) {
        slot_retire(worker, slot);
        slot_report_failure(worker, slot, msg->fault);
    } else if (msg->type == SLOT_BUILT) {
        on_built(worker, slot, fds);
    } else {
        on_ready(worker, slot, fds, pid, msg->warm);
    }
}

/* Returns false when there is no further message. */
static bool on_message(struct worker *worker, struct slot *slot) {
    struct slot_msg msg;
    struct fds fds;
    pid_t pid = 0;
    ssize_t n = slot_receive(slot, &msg, &fds, &pid);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n == sizeof msg) {
        act(worker, slot, &msg, &fds, pid);
        close_aside(&fds);
        return slot->sock >= 0;
    }
    /* Closed, as init is dead or was never made; or no message of ours. */
    close_aside(&fds);
    (void)epoll_ctl(worker->epoll, EPOLL_CTL_DEL, slot->sock, NULL);
    slot_give_up(worker, slot, (struct fault){SBX_STEP_CLONE, ECHILD});
    return false;
}

static void on_init_gone(struct worker *worker, struct slot *slot) {
    siginfo_t info;
    (void)waitid(P_PIDFD, (id_t)slot->init_pidfd, &info, WEXITED | __WALL);
    bool building = slot->state == SLOT_BUILDING;
    while (on_message(worker, slot)) /* its last words: the job may have ended before the kill */
        ;
    if (slot->active) {
        if (!slot->reason)
            slot->reason = cgroup_oom(&slot->cgroup) ? SBX_REASON_MEMORY : SBX_REASON_HELPER;
        (void)result_send(worker, slot, NULL);
    }
    slot_tear_down(worker, slot);
    if (building && !slot->retry_at_ns)
        slot_report_failure(worker, slot, (struct fault){SBX_STEP_CLONE, ECHILD});
}

static void on_builder_gone(struct worker *worker, struct slot *slot) {
    bool last = slot->state == SLOT_DYING && slot->init_pidfd < 0;
    if (!slot_has_builder(worker, slot) && last)
        slot_tear_down(worker, slot);
}

static void on_oom(struct worker *worker, struct slot *slot) {
    if (slot->active) { /* else its last job's, reported already, or init's own */
        if (!slot->reason)
            slot->killed_ns = clock_ns(CLOCK_MONOTONIC);
        slot->reason = SBX_REASON_MEMORY; /* whatever it is being killed for */
    }
    slot_give_up(worker, slot, (struct fault){SBX_STEP_FORK, ENOMEM});
}

static void read_from_now(struct worker *worker, struct slot *slot) {
    slot->read_ns = UINT64_MAX;
    if (slot->reader.works)
        return;
    if (reader_start(&slot->reader, &slot->output, slot->output_fd, worker->full) < 0)
        slot_retire(worker, slot); /* no thread, no memory: its job is one that could not be run */
}

/* The first output of each pipe. Of a job that ends in a moment it is read then; where the order of
 * the two streams matters, at once. Without a job it is of one that has just ended, and read
 * already; or of whoever got hold of init, as who waits for a job prints nothing. */
static void on_output(struct worker *worker, struct slot *slot) {
    if (slot->state == SLOT_IDLE)
        slot_retire(worker, slot);
    else if (slot->state == SLOT_RUNNING && slot->output.ordered)
        read_from_now(worker, slot);
    else if (slot->state == SLOT_RUNNING && slot->read_ns == UINT64_MAX)
        slot->read_ns = clock_ns(CLOCK_MONOTONIC) + UNREAD_NS;
}

void slot_end_full(struct worker *worker) {
    eventfd_t count;
    (void)eventfd_read(worker->full, &count);
    for (unsigned i = 0; i < worker->slot_count; i++)
        if (reader_is_full(&worker->slot[i].reader))
            slot_kill_job(worker, &worker->slot[i], SBX_REASON_OUTPUT);
}

void slot_event(struct worker *worker, struct slot *slot, enum source source) {
    if (source == FROM_SLOT)
        (void)on_message(worker, slot);
    else if (source == FROM_BUILDER)
        on_builder_gone(worker, slot);
    else if (source == FROM_INIT)
        on_init_gone(worker, slot);
    else if (source == FROM_OOM && cgroup_oom(&slot->cgroup))
        on_oom(worker, slot);
    else if (source == FROM_OUTPUT)
        on_output(worker, slot);
}

/* ---- time ---- */

/* The wall clock runs from exec, which the prepared process notes in the shared page: at the latest
 * from when the time for the set-up is over, whatever stands there. So this limit holds for a job
 * that has got hold of init, too. */
static uint64_t exec_time(const struct slot *slot) {
    uint64_t exec = __atomic_load_n(&slot->shared->exec_ns, __ATOMIC_ACQUIRE);
    return at_most(exec, slot->started_ns + SETUP_NS);
}

static void on_deadline(struct worker *worker, struct slot *slot, uint64_t now) {
    if (slot->state == SLOT_DYING) {
        slot_lose(worker, slot);
        return;
    }
    if (slot->state == SLOT_BUILDING && slot_has_builder(worker, slot)) {
        /* It makes init, or ends, when the kernel lets it. */
        slot->deadline_ns = more(now, SETUP_NS);
        return;
    }
    if (!slot->active || slot->reason) { /* init is stuck, or slow to kill */
        slot_give_up(worker, slot, (struct fault){SBX_STEP_FORK, ETIMEDOUT});
        return;
    }
    uint64_t exec = exec_time(slot);
    uint64_t wall = slot->job.limits.wall_time_ns;
    uint64_t due = exec ? more(exec, wall) : slot->started_ns + SETUP_NS;
    if (now >= due) {
        slot_kill_job(worker, slot, exec ? SBX_REASON_WALL_TIME : SBX_REASON_SETUP);
        return;
    }
    uint64_t again = more(now, wall < LEAST_WAIT_NS ? LEAST_WAIT_NS : wall); /* exec is to come */
    slot->deadline_ns = exec || again > due ? due : again;
}

static void on_cpu(struct worker *worker, struct slot *slot, uint64_t now) {
    uint64_t limit = slot->job.limits.cpu_time_ns;
    uint64_t used = less(cgroup_cpu_ns(&slot->cgroup), slot->shared->base.cpu_ns);
    uint64_t setup = __atomic_load_n(&slot->shared->exec_ns, __ATOMIC_ACQUIRE)
                         ? slot->shared->setup_cpu_ns
                         : used;
    used = less(used, setup + slot->shared->init_cpu_ns + slot->shared->warm_cpu_ns);
    slot->cpu_ns = used;
    if (used > limit)
        slot_kill_job(worker, slot, SBX_REASON_CPU_TIME);
    else
        slot->next_cpu_ns = earliest_cpu(worker, now, limit - used);
}

/* A slot costs as much as some jobs. While enough are ready, jobs go first. */
static uint64_t build_at(const struct worker *worker, const struct slot *slot) {
    uint64_t quiet = worker->last_start_ns + QUIET_NS;
    uint64_t patient = slot->idle_ns + WARM_PATIENCE_NS;
    if (slot->for_warm && patient < quiet)
        quiet = patient; /* without it each program that wants it costs as much */
    bool soon = worker->scarce && !slot->for_warm;
    return soon || slot->retry_at_ns > quiet ? slot->retry_at_ns : quiet;
}

uint64_t slot_next(const struct worker *worker, const struct slot *slot) {
    if (slot->state == SLOT_EMPTY)
        return build_at(worker, slot);
    return at_most(at_most(slot->deadline_ns, slot->next_cpu_ns), slot->read_ns);
}

uint64_t slot_due(struct worker *worker, struct slot *slot, uint64_t now) {
    bool lost = slot->lost;
    if (slot->state == SLOT_EMPTY) {
        if (!worker->stopping && build_at(worker, slot) <= now)
            slot_build(worker, slot);
    } else {
        if (slot->deadline_ns <= now)
            on_deadline(worker, slot, now);
        if (slot->next_cpu_ns <= now)
            on_cpu(worker, slot, now);
        if (slot->read_ns <= now)
            read_from_now(worker, slot);
    }
    return slot->lost == lost ? slot_next(worker, slot) : now; /* for who waits for its place */
}
