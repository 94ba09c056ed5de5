/* K5, K6, K21: new namespaces by every call that makes them, and entering those of others. */
#include "attack.h"
#include <linux/sched.h>
#include <sched.h>

static long clone_flags(unsigned long flags) {
    long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        _exit(0);
    }
    return pid;
}

static long clone3_flags(uint64_t flags) {
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        _exit(0);
    }
    return pid;
}

static long enter(const char *path) {
    int fd = open(path, O_RDONLY);
    return fd < 0 ? -1 : setns(fd, 0);
}

int main(void) {
    static const struct {
        const char *name;
        unsigned flag;
    } kinds[] = {{"user", CLONE_NEWUSER},     {"mnt", CLONE_NEWNS},   {"pid", CLONE_NEWPID},
                 {"net", CLONE_NEWNET},       {"ipc", CLONE_NEWIPC},  {"uts", CLONE_NEWUTS},
                 {"cgroup", CLONE_NEWCGROUP}, {"time", CLONE_NEWTIME}};
    char name[64];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(name, sizeof name, "unshare_%s", kinds[i].name);
        TRY(name, unshare((int)kinds[i].flag));
        if (kinds[i].flag != CLONE_NEWTIME) {
            snprintf(name, sizeof name, "clone_%s", kinds[i].name);
            TRY(name, clone_flags(kinds[i].flag));
            snprintf(name, sizeof name, "clone_user_%s", kinds[i].name);
            TRY(name, clone_flags(kinds[i].flag | CLONE_NEWUSER));
        }
        snprintf(name, sizeof name, "clone3_%s", kinds[i].name);
        TRY(name, clone3_flags(kinds[i].flag));
    }
    TRY("clone3_plain", clone3_flags(0));
    TRY("setns_user", enter("/proc/self/ns/user"));
    TRY("setns_mnt", enter("/proc/self/ns/mnt"));
    TRY("setns_init_mnt", enter("/proc/1/ns/mnt"));
    TRY("setns_init_net", enter("/proc/1/ns/net"));
    return 0;
}
