/*
 * One cgroup for each slot, in two layouts behind one interface.
 *
 * v2: one directory `slot-N`; init is born in it. v1 and hybrid: `slot-N` in the memory, pids,
 * cpuacct and cpu hierarchies, entered once by init. Init stays in the job's group, so a job's
 * process is born inside its limits and no migration (which waits for an RCU grace period) is on
 * the hot path; what init itself uses is one process, a few pages and a CPU time it measures
 * (slot_shared).
 *
 * Slots get equal shares of CPU time, however many processes and sessions are in them: that is what
 * a group with the cpu controller gives by default. Without one, the kernel shares by session.
 *
 * A recycled slot keeps its groups. Their counters are taken as zero at the moment the slot is
 * proved empty: no process of a job exists then and nothing is charged to it, so no earlier job's
 * use can be counted later.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include "internal.h"

enum {
    /* Memory counters are charged in batches of 64 pages on each CPU (MEMCG_CHARGE_BATCH); what a
     * process left of its batch stays charged until that CPU works for others. */
    BATCH_BYTES = 64 * 4096,
    NOISE_BYTES = 1 << 20, /* a smaller difference says nothing about page cache */
    STALE_BYTES = 1 << 20, /* more than a slot has when it is new, before it is not used again */
};

static int open_in(int dir, const char *name, int flags) {
    return openat(dir, name, flags | O_CLOEXEC);
}

static int put_text(int fd, const char *text) {
    size_t len = strlen(text);
    ssize_t n;
    do
        n = pwrite(fd, text, len, 0);
    while (n < 0 && errno == EINTR); /* a memory limit waits for reclaim, which a signal ends */
    return n == (ssize_t)len ? 0 : -1;
}

static int put_number(int fd, uint64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return put_text(fd, text);
}

/* Reads into text, NUL-terminated. */
static int get_text(int fd, char *text, size_t size) {
    ssize_t n = pread(fd, text, size - 1, 0);
    if (n < 0)
        return -1;
    text[n] = '\0';
    return 0;
}

static uint64_t get_number(int fd) {
    char text[32];
    return get_text(fd, text, sizeof text) < 0 ? 0 : strtoull(text, NULL, 10);
}

/* The number after "key " at the beginning of a line; 0 where there is none. */
static uint64_t find_number(const char *text, const char *key) {
    size_t len = strlen(key);
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL)
        if (!strncmp(line, key, len) && line[len] == ' ')
            return strtoull(line + len + 1, NULL, 10);
    return 0;
}

void cgroup_init(struct cgroup *cgroup) {
    memset(cgroup, 0xff, sizeof *cgroup); /* every descriptor -1, every limit "not set yet" */
}

static int make_directory(const char *parent, unsigned index) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/slot-%u", parent, index) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    /* One that a killed worker left is empty, and is made anew so that its counters are. */
    if (mkdir(path, 0755) < 0 && (errno != EEXIST || rmdir(path) < 0 || mkdir(path, 0755) < 0))
        return -1;
    return open(path, O_DIRECTORY | O_PATH | O_CLOEXEC);
}

static int open_v1(struct cgroup *cgroup) {
    int memory = cgroup->dir[CG_MEMORY], pids = cgroup->dir[CG_PIDS];
    for (int i = 0; i < CG_KINDS && cgroup->dir[i] >= 0; i++)
        if ((cgroup->procs[i] = open_in(cgroup->dir[i], "cgroup.procs", O_WRONLY)) < 0)
            return -1;
    cgroup->memory_limit = open_in(memory, "memory.limit_in_bytes", O_RDWR);
    /* Absent where the kernel does not account swap; the self test then wants swap to be off. */
    cgroup->memory_swap_limit = open_in(memory, "memory.memsw.limit_in_bytes", O_RDWR);
    cgroup->memory_peak = open_in(memory, "memory.max_usage_in_bytes", O_RDWR);
    cgroup->memory_usage = open_in(memory, "memory.usage_in_bytes", O_RDONLY);
    cgroup->memory_stat = open_in(memory, "memory.stat", O_RDONLY);
    cgroup->memory_reclaim = open_in(memory, "memory.force_empty", O_WRONLY);
    cgroup->pids_limit = open_in(pids, "pids.max", O_RDWR);
    cgroup->pids_events = open_in(pids, "pids.events", O_RDONLY);
    cgroup->cpu = open_in(cgroup->dir[CG_CPUACCT], "cpuacct.usage", O_RDONLY);

    autoclose int control = open_in(memory, "memory.oom_control", O_RDONLY);
    autoclose int event = open_in(memory, "cgroup.event_control", O_WRONLY);
    char text[32];
    if (control < 0 || event < 0 || (cgroup->oom = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        return -1;
    snprintf(text, sizeof text, "%d %d", cgroup->oom, control);
    return put_text(event, text);
}

static int open_v2(struct cgroup *cgroup) {
    int dir = cgroup->dir[CG_MEMORY];
    cgroup->memory_limit = open_in(dir, "memory.max", O_RDWR);
    cgroup->memory_peak = open_in(dir, "memory.peak", O_RDWR);
    if (cgroup->memory_peak < 0) /* read-only before Linux 6.12 */
        cgroup->memory_peak = open_in(dir, "memory.peak", O_RDONLY);
    cgroup->memory_usage = open_in(dir, "memory.current", O_RDONLY);
    cgroup->memory_stat = open_in(dir, "memory.stat", O_RDONLY);
    cgroup->memory_reclaim = open_in(dir, "memory.reclaim", O_WRONLY); /* since Linux 5.19 */
    cgroup->pids_limit = open_in(dir, "pids.max", O_RDWR);
    cgroup->pids_events = open_in(dir, "pids.events", O_RDONLY);
    cgroup->cpu = open_in(dir, "cpu.stat", O_RDONLY);
    cgroup->oom = open_in(dir, "memory.events", O_RDONLY);
    autoclose int group = open_in(dir, "memory.oom.group", O_WRONLY);
    autoclose int swap = open_in(dir, "memory.swap.max", O_WRONLY);
    if (group < 0 || put_text(group, "1") < 0)
        return -1;
    /* Absent where the kernel has no swap support, and then there is nothing to forbid. */
    return swap >= 0 ? put_text(swap, "0") : 0;
}

static bool all_open(const struct cgroup *cgroup) {
    return cgroup->memory_limit >= 0 && cgroup->memory_peak >= 0 && cgroup->memory_usage >= 0 &&
           cgroup->memory_stat >= 0 && cgroup->memory_reclaim >= 0 && cgroup->pids_limit >= 0 &&
           cgroup->pids_events >= 0 && cgroup->cpu >= 0 && cgroup->oom >= 0;
}

int cgroup_make(struct cgroup *cgroup, const struct config *config, unsigned index, unsigned cpus) {
    cgroup_init(cgroup);
    cgroup->batches = (uint64_t)cpus * BATCH_BYTES;
    cgroup->version = config->cgroup_version;
    for (int i = 0; i < CG_KINDS && config->cgroup[i]; i++)
        if ((cgroup->dir[i] = make_directory(config->cgroup[i], index)) < 0)
            return -1;
    int result = cgroup->version == 2 ? open_v2(cgroup) : open_v1(cgroup);
    if (result < 0)
        return -1;
    if (!all_open(cgroup)) {
        errno = ENOENT;
        return -1;
    }
    return 0;
}

void cgroup_close(struct cgroup *cgroup) {
    int *fds[] = {&cgroup->memory_limit,   &cgroup->memory_swap_limit,
                  &cgroup->memory_peak,    &cgroup->memory_usage,
                  &cgroup->memory_stat,    &cgroup->oom,
                  &cgroup->memory_reclaim, &cgroup->pids_limit,
                  &cgroup->pids_events,    &cgroup->cpu};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        close_fd(fds[i]);
    for (int i = 0; i < CG_KINDS; i++) {
        close_fd(&cgroup->procs[i]);
        close_fd(&cgroup->dir[i]);
    }
}

void cgroup_remove(const struct config *config, unsigned index) {
    for (int i = 0; i < CG_KINDS && config->cgroup[i]; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/slot-%u", config->cgroup[i], index);
        (void)rmdir(path); /* where it fails, cgroup_make tries again and reports */
    }
}

/* v1 wants memsw >= memory at all times, so the order depends on the direction. */
static int set_memory(struct cgroup *cgroup, uint64_t bytes) {
    bool grows = cgroup->set_memory != UINT64_MAX && bytes > cgroup->set_memory;
    if (grows && cgroup->memory_swap_limit >= 0 && put_number(cgroup->memory_swap_limit, bytes) < 0)
        return -1;
    if (put_number(cgroup->memory_limit, bytes) < 0)
        return -1;
    if (!grows && cgroup->memory_swap_limit >= 0 &&
        put_number(cgroup->memory_swap_limit, bytes) < 0)
        return -1;
    cgroup->set_memory = bytes;
    return 0;
}

int cgroup_set_limits(struct cgroup *cgroup, uint64_t memory, uint32_t processes) {
    if (memory != cgroup->set_memory && set_memory(cgroup, memory) < 0)
        return -1;
    if (processes != cgroup->set_processes) {
        if (put_number(cgroup->pids_limit, (uint64_t)processes + 1) < 0) /* and init */
            return -1;
        cgroup->set_processes = processes;
    }
    return 0;
}

uint64_t cgroup_cpu_ns(const struct cgroup *cgroup) {
    if (cgroup->version != 2)
        return get_number(cgroup->cpu);
    char text[1024];
    return get_text(cgroup->cpu, text, sizeof text) < 0 ? 0
                                                        : find_number(text, "usage_usec") * 1000;
}

static uint64_t process_limit_hits(const struct cgroup *cgroup) {
    char text[128];
    return get_text(cgroup->pids_events, text, sizeof text) < 0 ? 0 : find_number(text, "max");
}

int cgroup_keep_counters(struct cgroup *cgroup, int first_fd) {
    int *kept[] = {&cgroup->memory_peak,    &cgroup->memory_usage, &cgroup->memory_stat,
                   &cgroup->memory_reclaim, &cgroup->pids_events,  &cgroup->cpu};
    for (int i = 0; i < COUNTER_FDS; i++)
        if ((*kept[i] = fcntl(*kept[i], F_DUPFD_CLOEXEC, first_fd + COUNTER_FDS)) < 0)
            return -1;
    for (int i = 0; i < COUNTER_FDS; i++) {
        if (dup3(*kept[i], first_fd + i, O_CLOEXEC) < 0)
            return -1;
        *kept[i] = first_fd + i;
    }
    return 0;
}

static uint64_t page_cache(const struct cgroup *cgroup) {
    char text[8192];
    if (get_text(cgroup->memory_stat, text, sizeof text) < 0)
        return 0;
    uint64_t file = find_number(text, cgroup->version == 2 ? "file" : "cache");
    uint64_t shmem = find_number(text, "shmem");
    return file > shmem ? file - shmem : 0;
}

/* Page cache is the kernel's to take back, but a limit that leaves little room beside it would be
 * met by work for that. */
static uint64_t drop_page_cache(const struct cgroup *cgroup, uint64_t left) {
    if (cgroup->version == 2)
        (void)put_number(cgroup->memory_reclaim, left); /* EAGAIN: not all of it could go */
    else
        (void)put_text(cgroup->memory_reclaim, "0"); /* as much as can go, whatever is written */
    return get_number(cgroup->memory_usage);
}

/* Page cache of what was there before the job: what an interpreter read to start, or an earlier
 * stage. memory.stat is dear (it flushes counters), so it is read only where that can matter. */
static uint64_t earlier_cache(const struct cgroup *cgroup, const struct base *base) {
    bool matters = base->own_memory
                       ? less(base->memory, base->own_memory + base->files) > STALE_BYTES
                       : base->warm > 0;
    return matters ? page_cache(cgroup) : 0;
}

/*
 * Files are read once and then in memory for everybody, whose group has read them first. To take
 * that back before each job would have the next one read its compiler from the disk again, and so
 * for ever: 78 ms instead of 46 for a small program in C. So a stage keeps what the one before it
 * has read where that leaves it room, and a slot that has read files is given up after its job
 * (cgroup_leftover): the kernel keeps them then, and nobody's limit counts them.
 */
int cgroup_begin(const struct cgroup *cgroup, struct base *base, uint64_t next_memory) {
    base->memory = get_number(cgroup->memory_usage);
    base->cache = earlier_cache(cgroup, base);
    if (less(base->cache, base->own_memory) >= STALE_BYTES && base->memory > next_memory / 2) {
        base->memory = drop_page_cache(cgroup, base->cache);
        base->cache = earlier_cache(cgroup, base);
    }
    /* v1: any write sets the peak to the present usage; v2: the same, as this descriptor sees it,
     * but before 6.12, where a group has one job, though maybe in stages. */
    base->peak = 0;
    if (cgroup->version == 2 && put_text(cgroup->memory_peak, "reset") < 0)
        base->peak = get_number(cgroup->memory_peak);
    else if (cgroup->version != 2 && put_text(cgroup->memory_peak, "0") < 0)
        return -1;
    if (base->own_memory)
        return 0;
    base->own_memory = base->memory; /* the first time; later SLOT_END has left these */
    base->cpu_ns = cgroup_cpu_ns(cgroup);
    base->pids_hits = process_limit_hits(cgroup);
    return 0;
}

bool cgroup_oom(struct cgroup *cgroup) {
    if (cgroup->version != 2) {
        uint64_t count;
        return read(cgroup->oom, &count, sizeof count) == sizeof count;
    }
    /* A slot that saw an out-of-memory kill is never used again, so any count is this job's. */
    char text[512];
    return get_text(cgroup->oom, text, sizeof text) == 0 && find_number(text, "oom_kill") > 0;
}

uint64_t cgroup_memory(const struct cgroup *cgroup) {
    uint64_t cache = page_cache(cgroup);
    return less(get_number(cgroup->memory_usage), cache);
}

static bool has_files(const struct cgroup *cgroup, const struct base *base) {
    char text[8192];
    if (get_text(cgroup->memory_stat, text, sizeof text) < 0)
        return true;
    uint64_t all = find_number(text, cgroup->version == 2 ? "file" : "cache"); /* with shmem */
    return less(all, base->own_memory) >= STALE_BYTES;
}

enum leftover cgroup_leftover(const struct cgroup *cgroup, const struct base *base) {
    uint64_t left = less(get_number(cgroup->memory_usage), base->own_memory);
    if (left < STALE_BYTES)
        return LEFT_NOTHING;
    if (has_files(cgroup, base))
        return LEFT_FILES;
    return left < STALE_BYTES + cgroup->batches ? LEFT_NOTHING : LEFT_FREED_LATE;
}

/* A job at its limit was given the place of an earlier stage's page cache, as much as is gone. */
static void add_taken(const struct base *base, uint64_t cache, struct usage *ret) {
    uint64_t taken = less(base->cache, cache);
    ret->memory_peak += taken;
    ret->memory += taken;
}

void cgroup_usage(const struct cgroup *cgroup, const struct base *base, uint64_t memory_limit,
                  struct usage *ret) {
    ret->cpu_ns = less(cgroup_cpu_ns(cgroup), base->cpu_ns);
    ret->process_limit_hits = less(process_limit_hits(cgroup), base->pids_hits);
    uint64_t peak = get_number(cgroup->memory_peak);
    /* One that is still an earlier stage's says nothing of this one. */
    ret->memory_peak = peak == base->peak ? 0 : less(peak, base->memory);
    ret->memory = ret->memory_peak;
    uint64_t now = get_number(cgroup->memory_usage), grown = less(now, base->memory);
    ret->memory_most = ret->memory_peak + less(base->memory, now);
    bool full = base->cache && peak != base->peak && peak + NOISE_BYTES >= memory_limit;
    if (!full && (ret->memory_peak < NOISE_BYTES || grown < NOISE_BYTES))
        return;
    uint64_t cache = page_cache(cgroup);
    if (full)
        add_taken(base, cache, ret);
    uint64_t more = less(cache, base->cache);
    ret->memory -= more < grown ? more : grown; /* not of what was there before */
}

bool cgroup_has(const struct cgroup *cgroup, pid_t pid) {
    autoclose int procs = open_in(cgroup->dir[CG_MEMORY], "cgroup.procs", O_RDONLY);
    char text[16384], line[16]; /* pids.max bounds the list; one further down is not found */
    snprintf(line, sizeof line, "%d", pid);
    if (procs < 0 || get_text(procs, text, sizeof text) < 0)
        return false;
    for (char *save, *at = strtok_r(text, "\n", &save); at; at = strtok_r(NULL, "\n", &save))
        if (!strcmp(at, line))
            return true;
    return false;
}

bool cgroup_recycles(const struct config *config) {
    char path[4096];
    if (config->cgroup_version != 2)
        return true;
    snprintf(path, sizeof path, "%s/memory.peak", config->cgroup[CG_MEMORY]);
    return access(path, W_OK) == 0;
}
