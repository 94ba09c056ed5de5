/*
 * Makes a recycled slot as it was, and proves it. Runs in init when every process of the job is
 * gone, so nothing changes underneath. Whatever cannot be proved clean ends the slot instead.
 *
 * What a job can leave behind in a slot is: files, and the attributes of the three directories it
 * may write to; System V IPC objects (POSIX queues are denied by the filter); pids used (init.c).
 * Everything else dies with its processes, but for Unix sockets that were sent over one another,
 * with whatever else was sent, which the kernel finds some day: no more sockets may be there than
 * at the start. Network state needs an interface that is up, and a slot whose lo was up is not
 * recycled (worker.c); IPv6 flow labels, which need none, are denied by the filter.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

#include "internal.h"

enum {
    /* Beyond this a new slot (made off the hot path) is cheaper than deleting. */
    MAX_DELETIONS = 512,
    MAX_DEPTH = 32,
    /* Inode times advance with the timer tick (10 ms at HZ=100) before Linux 6.13; a change within
     * two ticks of the note might leave the time as it was. */
    TICK_GUARD_NS = 20000000,
};

static const char *const place_names[PLACES] = {"work", "tmp", "shm"};
static const mode_t place_modes[PLACES] = {0755, 01777, 01777};

/* What is in use, not what is free: the size may be set anew for each job. */
static int note(struct pristine *pristine) {
    struct statfs fs;
    struct stat st;
    for (int i = 0; i < PLACES; i++) {
        if (fstat(pristine->place[i], &st) < 0)
            return -1;
        pristine->times[i] = (struct times){st.st_ctim, st.st_mtim, st.st_atim};
    }
    if (fstatfs(pristine->place[0], &fs) < 0)
        return -1;
    pristine->used_blocks = fs.f_blocks - fs.f_bfree;
    pristine->used_inodes = fs.f_files - fs.f_ffree;
    return clock_gettime(CLOCK_REALTIME, &pristine->taken);
}

/* How many there are, -1 where that cannot be known. Takes some microseconds. */
static int64_t count_sockets(const struct pristine *pristine) {
    static const char head[] = "sockets: used ";
    char text[512];
    ssize_t len = pread(pristine->sockstat, text, sizeof text - 1, 0);
    if (len < 0)
        return -1;
    text[len] = '\0';
    return strncmp(text, head, sizeof head - 1) ? -1 : strtoll(text + sizeof head - 1, NULL, 10);
}

int pristine_note(struct pristine *pristine, const struct root *root) {
    for (int i = 0; i < PLACES; i++) {
        pristine->place[i] =
            openat(root->tmpfs, place_names[i], O_DIRECTORY | O_RDONLY | O_NOATIME | O_CLOEXEC);
        if (pristine->place[i] < 0)
            return -1;
    }
    for (int i = 0; i < IPC_KINDS; i++) {
        pristine->next_id[i] = root->next_id[i];
        if (pwrite(root->next_id[i], "0", 1, 0) != 1)
            pristine->next_id[i] = -1; /* no reset will succeed */
    }
    pristine->sockstat = open("/proc/self/net/sockstat", O_RDONLY | O_CLOEXEC);
    return note(pristine);
}

void pristine_note_sockets(struct pristine *pristine) {
    pristine->sockets = count_sockets(pristine);
}

uint64_t pristine_used(const struct pristine *pristine) {
    struct statfs fs;
    if (fstatfs(pristine->place[0], &fs) < 0)
        return 0;
    return less(fs.f_blocks - fs.f_bfree, pristine->used_blocks) * (uint64_t)fs.f_bsize;
}

static bool usage_is_pristine(const struct pristine *pristine) {
    struct statfs fs;
    return fstatfs(pristine->place[0], &fs) == 0 &&
           fs.f_blocks - fs.f_bfree == pristine->used_blocks &&
           fs.f_files - fs.f_ffree == pristine->used_inodes;
}

static bool same_time(struct timespec a, struct timespec b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_times(const struct stat *st, const struct times *noted) {
    return same_time(st->st_ctim, noted->changed) && same_time(st->st_mtim, noted->modified) &&
           same_time(st->st_atim, noted->accessed);
}

/* A directory's ctime changes with any entry made or removed and with any attribute set. */
static bool untouched(const struct pristine *pristine) {
    struct stat st;
    for (int i = 0; i < PLACES; i++) {
        const struct times *noted = &pristine->times[i];
        if (fstat(pristine->place[i], &st) < 0 || !same_times(&st, noted))
            return false;
        int64_t age = (pristine->taken.tv_sec - noted->changed.tv_sec) * 1000000000ll +
                      pristine->taken.tv_nsec - noted->changed.tv_nsec;
        if (age < TICK_GUARD_NS)
            return false;
    }
    return usage_is_pristine(pristine);
}

/* The kernel sets next_id from the 0 that pristine_note wrote to -1 when it gives an object that
 * id. That none is left is not enough: the ids count the objects that came and went. */
static int ipc_is_unused(const struct pristine *pristine) {
    char text[16];
    for (int i = 0; i < IPC_KINDS; i++) {
        ssize_t len = pread(pristine->next_id[i], text, sizeof text, 0);
        if (len < 1)
            return -1;
        if (text[0] != '0') {
            errno = EBUSY;
            return -1;
        }
    }
    return 0;
}

static int sockets_are_gone(const struct pristine *pristine) {
    int64_t count = count_sockets(pristine);
    if (count >= 0 && count == pristine->sockets)
        return 0;
    errno = EBUSY;
    return -1;
}

static int open_directory(int parent, const char *name) {
    const struct open_how how = {.flags = O_DIRECTORY | O_RDONLY | O_CLOEXEC,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                                            RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
    return sys_openat2(parent, name, &how);
}

static int empty_directory(int dir, unsigned depth, unsigned *budget);

static int remove_entry(int dir, const char *name, unsigned depth, unsigned *budget) {
    if ((*budget)-- == 0) {
        errno = EFBIG;
        return -1;
    }
    if (unlinkat(dir, name, 0) == 0)
        return 0;
    if (errno != EISDIR)
        return -1;
    autoclose int child = open_directory(dir, name);
    if (child < 0 || empty_directory(child, depth + 1, budget) < 0)
        return -1;
    return unlinkat(dir, name, AT_REMOVEDIR);
}

static int empty_directory(int dir, unsigned depth, unsigned *budget) {
    _Alignas(struct entry) char buffer[2048];
    if (depth > MAX_DEPTH) {
        errno = ELOOP;
        return -1;
    }
    for (;;) {
        if (lseek(dir, 0, SEEK_SET) < 0)
            return -1;
        long len = syscall(SYS_getdents64, dir, buffer, sizeof buffer);
        if (len < 0)
            return -1;
        bool any = false;
        for (long at = 0; at < len;) {
            const struct entry *entry = (const struct entry *)(buffer + at);
            at += entry->reclen;
            if (!strcmp(entry->name, ".") || !strcmp(entry->name, ".."))
                continue;
            if (remove_entry(dir, entry->name, depth, budget) < 0)
                return -1;
            any = true;
        }
        if (!any)
            return 0;
    }
}

/* The directory itself: entries, times, mode, owner, extended attributes (which ACLs are, too).
 * Setting nothing that is as it should be lets its times grow old enough for untouched(). */
static int restore_place(const struct pristine *pristine, int place, unsigned *budget) {
    static const uid_t owner[PLACES] = {JOB_UID, INIT_UID, INIT_UID};
    int dir = pristine->place[place];
    struct stat st;
    int flags = 0;
    if (empty_directory(dir, 0, budget) < 0 || fstat(dir, &st) < 0)
        return -1;
    if ((st.st_mode & 07777) != place_modes[place] && fchmod(dir, place_modes[place]) < 0)
        return -1;
    if (!same_times(&st, &pristine->times[place]) && futimens(dir, NULL) < 0)
        return -1;
    /* Inode flags (chattr): older kernels have none on tmpfs. */
    if ((ioctl(dir, FS_IOC_GETFLAGS, &flags) == 0 && flags) || flistxattr(dir, NULL, 0) > 0 ||
        st.st_uid != owner[place] || st.st_gid != owner[place]) {
        errno = EPERM;
        return -1;
    }
    return 0;
}

int slot_reset(struct pristine *pristine, struct fault *fault) {
    unsigned budget = MAX_DELETIONS;
    if (ipc_is_unused(pristine) < 0 || sockets_are_gone(pristine) < 0)
        return fail(fault, SBX_STEP_RESET);
    if (untouched(pristine))
        return clock_gettime(CLOCK_REALTIME, &pristine->taken) < 0 ? fail(fault, SBX_STEP_RESET)
                                                                   : 0;
    for (int i = 0; i < PLACES; i++)
        if (restore_place(pristine, i, &budget) < 0)
            return fail(fault, SBX_STEP_RESET);
    if (!usage_is_pristine(pristine)) {
        errno = ENOTEMPTY;
        return fail(fault, SBX_STEP_RESET);
    }
    return note(pristine) < 0 ? fail(fault, SBX_STEP_RESET) : 0;
}
