/* K14, K15, K16, K19, K23, K29: calls no program of a judge needs, with arguments that would be
 * taken, or that at least come past the first check. Each line: the call and how it failed. */
#include "attack.h"
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/reboot.h>
#include <sys/swap.h>
#include <sys/timex.h>

static void try_kernel(void) {
    char params[256] = {0};
    TRY("io_uring_setup", syscall(SYS_io_uring_setup, 8, params));
    TRY("io_uring_enter", syscall(SYS_io_uring_enter, 0, 0, 0, 0, NULL, 0));
    TRY("io_uring_register", syscall(SYS_io_uring_register, 0, 0, NULL, 0));
    TRY("bpf", syscall(SYS_bpf, 5, params, sizeof params));
    struct perf_event_attr event = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof event, .exclude_kernel = 1};
    TRY("perf_event_open", syscall(SYS_perf_event_open, &event, 0, -1, -1, 0));
    TRY("userfaultfd", syscall(SYS_userfaultfd, 1));
    TRY("kcmp", syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0));
    TRY("process_madvise", syscall(SYS_process_madvise, -1, NULL, 0, 0, 0));
    TRY("lookup_dcookie", syscall(SYS_lookup_dcookie, 0, NULL, 0));
    TRY("ptrace", syscall(SYS_ptrace, 0, 0, NULL, NULL));
    TRY("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
    TRY("quotactl_fd", syscall(SYS_quotactl_fd, 0, 0, 0, NULL));
    TRY("move_pages", syscall(SYS_move_pages, 1, 0, NULL, NULL, NULL, 0));
    TRY("mbind", syscall(SYS_mbind, NULL, 0, 0, NULL, 0, 0));
}

static void try_keys(void) {
    TRY("add_key", syscall(SYS_add_key, "user", "k", "v", 1, KEY_SPEC_PROCESS_KEYRING));
    TRY("request_key", syscall(SYS_request_key, "user", "k", NULL, 0));
    TRY("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
}

static void try_host(void) {
    TRY("reboot", reboot(RB_DISABLE_CAD));
    TRY("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    TRY("kexec_file_load", syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0));
    TRY("init_module", syscall(SYS_init_module, "", 0, ""));
    TRY("finit_module", syscall(SYS_finit_module, -1, "", 0));
    TRY("delete_module", syscall(SYS_delete_module, "none", O_NONBLOCK));
    TRY("swapon", swapon("/work/none", 0));
    TRY("swapoff", swapoff("/work/none"));
    TRY("acct", acct("/work/none"));
    TRY("quotactl", syscall(SYS_quotactl, 0x800001 << 8, NULL, 0, NULL));
    TRY("sethostname", sethostname("evil", 4));
    TRY("setdomainname", setdomainname("evil", 4));
    struct timespec now = {1, 0};
    TRY("clock_settime", clock_settime(CLOCK_REALTIME, &now));
    TRY("settimeofday", syscall(SYS_settimeofday, &(struct timeval){1, 0}, NULL));
    TRY("adjtimex", adjtimex(&(struct timex){.modes = ADJ_OFFSET}));
    TRY("clock_adjtime",
        syscall(SYS_clock_adjtime, CLOCK_REALTIME, &(struct timex){.modes = ADJ_OFFSET}));
    TRY("vhangup", vhangup());
    TRY("syslog", syscall(SYS_syslog, 10, NULL, 0));
    TRY("nfsservctl", syscall(SYS_nfsservctl, 0, NULL, NULL));
#ifdef __x86_64__
    TRY("iopl", iopl(3));
    TRY("ioperm", ioperm(0x80, 1, 1));
    TRY("modify_ldt", syscall(SYS_modify_ldt, 1, &(char[16]){0}, 16));
    TRY("uselib", syscall(SYS_uselib, "/work/none"));
    TRY("sysfs", syscall(SYS_sysfs, 3));
#endif
}

static void try_loosen(void) {
    struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF)};
    struct sock_fprog program = {1, allow};
    TRY("seccomp_listener",
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
    TRY("personality_exec", personality(READ_IMPLIES_EXEC));
    TRY("personality_norandom", personality(ADDR_NO_RANDOMIZE));
    personality(0);
    struct sock_filter pass[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog all = {1, pass};
    (void)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &all);
    TRY("after_filter", syscall(SYS_io_uring_setup, 8, &(char[256]){0}));
}

int main(void) {
    try_kernel();
    try_keys();
    try_host();
    try_loosen();
    return 0;
}
