/*
 * Jobs that wait for a slot, and which slot a job may have. sandboxd does the queueing; it sends
 * twice as many jobs as may run, so that the next one is here when a slot comes free.
 */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <sys/uio.h>

#include "worker.h"

static const uint64_t LEAST_WARM_MEMORY = 16 << 20;
static const uint64_t WARM_REST_NS = 20 * 1000000;

struct waiting *queue_free(struct worker *worker) {
    for (unsigned i = 0; i < worker->waiting_count; i++)
        if (!worker->waiting[i].used)
            return &worker->waiting[i];
    return NULL;
}

/* Puts what a client passed where no child of the worker gets it: a builder has copies of all
 * descriptors until it ends, some milliseconds later, and the last one may be kept from being
 * closed (closer.c), which then is the end of the builder, or of a slot's init. */
static int stow(struct waiting *waiting) {
    struct iovec part = {&(char){0}, 1};
    int ends[2];
    if (!(waiting->job.flags & SBX_JOB_PASSED) || !waiting->fds.count)
        return 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -1;
    ssize_t n = message_send(ends[0], &part, 1, &waiting->fds);
    int error = errno;
    (void)close(ends[0]);
    if (n < 0) {
        (void)close(ends[1]);
        errno = error;
        return -1;
    }
    waiting->stowed_count = waiting->fds.count;
    waiting->stowed = ends[1];
    fds_close(&waiting->fds);
    return 0;
}

/* What is there then has to be passed on or closed before anything is cloned. */
static int take_out(struct waiting *waiting) {
    struct iovec part = {&(char){0}, 1};
    unsigned count = waiting->stowed_count;
    if (!count)
        return 0;
    waiting->stowed_count = 0;
    ssize_t n = message_receive(waiting->stowed, &part, 1, &waiting->fds, NULL, MSG_DONTWAIT);
    close_fd(&waiting->stowed);
    return n == 1 && waiting->fds.count == count ? 0 : -1;
}

/* Before the job is reported: until then sandboxd has what clients passed, too, so that none of it
 * is closed here for the last time. Of the rest it has the other ends, and keeps nobody waiting. */
void queue_drop(struct waiting *waiting) {
    (void)take_out(waiting);
    fds_close(&waiting->fds);
    waiting->used = false;
}

static void refuse(struct worker *worker, struct waiting *waiting, enum sbx_reason reason,
                   struct fault fault) {
    queue_drop(waiting);
    result_send_unstarted(worker, &waiting->job, reason, fault);
}

void queue_add(struct worker *worker, struct waiting *waiting) {
    waiting->used = true;
    waiting->order = worker->order++;
    waiting->stowed_count = 0;
    if (stow(waiting) < 0)
        refuse(worker, waiting, SBX_REASON_SETUP, (struct fault){SBX_STEP_DESCRIPTORS, errno});
}

/* A program with descriptors that its client has, too, may wait in the kernel for ever, and its
 * slot is lost as long (life.c). Whoever has lost one gets no other with such descriptors, */
static bool has_lost_one(const struct worker *worker, const struct sbx_job *job) {
    for (unsigned i = 0; worker->lost && i < worker->slot_count; i++) {
        const struct slot *slot = &worker->slot[i];
        if (slot->lost && slot->lost_job && slot->job.tenant == job->tenant)
            return true;
    }
    return false;
}

/* and the last slot is left for jobs without. */
static bool would_risk_the_last(const struct worker *worker) {
    unsigned risked = worker->lost + 1;
    for (unsigned i = 0; i < worker->slot_count; i++) {
        const struct slot *slot = &worker->slot[i];
        risked += (slot->active || slot->held_by) && slot->job.flags & SBX_JOB_PASSED;
    }
    return risked >= worker->config->slots + worker->config->spare;
}

struct waiting *queue_find(struct worker *worker, uint64_t job_id) {
    for (unsigned i = 0; i < worker->waiting_count; i++)
        if (worker->waiting[i].used && worker->waiting[i].job.job_id == job_id)
            return &worker->waiting[i];
    return NULL;
}

/* The one that has waited longest among those after `order`. */
static struct waiting *next_waiting(struct worker *worker, uint64_t order) {
    struct waiting *found = NULL;
    for (unsigned i = 0; i < worker->waiting_count; i++) {
        struct waiting *waiting = &worker->waiting[i];
        if (waiting->used && waiting->order >= order && (!found || waiting->order < found->order))
            found = waiting;
    }
    return found;
}

bool queue_same_base(const struct slot *slot, const struct sbx_job *job) {
    return slot->mounts == job->mounts && slot->root == job->root;
}

/* In a warm slot a process begins with a copy of the interpreter, whose memory a program that does
 * not want it would be charged for. */
static bool wants_warm(const struct sbx_job *job) {
    return job->flags & SBX_JOB_WARM && job->limits.memory_bytes >= LEAST_WARM_MEMORY;
}

static bool serves(const struct slot *slot, const struct sbx_job *job) {
    if (!queue_same_base(slot, job) || (slot->for_warm && !wants_warm(job)))
        return false;
    if (!slot->jobs_run)
        return true;
    return job->mode == SBX_MODE_RECYCLED && slot->tenant == job->tenant &&
           slot->partition == job->partition;
}

static struct slot *find_held(struct worker *worker, uint64_t job_id) {
    for (unsigned i = 0; i < worker->slot_count; i++)
        if (worker->slot[i].held_by == job_id)
            return &worker->slot[i];
    return NULL;
}

/* A slot this job may have, of the warm ones or of the others; one that was used is preferred, so
 * that fresh ones stay for those who need them. */
static struct slot *find_idle(struct worker *worker, const struct sbx_job *job, bool warm) {
    struct slot *found = NULL;
    for (unsigned i = 0; i < worker->slot_count; i++) {
        struct slot *slot = &worker->slot[i];
        if (slot->state != SLOT_IDLE || slot->held_by || slot->for_warm != warm ||
            !serves(slot, job))
            continue;
        if (slot->jobs_run)
            return slot;
        if (!found)
            found = slot;
    }
    return found;
}

/* Whether a warm slot is about to be this job's: to wait for it takes less than to start the
 * interpreter anew. */
static bool warm_is_coming(const struct worker *worker, const struct sbx_job *job) {
    for (unsigned i = 0; i < worker->slot_count; i++) {
        const struct slot *slot = &worker->slot[i];
        if (slot->for_warm && slot->state == SLOT_RESETTING && serves(slot, job))
            return true;
    }
    return false;
}

/* One that is lost comes back when somebody lets it, or never. */
static bool is_coming(const struct slot *slot) {
    return slot->state == SLOT_EMPTY || slot->state == SLOT_BUILDING ||
           (slot->state == SLOT_DYING && !slot->lost);
}

/* All warm slots are others': the one that was idle longest is made anew, for whoever comes next,
 * unless it was used a moment ago and is likely to be again, or one is on its way already: a job
 * that waits asks again and again. Not for a job that no warm slot would ever serve. */
static void free_warm(struct worker *worker, const struct sbx_job *job) {
    struct slot *oldest = NULL;
    for (unsigned i = 0; i < worker->slot_count; i++) {
        struct slot *slot = &worker->slot[i];
        if (slot->for_warm && (is_coming(slot) || !queue_same_base(slot, job)))
            return;
        if (slot->for_warm && slot->state == SLOT_IDLE && !slot->held_by && slot->jobs_run &&
            (!oldest || slot->idle_ns < oldest->idle_ns))
            oldest = slot;
    }
    if (oldest && clock_ns(CLOCK_MONOTONIC) - oldest->idle_ns > WARM_REST_NS)
        slot_retire(worker, oldest);
}

/* NULL where the job has to wait. */
static struct slot *choose(struct worker *worker, const struct sbx_job *job) {
    if (!wants_warm(job) || !worker->config->warm)
        return find_idle(worker, job, false);
    struct slot *slot = find_idle(worker, job, true);
    if (slot || warm_is_coming(worker, job))
        return slot;
    free_warm(worker, job);
    return find_idle(worker, job, false);
}

/* Gives up an idle slot that cannot serve this job, so that one that can is built in its place. */
static void make_room(struct worker *worker, const struct sbx_job *job) {
    for (unsigned i = 0; i < worker->slot_count; i++) {
        struct slot *slot = &worker->slot[i];
        if (slot->state == SLOT_IDLE && !slot->held_by && !slot->for_warm && !serves(slot, job)) {
            slot->mounts = job->mounts;
            slot->root = job->root;
            slot_retire(worker, slot);
            return;
        }
    }
}

/* Whether a slot is on its way that this job can have. */
static bool expected(struct worker *worker, const struct sbx_job *job) {
    for (unsigned i = 0; i < worker->slot_count; i++) {
        const struct slot *slot = &worker->slot[i];
        if (is_coming(slot) && !slot->for_warm && queue_same_base(slot, job))
            return true;
    }
    return false;
}

/* Returns whether the job has left the queue. */
static bool try_start(struct worker *worker, struct waiting *waiting) {
    const struct sbx_job *job = &waiting->job;
    struct slot *slot;
    const struct fault busy = {SBX_STEP_DESCRIPTORS, EBUSY};
    bool passed = job->flags & SBX_JOB_PASSED;
    if (passed && has_lost_one(worker, job)) {
        refuse(worker, waiting, SBX_REASON_SETUP, busy);
        return true;
    }
    if (job->after) {
        slot = find_held(worker, job->after);
        if (slot && slot->state != SLOT_IDLE)
            return false;
        if (!slot || slot->tenant != job->tenant || slot->partition != job->partition ||
            !queue_same_base(slot, job)) {
            refuse(worker, waiting, SBX_REASON_HELPER, (struct fault){0, 0});
            return true;
        }
    } else if (worker->running >= worker->config->slots || cpus_are_taken(worker)) {
        return false;
    } else if (job->root && worker_root(worker, job->root) < 0) {
        /* Never in a slot with the host's directories instead. */
        refuse(worker, waiting, SBX_REASON_SETUP, (struct fault){SBX_STEP_ROOT, ENOENT});
        return true;
    } else if (passed && would_risk_the_last(worker)) {
        if (!worker->lost)
            return false;
        refuse(worker, waiting, SBX_REASON_SETUP, busy);
        return true;
    } else if (!(slot = choose(worker, job))) {
        if (wants_warm(job) && warm_is_coming(worker, job))
            return false;
        worker->wanting = true;
        if (!expected(worker, job))
            make_room(worker, job);
        return false;
    }
    if (take_out(waiting) < 0) {
        refuse(worker, waiting, SBX_REASON_SETUP, (struct fault){SBX_STEP_DESCRIPTORS, EMFILE});
        return true;
    }
    slot_start(worker, slot, waiting);
    waiting->used = false;
    return true;
}

void queue_run(struct worker *worker) {
    uint64_t order = 0;
    struct waiting *waiting;
    worker->wanting = false;
    while ((waiting = next_waiting(worker, order))) {
        order = waiting->order + 1;
        (void)try_start(worker, waiting);
    }
}

void queue_fail(struct worker *worker, const struct slot *slot, struct fault fault) {
    for (unsigned i = 0; i < worker->waiting_count; i++) {
        struct waiting *waiting = &worker->waiting[i];
        if (!waiting->used || waiting->job.after || !queue_same_base(slot, &waiting->job))
            continue;
        refuse(worker, waiting, SBX_REASON_SETUP, fault);
    }
}
