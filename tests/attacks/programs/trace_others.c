/* P18, P26: looks into and steers other processes: pid 1, the parent, given host pids. */
#include "attack.h"
#include <sys/ptrace.h>
#include <sys/uio.h>

static void attempt(const char *label, pid_t pid) {
    char name[64], byte;
    struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
    snprintf(name, sizeof name, "attach_%s", label);
    TRY(name, ptrace(PTRACE_ATTACH, pid, NULL, NULL));
    snprintf(name, sizeof name, "seize_%s", label);
    TRY(name, ptrace(PTRACE_SEIZE, pid, NULL, NULL));
    snprintf(name, sizeof name, "read_%s", label);
    TRY(name, process_vm_readv(pid, &here, 1, &there, 1, 0));
    snprintf(name, sizeof name, "write_%s", label);
    TRY(name, process_vm_writev(pid, &here, 1, &there, 1, 0));
    snprintf(name, sizeof name, "pidfd_%s", label);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        say_result(name, -1);
    } else {
        TRY(name, syscall(SYS_pidfd_getfd, pidfd, 0, 0));
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    snprintf(name, sizeof name, "mem_%s", label);
    TRY(name, open(path, O_RDWR));
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    snprintf(name, sizeof name, "environ_%s", label);
    int fd = open(path, O_RDONLY);
    TRY(name, fd < 0 ? -1 : read(fd, &byte, 1));
}

int main(int argc, char **argv) {
    attempt("init", 1);
    for (int i = 1; i < argc; i++) {
        attempt("host", atoi(argv[i]));
    }
    return 0;
}
