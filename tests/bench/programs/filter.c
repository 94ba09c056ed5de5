/*
 * Prints a seccomp filter (BPF) that refuses what an untrusted program has no business with, for
 * the peers that take one ready made, and with "names" the names of those system calls.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>

static const char *const denied[] = {
    "ptrace",
    "mount",
    "umount2",
    "bpf",
    "keyctl",
    "add_key",
    "request_key",
    "io_uring_setup",
    "unshare",
    "setns",
    "userfaultfd",
    "perf_event_open",
    "open_by_handle_at",
    "kexec_load",
    "pivot_root",
    "process_vm_writev",
    "move_mount",
    "open_tree",
    "fsopen",
    "swapon",
};

int main(int argc, char **argv) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

    for (unsigned i = 0; filter && i < sizeof denied / sizeof *denied; i++) {
        int number = seccomp_syscall_resolve_name(denied[i]);

        if (argc > 1 && strcmp(argv[1], "names") == 0) {
            puts(denied[i]);
        } else if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), number, 0) != 0) {
            return 1;
        }
    }
    if (argc > 1) {
        return 0;
    }
    return filter && seccomp_export_bpf(filter, 1) == 0 ? 0 : 1;
}
