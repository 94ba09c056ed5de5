/*
 * System calls without a wrapper in every C library we build on (glibc 2.35 lacks the mount API),
 * and ownership by cleanup attribute. One line each, named as the call.
 */
#ifndef SYS_H
#define SYS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef MNT_DETACH
#define MNT_DETACH 2 /* <sys/mount.h> clashes with <linux/mount.h> in glibc 2.36 */
#endif

static inline int sys_open_tree(int dir, const char *path, unsigned flags) {
    return (int)syscall(SYS_open_tree, dir, path, flags);
}
static inline int sys_move_mount(int from, const char *from_path, int to, const char *to_path,
                                 unsigned flags) {
    return (int)syscall(SYS_move_mount, from, from_path, to, to_path, flags);
}
static inline int sys_fsopen(const char *type, unsigned flags) {
    return (int)syscall(SYS_fsopen, type, flags);
}
static inline int sys_fsconfig(int fd, unsigned cmd, const char *key, const char *value) {
    return (int)syscall(SYS_fsconfig, fd, cmd, key, value, 0);
}
static inline int sys_fsmount(int fd, unsigned flags, unsigned attrs) {
    return (int)syscall(SYS_fsmount, fd, flags, attrs);
}
static inline int sys_fspick(int dir, const char *path, unsigned flags) {
    return (int)syscall(SYS_fspick, dir, path, flags);
}
static inline int sys_mount_setattr(int dir, const char *path, unsigned flags,
                                    const struct mount_attr *attr) {
    return (int)syscall(SYS_mount_setattr, dir, path, flags, attr, sizeof *attr);
}
static inline int sys_pivot_root(const char *new_root, const char *put_old) {
    return (int)syscall(SYS_pivot_root, new_root, put_old);
}
static inline int sys_umount2(const char *path, int flags) {
    return (int)syscall(SYS_umount2, path, flags);
}
static inline int sys_openat2(int dir, const char *path, const struct open_how *how) {
    return (int)syscall(SYS_openat2, dir, path, how, sizeof *how);
}
static inline int sys_close_range(unsigned first, unsigned last, unsigned flags) {
    return (int)syscall(SYS_close_range, first, last, flags);
}
static inline int sys_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }
static inline int sys_pidfd_send_signal(int pidfd, int signal) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}
/* User and group. The C library's would have every thread of the process do it, those of the
 * worker, which a child that is cloned from it has on the list and not in truth: it could wait for
 * one for ever. */
static inline int sys_become(uid_t id) {
    if (syscall(SYS_setresgid, id, id, id) < 0)
        return -1;
    return (int)syscall(SYS_setresuid, id, id, id);
}
static inline int sys_drop_groups(void) { return (int)syscall(SYS_setgroups, 0, NULL); }
/* fork without what the C library does about its locks, one of which a thread may have had when
 * this process was cloned from the worker. */
static inline pid_t sys_fork(void) {
    return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}
/* clone3 as fork: no CLONE_VM, so the child goes on with a copy of this stack. */
static inline pid_t sys_clone3(struct clone_args *args) {
    return (pid_t)syscall(SYS_clone3, args, sizeof *args);
}

/* What getdents64(2) gives; the C library's DIR would allocate. */
struct entry {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};

static inline uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    (void)clock_gettime(clock, &now); /* cannot fail: the clock exists and the address is ours */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void close_fd(int *fd) {
    if (*fd >= 0)
        (void)close(*fd); /* nothing is buffered behind these descriptors */
    *fd = -1;
}
#define autoclose __attribute__((cleanup(close_fd)))
static inline int take_fd(int *fd) {
    int taken = *fd;
    *fd = -1;
    return taken;
}

#endif
