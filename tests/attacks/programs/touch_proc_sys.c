/* K11, K12, K13: writes the kernel's switches, reads its secrets, looks for cgroups and /sys. */
#include "attack.h"
#include <dirent.h>

static void write_to(const char *path) {
    int fd = open(path, O_WRONLY);
    say_result(path, fd < 0 ? -1 : write(fd, "1", 1));
}

static void read_from(const char *path) {
    char byte;
    int fd = open(path, O_RDONLY);
    ssize_t got = fd < 0 ? -1 : read(fd, &byte, 1);
    if (got == 0) {
        say(path, "empty");
    } else {
        say_result(path, got);
    }
}

static void count_entries(const char *path) {
    DIR *directory = opendir(path);
    long count = -2;
    while (directory && readdir(directory)) {
        count++;
    }
    if (directory) {
        say_number(path, count);
    } else {
        say(path, strerrorname_np(errno));
    }
}

int main(void) {
    write_to("/proc/sys/kernel/core_pattern");
    write_to("/proc/sys/kernel/modprobe");
    write_to("/proc/sys/kernel/ns_last_pid");
    write_to("/proc/sys/kernel/hostname");
    write_to("/proc/sys/vm/drop_caches");
    write_to("/proc/sys/fs/binfmt_misc/register");
    write_to("/proc/sysrq-trigger");
    write_to("/sys/kernel/uevent_helper");
    write_to("/proc/self/uid_map");
    write_to("/proc/self/setgroups");
    write_to("/proc/self/loginuid");
    write_to("/proc/self/timerslack_ns");
    write_to("/proc/irq/default_smp_affinity");
    read_from("/proc/kcore");
    read_from("/proc/keys");
    read_from("/proc/kallsyms");
    read_from("/proc/kmsg");
    read_from("/proc/sched_debug");
    read_from("/proc/timer_list");
    read_from("/proc/modules");
    read_from("/proc/config.gz");
    read_from("/proc/kpageflags");
    read_from("/proc/vmallocinfo");
    read_from("/proc/slabinfo");
    read_from("/proc/iomem");
    read_from("/proc/interrupts");
    read_from("/proc/locks");
    read_from("/proc/cmdline");
    read_from("/proc/1/environ");
    read_from("/proc/1/maps");
    read_from("/proc/1/stack");
    read_from("/proc/1/mountinfo");
    read_from("/etc/shadow");
    read_from("/root/.bashrc");
    count_entries("/sys");
    count_entries("/sys/firmware");
    count_entries("/sys/fs/cgroup");
    count_entries("/proc/acpi");
    count_entries("/proc/scsi");
    count_entries("/run");
    count_entries("/home");
    count_entries("/dev/.slot");
    char line[512];
    FILE *table = fopen("/proc/self/mountinfo", "r");
    while (table && fgets(line, sizeof line, table)) {
        if (strstr(line, " - cgroup") || strstr(line, " - sysfs") || strstr(line, "debugfs")) {
            say("mounted", line);
        }
    }
    FILE *own = fopen("/proc/self/cgroup", "r");
    while (own && fgets(line, sizeof line, own)) {
        line[strcspn(line, "\n")] = 0;
        char *path = strrchr(line, ':');
        if (path && strcmp(path, ":/") != 0) {
            say("cgroup", path);
        }
    }
    return 0;
}
