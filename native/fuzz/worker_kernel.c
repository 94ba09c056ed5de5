/* What the worker calls instead of the kernel and of the files that need one. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "worker_world.h"

enum { MOST_SPINS = 500, MOST_ROUNDS = 4000 };

struct pollfd;
int fake_clock_gettime(clockid_t clock, struct timespec *ret);
int fake_waitid(idtype_t type, id_t id, siginfo_t *info, int options);
long fake_syscall(long number, ...);
int fake_ioctl(int fd, unsigned long request, ...);
int fake_poll(struct pollfd *fds, unsigned long count, int timeout);
int fake_ftruncate(int fd, off_t size);
int fake_epoll_pwait2(int epoll, struct epoll_event *events, int most,
                      const struct timespec *timeout, const sigset_t *mask);
uint64_t real_slot_next(const struct worker *worker, const struct slot *slot);

static ino_t inode(int fd) {
    struct stat st;
    return fstat(fd, &st) < 0 ? 0 : st.st_ino;
}

bool world_fails(void) {
    bool fails = world.fail_next;
    world.fail_next = false;
    return fails;
}

static struct life *find_life(int pidfd) {
    ino_t wanted = inode(pidfd);
    for (unsigned i = 0; i < SLOTS; i++)
        if (world.life[i].phase != NOTHING && world.life[i].pidfd == wanted)
            return &world.life[i];
    return NULL;
}

int fake_clock_gettime(clockid_t clock, struct timespec *ret) {
    (void)clock;
    *ret = (struct timespec){(time_t)(world.now / 1000000000u), (long)(world.now % 1000000000u)};
    return 0;
}

static struct life *find_builder(int pidfd) {
    ino_t wanted = inode(pidfd);
    for (unsigned i = 0; i < SLOTS; i++)
        if (world.life[i].builder && world.life[i].builder == wanted)
            return &world.life[i];
    return NULL;
}

/* With WNOHANG the kernel may hold it up. */
static void wait_for_builder(struct life *life, siginfo_t *info, int options) {
    info->si_pid = 0;
    if (options & WNOHANG && (life->builder_end >= 0 || world_fails()))
        return;
    info->si_pid = 1;
    life->builder = 0;
    close_fd(&life->builder_end);
    if (life->phase == STARTED)
        life_end(life); /* it made no init */
}

int fake_waitid(idtype_t type, id_t id, siginfo_t *info, int options) {
    FUZZ_CHECK(type == (idtype_t)P_PIDFD);
    struct life *builder = find_builder((int)id);
    const struct life *life = find_life((int)id);
    if (builder)
        wait_for_builder(builder, info, options);
    else
        FUZZ_CHECK(life && life->dead); /* or it would wait, or for nobody */
    return 0;
}

static int send_signal(int pidfd, int number) {
    struct life *life = find_life(pidfd);
    if (!life) {
        FUZZ_CHECK(!find_builder(pidfd) || number == SIGCONT);
        return 0; /* the builder, or the job's own, see pidfd_open */
    }
    if (life->dead) {
        errno = ESRCH;
        return -1;
    }
    FUZZ_CHECK(number == SIGKILL || number == SIGTERM);
    if (number == SIGKILL && world_fails())
        life->stuck = true;
    else if (number == SIGKILL && !life->stuck)
        life_end(life);
    return 0;
}

long fake_syscall(long number, ...) {
    va_list arguments;
    va_start(arguments, number);
    int first = (int)va_arg(arguments, long), second = (int)va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_pidfd_open)
        return memfd_create("process", MFD_CLOEXEC);
    FUZZ_CHECK(number == SYS_pidfd_send_signal);
    return send_signal(first, second);
}

/* With privilege, so on nothing but what the builder gave. */
static bool is_own(int fd, bool network) {
    ino_t found = inode(fd);
    for (unsigned i = 0; i < SLOTS; i++)
        if (found && found == (network ? world.life[i].network : world.life[i].tmpfs))
            return true;
    return false;
}

int fake_ioctl(int fd, unsigned long request, ...) {
    FUZZ_CHECK(request == SIOCSIFFLAGS && is_own(fd, true));
    return world_fails() ? -1 : 0;
}

/* Of a slot's output: the world does not fail before there are slots. */
int fake_ftruncate(int fd, off_t size) { return world_fails() ? -1 : ftruncate(fd, size); }

int tmpfs_resize(int mount, uint64_t bytes, uint32_t inodes) {
    (void)bytes, (void)inodes;
    FUZZ_CHECK(is_own(mount, false));
    return world_fails() ? -1 : 0;
}

int fake_poll(struct pollfd *fds, unsigned long count, int timeout) {
    (void)fds, (void)count, (void)timeout;
    daemon_drain();
    return 1;
}

/* ---- what must hold between any two events ---- */

static void check_slot(const struct slot *slot) {
    bool empty = slot->state == SLOT_EMPTY;
    FUZZ_CHECK(slot->state <= SLOT_DYING);
    FUZZ_CHECK(empty == (slot->sock < 0));
    FUZZ_CHECK(!slot->active || slot->state == SLOT_RUNNING || slot->state == SLOT_DYING);
    FUZZ_CHECK(slot->state != SLOT_RUNNING || slot->active);
    FUZZ_CHECK(!slot->cpu || slot->active || slot->held_by);
    FUZZ_CHECK(slot->cpu || !slot->active || !world.worker->config->dedicated_cpus);
    FUZZ_CHECK(!empty || (slot->init_pidfd < 0 && slot->tmpfs < 0 && slot->network < 0));
    FUZZ_CHECK(slot->init_pidfd < 0 || inode(slot->init_pidfd) == world.life[slot->index].pidfd);
    FUZZ_CHECK(!slot->reader.works || slot->active || slot->lost);
    FUZZ_CHECK(slot->state != SLOT_DYING || world.life[slot->index].dead ||
               world.life[slot->index].stuck);
    FUZZ_CHECK(!slot->lost || (slot->state == SLOT_DYING && !slot->active));
}

static void check(void) {
    unsigned active = 0, having = 0, taken = 0, lost = 0;
    for (unsigned i = 0; i < world.worker->slot_count; i++) {
        check_slot(&world.worker->slot[i]);
        active += world.worker->slot[i].active;
        having += world.worker->slot[i].cpu != NULL;
        lost += world.worker->slot[i].lost;
    }
    FUZZ_CHECK(world.worker->running == active && world.worker->lost == lost);
    for (unsigned i = 0; i < world.worker->dedicated_count; i++)
        taken += world.worker->dedicated[i].taken;
    FUZZ_CHECK(taken == having); /* so that no two have the same */
}

uint64_t slot_next(const struct worker *worker, const struct slot *slot) {
    world.worker = worker;
    world.slots = worker->slot;
    return real_slot_next(worker, slot);
}

int fake_epoll_pwait2(int epoll, struct epoll_event *events, int most,
                      const struct timespec *timeout, const sigset_t *mask) {
    (void)mask;
    daemon_drain();
    check();
    bool over = play(world.input);
    int n = epoll_wait(epoll, events, most, 0);
    world.quiet = n <= 0;
    if (n <= 0 && timeout) {
        uint64_t wait = (uint64_t)timeout->tv_sec * 1000000000u + (uint64_t)timeout->tv_nsec;
        FUZZ_CHECK(timeout->tv_sec >= 0);
        world.spins = wait ? 0 : world.spins + 1;
        world.now += wait ? wait : 1000;
        n = 0;
    }
    FUZZ_CHECK(world.spins < MOST_SPINS);                /* it would not sleep */
    FUZZ_CHECK(!over || (world.rounds++ < MOST_ROUNDS)); /* it would not end */
    return n;
}

/* ---- reader.c, without a thread: it reads when it is started and when it is stopped ---- */

int reader_init(struct reader *reader) {
    *reader = (struct reader){.stop = -1};
    return 0;
}

static void read_all(struct reader *reader) {
    for (unsigned i = 0; i < 2 && !reader->full; i++)
        reader->full = !output_read(reader->output, i, reader->fd[i], UINT64_MAX);
}

int reader_start(struct reader *reader, struct output *output, const int fd[2], int tell) {
    FUZZ_CHECK(!reader->works);
    if (world_fails())
        return -1;
    *reader = (struct reader){.works = true, .output = output, .fd = {fd[0], fd[1]}, .tell = tell};
    read_all(reader);
    return reader->full ? eventfd_write(tell, 1) : 0;
}

void reader_stop(struct reader *reader) {
    if (reader->works && !reader->full)
        read_all(reader);
    reader->works = false;
}

bool reader_is_full(const struct reader *reader) { return reader->works && reader->full; }

/* ---- closer.c, without a thread ---- */

void close_aside(struct fds *fds) { fds_close(fds); }

/* ---- builder.c ---- */

int builder_start(struct slot_plan *plan, int root) {
    int ends[2];
    struct life *life = &world.life[plan->index];
    FUZZ_CHECK(root < 0 || fcntl(root, F_GETFD) >= 0);
    FUZZ_CHECK(life->phase == NOTHING || (life->dead && !life->builder));
    if (world_fails()) {
        errno = EAGAIN;
        return -1;
    }
    FUZZ_CHECK(pipe2(ends, O_CLOEXEC) == 0);
    *life = (struct life){.phase = STARTED,
                          .shared = plan->shared,
                          .mounts = plan->mounts,
                          .sock = fcntl(plan->sock, F_DUPFD_CLOEXEC, 3),
                          .death = -1,
                          .writer = {-1, -1},
                          .builder_end = ends[1],
                          .builder = inode(ends[0])};
    FUZZ_CHECK(life->sock >= 0);
    return ends[0];
}

/* ---- keeper.c ---- */

const char *keeper_lost_parent(const struct config *config) { return (void)config, NULL; }
void keeper_remove_parents(const struct config *config) { (void)config; }

/* ---- cgroup.c ---- */

void cgroup_init(struct cgroup *cgroup) {
    memset(cgroup, 0xff, sizeof *cgroup);
    cgroup->version = 1;
}

int cgroup_make(struct cgroup *cgroup, const struct config *config, unsigned index, unsigned cpus) {
    (void)cpus;
    (void)config, (void)index;
    if (world_fails()) {
        errno = ENOSPC;
        return -1;
    }
    cgroup->oom = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return cgroup->oom < 0 ? -1 : 0;
}

void cgroup_close(struct cgroup *cgroup) { close_fd(&cgroup->oom); }

int cgroup_set_limits(struct cgroup *cgroup, uint64_t memory, uint32_t processes) {
    cgroup->set_memory = memory;
    cgroup->set_processes = processes;
    return world_fails() ? -1 : 0;
}

bool cgroup_oom(struct cgroup *cgroup) {
    uint64_t count;
    return cgroup->oom >= 0 && read(cgroup->oom, &count, sizeof count) == sizeof count;
}

bool cgroup_has(const struct cgroup *cgroup, pid_t pid) {
    (void)cgroup, (void)pid;
    return world.has;
}

bool cgroup_recycles(const struct config *config) { return config->uid_base & 1; }
uint64_t cgroup_cpu_ns(const struct cgroup *cgroup) { return cgroup->oom < 0 ? 0 : world.cpu_ns; }

void cgroup_usage(const struct cgroup *cgroup, const struct base *base, uint64_t memory_limit,
                  struct usage *ret) {
    (void)cgroup, (void)memory_limit;
    *ret = (struct usage){.cpu_ns = less(world.cpu_ns, base->cpu_ns), .memory = base->memory};
}

/* The last call of worker_run(), when every slot is gone, closes what a process leaves to its end.
 */
static void leave(const struct worker *worker) {
    int epoll = worker->epoll, full = worker->full;
    for (unsigned i = 0; i < worker->slot_count; i++) {
        struct slot *slot = &worker->slot[i];
        FUZZ_CHECK(world.life[i].phase == NOTHING ||
                   (world.life[i].dead && !world.life[i].builder));
        close_fd(&slot->shared_fd);
        close_fd(&slot->mount_namespace);
        (void)munmap(slot->shared, sizeof *slot->shared);
        output_free(&slot->output);
    }
    for (unsigned i = 0; i < SBX_MAX_ROOTS; i++)
        if (worker->environment[i].id)
            (void)close(worker->environment[i].directory);
    for (unsigned i = 0; i < worker->waiting_count; i++)
        queue_drop(&worker->waiting[i]);
    (void)munmap(worker->waiting[0].blob, (size_t)worker->waiting_count * SBX_INLINE_BLOB);
    free(worker->dedicated);
    (void)munmap(worker->waiting, worker->waiting_count * sizeof *worker->waiting);
    close_fd(&epoll);
    close_fd(&full);
}

void cgroup_remove(const struct config *config, unsigned index) {
    (void)config;
    const struct worker *worker = world.worker;
    if (worker && worker->stopping && index + 1 == worker->slot_count)
        leave(worker);
}
