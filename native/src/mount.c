/*
 * The job's root file system, built with the new mount API in the slot's own mount namespace.
 *
 * Theory of operation. The root is a small tmpfs that ends up read-only. The administrator's
 * directories are cloned (open_tree), made read-only, nosuid and nodev, and moved in. /proc is a
 * new one of the slot's pid namespace, read-only, with what tells about the host covered. /dev
 * holds bind-mounted nodes. One sized tmpfs holds what a job may write: its directories work, tmp
 * and shm are bound to /work, /tmp and /dev/shm, so one limit covers the three. It is also mounted
 * below /dev/.slot, a directory only init can enter. Nothing here runs while a job does.
 *
 * In an environment the root is the environment's own directory, read-only, with the empty
 * directories that all this is mounted on, and /dev a small tmpfs.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/stat.h>

#include "internal.h"

enum {
    RO = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
    TMPFS_OWN_INODES = 4, /* its root, work, tmp and shm do not count against the job's limit */
};

static const char passwd_text[] = "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n"
                                  "sandbox:x:1000:1000:sandbox:/work:/bin/sh\n"
                                  "guest:x:1001:1001:guest:/work:/bin/sh\n"
                                  "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
static const char group_text[] = "root:x:0:\nsandbox:x:1000:\nguest:x:1001:\nnogroup:x:65534:\n";
static const char hosts_text[] = "127.0.0.1 localhost sandbox\n::1 localhost\n";
static const char nsswitch_text[] = "passwd: files\ngroup: files\nhosts: files dns\n";

/* A new mount of a file system type, not attached yet. options: key, value, key, value, NULL. */
static int new_mount(const char *type, const char *const *options, unsigned attrs) {
    autoclose int fs = sys_fsopen(type, FSOPEN_CLOEXEC);
    if (fs < 0)
        return -1;
    for (; options && *options; options += 2)
        if (sys_fsconfig(fs, FSCONFIG_SET_STRING, options[0], options[1]) < 0)
            return -1;
    if (sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return -1;
    return sys_fsmount(fs, FSMOUNT_CLOEXEC, attrs);
}

/* On what is at (dir, path), or on dir itself for an empty path; a link at its end is not followed.
 */
static int attach(int mount, int dir, const char *path) {
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | (*path ? 0 : MOVE_MOUNT_T_EMPTY_PATH);
    return sys_move_mount(mount, "", dir, path, flags);
}

/* Clones what is at (dir, path) with all that is mounted below it and gives it these attributes. */
static int clone_tree(int dir, const char *path, uint64_t attrs) {
    autoclose int tree = sys_open_tree(
        dir, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW);
    if (tree < 0)
        return -1;
    struct mount_attr attr = {.attr_set = attrs};
    if (sys_mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr) < 0)
        return -1;
    return take_fd(&tree);
}

static int make_file(int root, const char *path, const char *text) {
    autoclose int fd = openat(root, path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0)
        return -1;
    size_t len = strlen(text);
    return write(fd, text, len) == (ssize_t)len ? 0 : -1;
}

/* In an environment it is there already, and nothing can be made. */
static int make_directory(int dir, const char *path) {
    return mkdirat(dir, path, 0755) < 0 && errno != EEXIST ? -1 : 0;
}

/* Makes the directories above path (and path itself where it ends in '/'). */
static int make_parents(int root, const char *path) {
    char part[256];
    for (size_t i = 0; path[i]; i++) {
        if (i + 1 >= sizeof part) {
            errno = ENAMETOOLONG;
            return -1;
        }
        part[i] = path[i];
        if (path[i] != '/')
            continue;
        part[i] = '\0';
        if (mkdirat(root, part, 0755) < 0 && errno != EEXIST)
            return -1;
        part[i] = '/';
    }
    return 0;
}

static int bind_on(int source, int dir, const char *path) {
    autoclose int tree = sys_open_tree(
        source, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH);
    struct mount_attr attr = {.attr_set = RO};
    if (tree < 0 || sys_mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr) < 0)
        return -1;
    return attach(tree, dir, path);
}

/* Binds a directory or file of the host read-only to target (without leading '/'). */
static int bind_readonly(int root, int source, const char *target) {
    struct stat st;
    if (fstat(source, &st) < 0 || make_parents(root, target) < 0)
        return -1;
    if (S_ISLNK(st.st_mode)) {
        errno = ELOOP;
        return -1;
    }
    if (S_ISDIR(st.st_mode)) {
        if (mkdirat(root, target, 0755) < 0 && errno != EEXIST)
            return -1;
    } else if (make_file(root, target, "") < 0) {
        return -1;
    }
    return bind_on(source, root, target);
}

/* /bin and its like are links into /usr where usr is merged, and directories where it is not. */
static int add_top_level(int root, const char *name) {
    char path[16], target[64];
    snprintf(path, sizeof path, "/%s", name);
    ssize_t len = readlink(path, target, sizeof target - 1);
    if (len >= 0) {
        target[len] = '\0';
        return symlinkat(target, root, name);
    }
    if (errno != EINVAL)
        return errno == ENOENT ? 0 : -1;
    autoclose int directory = open(path, O_PATH | O_CLOEXEC);
    return directory < 0 ? -1 : bind_readonly(root, directory, name);
}

/* What has a target of its own is in a directory of sandboxd, which could make it a link. */
static int open_source(const struct extra_mount *mount) {
    return open(mount->source,
                O_PATH | O_CLOEXEC | (mount->source == mount->target ? 0 : O_NOFOLLOW));
}

static int open_all(const struct config *config, uint32_t mounts, struct sources *ret) {
    for (unsigned i = 0; i < config->readonly_count; i++)
        if ((ret->readonly[i] = open_source(&config->readonly[i])) < 0)
            return -1;
    for (unsigned i = 0; i < config->mount_count; i++) {
        ret->mounts[i] = -1;
        if (mounts & (1u << i) &&
            (ret->mounts[i] = open(config->mounts[i].source, O_PATH | O_CLOEXEC)) < 0)
            return -1;
    }
    return 0;
}

int root_open_sources(const struct slot_plan *plan, struct sources *ret, struct fault *fault) {
    return open_all(plan->config, plan->mounts, ret) < 0 ? fail(fault, SBX_STEP_MOUNT) : 0;
}

static void close_sources(const struct config *config, struct sources *sources) {
    for (unsigned i = 0; i < config->readonly_count; i++)
        close_fd(&sources->readonly[i]);
    for (unsigned i = 0; i < config->mount_count; i++)
        close_fd(&sources->mounts[i]);
}

static int add_directories(int root, const struct config *config, const struct sources *sources) {
    static const char *const top[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};
    for (size_t i = 0; i < sizeof top / sizeof *top; i++)
        if (add_top_level(root, top[i]) < 0)
            return -1;
    for (unsigned i = 0; i < config->readonly_count; i++)
        if (bind_readonly(root, sources->readonly[i], config->readonly[i].target + 1) < 0)
            return -1;
    for (unsigned i = 0; i < config->mount_count; i++)
        if (sources->mounts[i] >= 0 &&
            bind_readonly(root, sources->mounts[i], config->mounts[i].target + 1) < 0)
            return -1;
    return 0;
}

/* An environment has its own /usr and so on; of the host's it gets what has a place of its own. The
 * image's maker may have put links on the way there. */
static int add_packages(int root, const struct config *config, const struct sources *sources) {
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    for (unsigned i = 0; i < config->readonly_count; i++) {
        const struct extra_mount *mount = &config->readonly[i];
        if (mount->source == mount->target)
            continue;
        autoclose int place = sys_openat2(root, mount->target + 1, &how);
        if (place < 0 || bind_on(sources->readonly[i], place, "") < 0)
            return -1;
    }
    return 0;
}

static int add_etc(int root) {
    if (mkdirat(root, "etc", 0755) < 0 && errno != EEXIST)
        return -1;
    return make_file(root, "etc/passwd", passwd_text) < 0 ||
                   make_file(root, "etc/group", group_text) < 0 ||
                   make_file(root, "etc/hosts", hosts_text) < 0 ||
                   make_file(root, "etc/nsswitch.conf", nsswitch_text) < 0
               ? -1
               : 0;
}

static int add_dev(int dev) {
    static const char *const nodes[] = {"null", "zero", "full", "random", "urandom", "tty"};
    static const char *const links[][2] = {{"/proc/self/fd", "fd"},
                                           {"/proc/self/fd/0", "stdin"},
                                           {"/proc/self/fd/1", "stdout"},
                                           {"/proc/self/fd/2", "stderr"}};
    if (mkdirat(dev, "shm", 0755) < 0)
        return -1;
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        char host[32];
        snprintf(host, sizeof host, "/dev/%s", nodes[i]);
        autoclose int tree =
            clone_tree(AT_FDCWD, host, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
        if (tree < 0 || make_file(dev, nodes[i], "") < 0 || attach(tree, dev, nodes[i]) < 0)
            return -1;
    }
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (symlinkat(links[i][0], dev, links[i][1]) < 0)
            return -1;
    return 0;
}

/* Covers (root, path) with an empty file or directory of the slot itself, where it exists and is
 * not closed to the job already: its owner, the host's root, has no name in this namespace. */
static int cover(int root, int dev, const char *path) {
    struct stat st;
    if (fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -1;
    if (!(st.st_mode & 0007))
        return 0;
    const char *with = S_ISDIR(st.st_mode) ? ".slot/empty" : ".slot/nothing";
    autoclose int tree = clone_tree(dev, with, RO | MOUNT_ATTR_NOEXEC);
    return tree < 0 ? -1 : attach(tree, root, path);
}

/* What tells of the host, its kernel or its other users, or lets one change them. */
static const char *const covered[] = {
    "proc/kcore",       "proc/keys",          "proc/key-users",  "proc/kallsyms",
    "proc/kmsg",        "proc/sysrq-trigger", "proc/modules",    "proc/timer_list",
    "proc/sched_debug", "proc/config.gz",     "proc/kpagecount", "proc/kpageflags",
    "proc/kpagecgroup", "proc/latency_stats", "proc/slabinfo",   "proc/vmallocinfo",
    "proc/iomem",       "proc/ioports",       "proc/interrupts", "proc/softirqs",
    "proc/locks",       "proc/swaps",         "proc/partitions", "proc/diskstats",
    "proc/cmdline",     "proc/acpi",          "proc/asound",     "proc/bus",
    "proc/driver",      "proc/dynamic_debug", "proc/fs",         "proc/irq",
    "proc/scsi",        "proc/sysvipc",       "proc/tty",
};

/* Absent without CONFIG_CHECKPOINT_RESTORE; slots are then used once (init.c, reset.c). */
static void open_counters(int proc, struct root *ret) {
    static const char *const names[IPC_KINDS] = {
        [IPC_SHM] = "sys/kernel/shm_next_id",
        [IPC_SEM] = "sys/kernel/sem_next_id",
        [IPC_MSG] = "sys/kernel/msg_next_id",
    };
    ret->last_pid = openat(proc, "sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
    for (int i = 0; i < IPC_KINDS; i++)
        ret->next_id[i] = openat(proc, names[i], O_RDWR | O_CLOEXEC);
}

/* Kernels since 6.11 that were built without CONFIG_SLAB_BUCKETS charge System V messages to nobody
 * (ipc/msgutil.c): in each of 32,000 queues 16 KiB of text, or 16,384 messages without any, of 64
 * bytes. So a job has 16 queues, or 16 MiB. A kernel before 5.19 does not let this be written, and
 * charges them. */
static void limit_messages(int proc) {
    autoclose int queues = openat(proc, "sys/kernel/msgmni", O_WRONLY | O_CLOEXEC);
    if (queues >= 0)
        (void)!write(queues, "16", 2);
}

/* Pid 1 is hidden from the job: its counters tell what earlier jobs made it wait for. */
static const char *const proc_options[] = {"hidepid", "invisible", NULL};

static int add_proc(int root, int dev, struct root *ret) {
    autoclose int writable =
        new_mount("proc", NULL, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    autoclose int proc = new_mount("proc", proc_options, RO | MOUNT_ATTR_NOEXEC);
    if (writable < 0 || proc < 0 || make_directory(root, "proc") < 0)
        return -1;
    open_counters(writable, ret);
    limit_messages(writable);
    if (attach(proc, root, "proc") < 0)
        return -1;
    for (size_t i = 0; i < sizeof covered / sizeof *covered; i++)
        if (cover(root, dev, covered[i]) < 0)
            return -1;
    return 0;
}

static int bind_place(int tmpfs, const char *name, mode_t mode, uid_t owner, int root,
                      const char *path) {
    if (mkdirat(tmpfs, name, 0700) < 0 || fchmodat(tmpfs, name, mode, 0) < 0 ||
        fchownat(tmpfs, name, owner, owner, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    if (make_directory(root, path) < 0)
        return -1;
    autoclose int tree = clone_tree(tmpfs, name, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    return tree < 0 ? -1 : attach(tree, root, path);
}

static int add_tmpfs(int root, int dev, const struct config *config, int *ret_tmpfs) {
    char size[32], inodes[16];
    snprintf(size, sizeof size, "%llu", (unsigned long long)config->disk_bytes);
    snprintf(inodes, sizeof inodes, "%u", config->disk_inodes + TMPFS_OWN_INODES);
    const char *options[] = {"size", size, "nr_inodes", inodes, "mode", "0700", NULL};
    autoclose int tmpfs = new_mount("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (tmpfs < 0 || attach(tmpfs, dev, ".slot/tmpfs") < 0 ||
        bind_place(tmpfs, "work", 0755, JOB_UID, root, "work") < 0 ||
        bind_place(tmpfs, "tmp", 01777, INIT_UID, root, "tmp") < 0 ||
        bind_place(tmpfs, "shm", 01777, INIT_UID, dev, "shm") < 0)
        return -1;
    *ret_tmpfs = take_fd(&tmpfs);
    return 0;
}

int tmpfs_resize(int mount, uint64_t bytes, uint32_t inodes) {
    char size[32], count[16];
    snprintf(size, sizeof size, "%llu", (unsigned long long)bytes);
    snprintf(count, sizeof count, "%u", inodes + TMPFS_OWN_INODES);
    autoclose int fs = sys_fspick(mount, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
    if (fs < 0 || sys_fsconfig(fs, FSCONFIG_SET_STRING, "size", size) < 0 ||
        sys_fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", count) < 0)
        return -1;
    return sys_fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL);
}

static const char *const small_tmpfs[] = {"size", "1m", "nr_inodes", "512", "mode", "0755", NULL};

/* The root, attached on /tmp of this mount namespace, as move_mount needs an attached target: the
 * environment's, or an empty one. */
static int make_root(int tree) {
    struct mount_attr private = {.propagation = 1 << 18 /* MS_PRIVATE */};
    if (sys_mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &private) < 0)
        return -1;
    autoclose int root =
        tree >= 0 ? fcntl(tree, F_DUPFD_CLOEXEC, 0)
                  : new_mount("tmpfs", small_tmpfs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (root < 0 || attach(root, AT_FDCWD, "/tmp") < 0)
        return -1;
    return take_fd(&root);
}

/* /dev, empty but for the slot's own directory. */
static int make_dev(int root, bool environment) {
    autoclose int dev = -1;
    if (environment) {
        dev = new_mount("tmpfs", small_tmpfs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
        if (dev < 0 || attach(dev, root, "dev") < 0)
            return -1;
    } else if (mkdirat(root, "dev", 0755) < 0 || (dev = openat(root, "dev", O_PATH)) < 0) {
        return -1;
    }
    if (mkdirat(dev, ".slot", 0700) < 0 || mkdirat(dev, ".slot/tmpfs", 0700) < 0 ||
        mkdirat(dev, ".slot/empty", 0555) < 0 || make_file(dev, ".slot/nothing", "") < 0)
        return -1;
    return take_fd(&dev);
}

static int enter_root(int root, int dev, bool environment) {
    struct mount_attr readonly = {.attr_set = RO};
    if (fchdir(root) < 0 || sys_pivot_root(".", ".") < 0)
        return -1;
    /* The old root is now mounted over the new one: what "." names is the old root's mount. */
    if (sys_umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return -1;
    if (environment) /* its root has always been read-only */
        root = dev;
    return sys_mount_setattr(root, "", AT_EMPTY_PATH, &readonly);
}

int root_build(const struct slot_plan *plan, int tree, struct sources *sources, struct root *ret,
               struct fault *fault) {
    const struct config *config = plan->config;
    const bool environment = tree >= 0;
    autoclose int root = make_root(tree);
    autoclose int dev = root < 0 ? -1 : make_dev(root, environment);
    if (dev < 0)
        return fail(fault, SBX_STEP_ROOT);
    if ((environment ? add_packages(root, config, sources)
                     : add_directories(root, config, sources)) < 0)
        return fail(fault, SBX_STEP_MOUNT);
    close_sources(config, sources);
    if (!environment && (add_etc(root) < 0 || symlinkat("work/task", root, "task") < 0))
        return fail(fault, SBX_STEP_ROOT);
    if (add_dev(dev) < 0)
        return fail(fault, SBX_STEP_DEV);
    if (add_proc(root, dev, ret) < 0)
        return fail(fault, SBX_STEP_PROC);
    if (add_tmpfs(root, dev, config, &ret->tmpfs) < 0)
        return fail(fault, SBX_STEP_TMPFS);
    if (enter_root(root, dev, environment) < 0)
        return fail(fault, SBX_STEP_PIVOT);
    ret->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    return ret->null < 0 ? fail(fault, SBX_STEP_DEV) : 0;
}
