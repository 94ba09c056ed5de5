/*
 * A slot's life: how it is made, and how it ends. What happens in between is in slot.c.
 *
 * Everything of a slot hangs on its init. So whoever gives a slot up makes sure that init is known,
 * or that the builder will not make one any more, and forgets nothing before init is waited for.
 */
#define _GNU_SOURCE
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "worker.h"

enum { MS = 1000000 };
static const uint64_t FIRST_RETRY_NS = 100ull * MS; /* after a slot could not be made; doubles */

static void forget(struct slot *slot) {
    slot->sock = slot->builder = slot->init_pidfd = slot->tmpfs = slot->network = -1;
    slot->output_fd[0] = slot->output_fd[1] = slot->writer_fd[0] = slot->writer_fd[1] = -1;
    slot->tenant = slot->partition = 0;
    slot->jobs_run = slot->held_by = 0;
    slot->tainted = slot->lo_up = slot->active = slot->warm = slot->lost = false;
    slot->deadline_ns = slot->next_cpu_ns = slot->read_ns = UINT64_MAX;
}

int slot_init(struct slot *slot, const struct config *config, unsigned index) {
    slot->index = index;
    slot->mount_namespace = -1;
    forget(slot);
    cgroup_init(&slot->cgroup);
    slot->for_warm = index >= config->slots + config->spare;
    /* An interpreter maps it anew. Were it made shorter, the worker would die of that. */
    slot->shared_fd = memfd_create("slot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (reader_init(&slot->reader) < 0 || slot->shared_fd < 0 ||
        ftruncate(slot->shared_fd, sizeof *slot->shared) < 0 ||
        fcntl(slot->shared_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -1;
    slot->shared =
        mmap(NULL, sizeof *slot->shared, PROT_READ | PROT_WRITE, MAP_SHARED, slot->shared_fd, 0);
    if (slot->shared == MAP_FAILED ||
        madvise(slot->shared, sizeof *slot->shared, MADV_DONTFORK) < 0)
        return -1;
    return output_init(&slot->output, config->output_max);
}

void slot_close_output(struct worker *worker, struct slot *slot) {
    for (int i = 0; i < 2; i++) {
        worker_unwatch(worker, slot->output_fd[i]);
        close_fd(&slot->output_fd[i]);
        close_fd(&slot->writer_fd[i]);
    }
}

/* It ends by itself, soon, unless somebody has stopped it. Killed in the wrong moment it would
 * leave an init that nobody knows and waits for. */
static bool has_builder(struct worker *worker, struct slot *slot, int how) {
    siginfo_t info = {.si_pid = 0};
    if (slot->builder < 0)
        return false;
    (void)sys_pidfd_send_signal(slot->builder, SIGCONT);
    if (waitid(P_PIDFD, (id_t)slot->builder, &info, WEXITED | __WALL | how) == 0 && !info.si_pid)
        return true;
    worker_unwatch(worker, slot->builder);
    close_fd(&slot->builder);
    return false;
}

bool slot_has_builder(struct worker *worker, struct slot *slot) {
    return has_builder(worker, slot, WNOHANG);
}

/* Killed long ago, and it does not die: a process of it waits in the kernel, for a lock that
 * somebody keeps or for a disk, and no signal ends that. Its job is answered; what it printed is
 * left alone, as it may still be written. */
void slot_lose(struct worker *worker, struct slot *slot) {
    slot->lost = true;
    slot->deadline_ns = slot->read_ns = UINT64_MAX; /* so this happens once */
    slot->lost_job = slot->active ? slot->job.job_id : 0;
    worker->lost++;
    if (slot->active)
        result_send_lost(worker, slot);
}

static void find_again(struct worker *worker, struct slot *slot) {
    reader_stop(&slot->reader);
    output_end(&slot->output);
    worker->lost--;
    struct sbx_control gone = {.type = SBX_MSG_GONE, .job_id = slot->lost_job};
    struct iovec part = {&gone, sizeof gone};
    if (gone.job_id)
        worker_send(worker, &part, 1, NULL);
}

/* Everything of this life is gone; the slot may be built anew. Where its builder is not, as that
 * has much to take down, this is done again when it is. */
void slot_tear_down(struct worker *worker, struct slot *slot) {
    worker_unwatch(worker, slot->init_pidfd);
    close_fd(&slot->init_pidfd);
    if (slot_has_builder(worker, slot)) {
        slot->state = SLOT_DYING;
        if (!slot->lost)
            slot->deadline_ns = more(clock_ns(CLOCK_MONOTONIC), SETUP_NS);
        return;
    }
    if (slot->lost)
        find_again(worker, slot);
    slot_close_output(worker, slot);
    worker_unwatch(worker, slot->sock);
    worker_unwatch(worker, slot->cgroup.oom);
    close_fd(&slot->sock);
    close_fd(&slot->tmpfs);
    close_fd(&slot->network);
    cgroup_close(&slot->cgroup); /* slot_build() removes it, when there is time */
    cpus_give_back(slot);        /* of one that was held */
    forget(slot);
    slot->state = SLOT_EMPTY;
    slot->idle_ns = clock_ns(CLOCK_MONOTONIC);
    slot->generation++;
}

/* Whether its environment was removed while it was being made. It is the host's from then on. A
 * builder is not interrupted: before it has sent init's pidfd, nothing else could wait for init. */
bool slot_lost_root(const struct worker *worker, struct slot *slot) {
    if (!slot->root || worker_root(worker, slot->root) >= 0)
        return false;
    slot->mounts = slot->root = 0;
    return true;
}

void slot_report_failure(struct worker *worker, struct slot *slot, struct fault fault) {
    if (slot_lost_root(worker, slot))
        return; /* its files have gone meanwhile */
    unsigned shift = slot->failures < 6 ? slot->failures : 6;
    slot->failures++;
    slot->retry_at_ns = clock_ns(CLOCK_MONOTONIC) + (FIRST_RETRY_NS << shift);
    struct sbx_slot_error message = {SBX_MSG_SLOT_ERROR, fault.step, fault.error,
                                     (uint32_t)((FIRST_RETRY_NS << shift) / MS)};
    struct iovec part = {&message, sizeof message};
    worker_send(worker, &part, 1, NULL);
    /* Once may be bad luck (no memory for a moment); twice is an answer for those who wait, unless
     * it was the interpreter's fault, which nobody has to wait for. */
    if (slot->failures < 2 || slot->for_warm)
        return;
    queue_fail(worker, slot, fault);
    slot->mounts = slot->root = 0;
}

static int start_builder(struct worker *worker, struct slot *slot, int slot_end) {
    const int pass = 1;
    if (setsockopt(slot->sock, SOL_SOCKET, SO_PASSCRED, &pass, sizeof pass) < 0 ||
        worker_watch(worker, slot->sock, EPOLLIN, FROM_SLOT, slot) < 0 ||
        worker_watch(worker, slot->cgroup.oom, slot->cgroup.version == 2 ? EPOLLPRI : EPOLLIN,
                     FROM_OOM, slot) < 0)
        return -1;
    memset(slot->shared, 0, sizeof *slot->shared);
    struct slot_plan plan = {.config = worker->config,
                             .shared = slot->shared,
                             .shared_fd = slot->shared_fd,
                             .warm = slot->for_warm,
                             .sock = slot_end,
                             .index = slot->index,
                             .mounts = slot->mounts,
                             .cgroup = &slot->cgroup};
    slot->builder = builder_start(&plan, worker_root(worker, slot->root));
    return slot->builder < 0 ? -1 : 0;
}

/* The worker's end never blocks, though nobody may read at the other one. */
static int make_socket(int ret_ends[2]) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_ends) < 0)
        return -1;
    return fcntl(ret_ends[0], F_SETFL, O_NONBLOCK);
}

void slot_build(struct worker *worker, struct slot *slot) {
    int ends[2] = {-1, -1};
    struct fault fault = {SBX_STEP_CGROUP, 0};
    slot->retry_at_ns = 0;
    slot->disk_bytes = worker->config->disk_bytes;
    slot->disk_inodes = worker->config->disk_inodes;
    cgroup_remove(worker->config, slot->index);
    if (cgroup_make(&slot->cgroup, worker->config, slot->index, worker->cpus) < 0) {
        fault.error = errno;
        worker->stopping = fault.error == ENOENT && keeper_lost_parent(worker->config);
    } else if (make_socket(ends) < 0) {
        fail(&fault, SBX_STEP_CLONE);
    } else {
        slot->sock = ends[0];
        slot->state = SLOT_BUILDING;
        slot->deadline_ns = clock_ns(CLOCK_MONOTONIC) + SETUP_NS;
        if (start_builder(worker, slot, ends[1]) == 0) {
            (void)close(ends[1]);
            close_fd(&slot->mount_namespace); /* the builder has the last one now, and takes the
                                                 old mounts down when it ends */
            worker->stats.slots_made++;
            if (worker_watch(worker, slot->builder, EPOLLIN, FROM_BUILDER, slot) < 0) {
                fail(&fault, SBX_STEP_CLONE); /* nobody would tell of its end */
                slot_give_up(worker, slot, fault);
            }
            return;
        }
        fail(&fault, SBX_STEP_CLONE);
        (void)close(ends[1]);
    }
    slot_tear_down(worker, slot);
    slot_report_failure(worker, slot, fault);
}

ssize_t slot_receive(struct slot *slot, struct slot_msg *ret, struct fds *ret_fds, pid_t *ret_pid) {
    struct iovec part = {ret, sizeof *ret};
    return message_receive(slot->sock, &part, 1, ret_fds, ret_pid, MSG_DONTWAIT);
}

void slot_cloned(struct worker *worker, struct slot *slot, struct fds *fds) {
    if (!fds->count)
        return; /* no descriptor was to be had: the build's time limit will find it */
    slot->init_pidfd = take_fd(&fds->fd[0]);
    if (fds->count == 2)
        slot->mount_namespace = take_fd(&fds->fd[1]);
    if (worker_watch(worker, slot->init_pidfd, EPOLLIN, FROM_INIT, slot) == 0)
        return;
    /* Nobody would tell of its end, so wait for it here; it has not been let go yet. */
    (void)sys_pidfd_send_signal(slot->init_pidfd, SIGKILL);
    siginfo_t info;
    (void)waitid(P_PIDFD, (id_t)slot->init_pidfd, &info, WEXITED | __WALL);
    close_fd(&slot->init_pidfd);
}

/* Where the builder's news is still to be read, or to come, init must not be lost: nobody else
 * would end it, and wait for it. */
static void find_init(struct worker *worker, struct slot *slot) {
    (void)has_builder(worker, slot, 0);
    while (slot->init_pidfd < 0) {
        struct slot_msg msg;
        struct fds fds;
        if (slot_receive(slot, &msg, &fds, NULL) != sizeof msg)
            return;
        if (msg.type == SLOT_CLONED)
            slot_cloned(worker, slot, &fds);
        fds_close(&fds);
    }
}

void slot_retire(struct worker *worker, struct slot *slot) {
    if (slot->state == SLOT_DYING || slot->state == SLOT_EMPTY)
        return;
    if (slot->init_pidfd < 0)
        find_init(worker, slot);
    slot->state = SLOT_DYING;
    slot->held_by = 0;
    if (!slot->active)
        cpus_give_back(slot);
    slot->deadline_ns = more(clock_ns(CLOCK_MONOTONIC), SETUP_NS);
    slot->next_cpu_ns = UINT64_MAX;
    worker->stats.slots_retired++;
    if (slot->init_pidfd >= 0)
        (void)sys_pidfd_send_signal(slot->init_pidfd, SIGKILL); /* ESRCH: it is dead already */
    else
        slot_tear_down(worker, slot); /* init was never made */
}

/* One that was never ready would fail again at once: the next attempt waits for a while. */
void slot_give_up(struct worker *worker, struct slot *slot, struct fault fault) {
    bool building = slot->state == SLOT_BUILDING;
    slot_retire(worker, slot);
    if (slot->for_warm)
        fault.step = SBX_STEP_INTERPRETER;
    if (building)
        slot_report_failure(worker, slot, fault);
}
