/*
 * The builder: a short-lived child of the worker that makes a slot's init.
 *
 * Making namespaces takes a millisecond or more (the network namespace above all), so it does not
 * happen in the worker's loop. The builder clones init as its sibling (CLONE_PARENT), so that the
 * worker is init's parent and PR_SET_PDEATHSIG ties init to the worker. It is still root on the
 * host: it writes init's id maps and puts init into its cgroups, then lets it go and ends.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "internal.h"

static void tell(int sock, struct slot_msg msg, const struct fds *fds) {
    struct iovec part = {&msg, sizeof msg};
    (void)message_send(sock, &part, 1, fds); /* no worker left means nobody to tell */
}

static int write_proc(pid_t pid, const char *name, const char *text) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t len = strlen(text);
    return write(fd, text, len) == (ssize_t)len ? 0 : -1;
}

/* Host ids of its own for each slot, which no other slot has: its init's, its job's and its
 * guest's.
 */
static int write_maps(pid_t pid, const struct slot_plan *plan) {
    char map[128];
    unsigned first = plan->config->uid_base + SBX_SLOT_UIDS * plan->index;
    snprintf(map, sizeof map, "%u %u 1\n%u %u 1\n%u %u 1\n", INIT_UID, first, JOB_UID, first + 1,
             GUEST_UID, first + 2);
    if (write_proc(pid, "uid_map", map) < 0 || write_proc(pid, "gid_map", map) < 0)
        return -1;
    /* The host's out-of-memory killer takes a job before anything else (raising needs no right). */
    return write_proc(pid, "oom_score_adj", "1000");
}

/* The worker keeps the mount namespace for a while, so that taking it down (a millisecond and more)
 * is not between a killed job's end and its report; see slot_build(). */
static void tell_cloned(const struct slot_plan *plan, pid_t pid, int pidfd) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/mnt", pid);
    int mounts = open(path, O_RDONLY | O_CLOEXEC);
    struct fds fds = {mounts < 0 ? 1 : 2, {pidfd, mounts}};
    tell(plan->sock, (struct slot_msg){.type = SLOT_CLONED}, &fds);
}

/* With the usual limits, so that most jobs need no change; an interpreter needs some room. */
static int enter_cgroups(pid_t pid, const struct slot_plan *plan) {
    struct cgroup cgroup = *plan->cgroup;
    char text[16];
    if (cgroup_set_limits(&cgroup, slot_memory(plan->config, plan->warm),
                          slot_processes(plan->config, plan->warm)) < 0)
        return -1;
    int len = snprintf(text, sizeof text, "%d", pid);
    for (unsigned i = 0; i < CG_KINDS; i++)
        if (plan->cgroup->procs[i] >= 0 && write(plan->cgroup->procs[i], text, (size_t)len) != len)
            return -1;
    return 0;
}

static pid_t clone_init(const struct slot_plan *plan, int *ret_pidfd) {
    struct clone_args args = {
        .flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS |
                 CLONE_NEWNET | CLONE_PARENT | CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)ret_pidfd,
    };
    if (plan->cgroup->version == 2) { /* born where it belongs, with no migration */
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)plan->cgroup->dir[CG_MEMORY];
    }
    return sys_clone3(&args);
}

/* A copy of the environment's mount, which is taken here because it can be only in the mount
 * namespace that the directory was opened in. Private at once: what is mounted in the copy must not
 * show in the original. */
static int clone_root(int root) {
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
                              .propagation = 1 << 18 /* MS_PRIVATE */};
    autoclose int tree =
        sys_open_tree(root, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (tree < 0 || sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr) < 0)
        return -1;
    return take_fd(&tree);
}

_Noreturn static void builder_main(struct slot_plan *plan, int root) {
    int go[2], pidfd = -1;
    struct slot_msg msg = {.type = SLOT_FAILED};
    plan->tree = -1;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* stopped, it would keep the keeper waiting */
    if (root >= 0 && (plan->tree = clone_root(root)) < 0) {
        fail(&msg.fault, SBX_STEP_ROOT);
        goto failed;
    }
    if (pipe2(go, O_CLOEXEC) < 0) {
        fail(&msg.fault, SBX_STEP_CLONE);
        goto failed;
    }
    pid_t pid = clone_init(plan, &pidfd);
    if (pid == 0) {
        (void)close(go[1]);
        init_main(plan, go[0]);
    }
    if (pid < 0) {
        fail(&msg.fault, SBX_STEP_CLONE);
        goto failed;
    }
    tell_cloned(plan, pid, pidfd);
    if (write_maps(pid, plan) < 0)
        fail(&msg.fault, SBX_STEP_UID_MAP);
    else if (enter_cgroups(pid, plan) < 0)
        fail(&msg.fault, SBX_STEP_CGROUP);
    else if (write(go[1], "", 1) == 1)
        _exit(0);
    /* Init sees the pipe closed and ends by itself. */
failed:
    tell(plan->sock, msg, NULL);
    _exit(1);
}

int builder_start(struct slot_plan *plan, int root) {
    int pidfd = -1;
    /* Only this slot's page goes along: a slot never maps what belongs to another. */
    if (madvise(plan->shared, sizeof *plan->shared, MADV_DOFORK) < 0)
        return -1;
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    pid_t pid = sys_clone3(&args);
    if (pid == 0)
        builder_main(plan, root);
    (void)madvise(plan->shared, sizeof *plan->shared, MADV_DONTFORK);
    return pid < 0 ? -1 : pidfd;
}
