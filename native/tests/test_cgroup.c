/* What counters say, where the kernel is too old to forget a peak: files with their texts. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"
#include "test.h"

enum { MIB = 1 << 20 };

static void set(int fd, const char *text) {
    REQUIRE(ftruncate(fd, 0) == 0);
    REQUIRE(pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text));
}

static void set_mib(int fd, unsigned mib) {
    char text[32];
    snprintf(text, sizeof text, "%lu\n", (unsigned long)mib * MIB);
    set(fd, text);
}

static int file(const char *text) {
    int fd = memfd_create("counter", MFD_CLOEXEC);
    REQUIRE(fd >= 0);
    set(fd, text);
    return fd;
}

/* A descriptor of the same file that cannot be written to. */
static int read_only(int fd) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int other = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(other >= 0);
    return other;
}

/* Linux before 6.12, cgroup v2: two stages in one group. */
static void a_peak_of_an_earlier_stage_is_not_the_next_ones(void) {
    struct cgroup cgroup;
    struct base base = {0};
    struct usage usage;
    cgroup_init(&cgroup);
    int peak = file("");
    cgroup.version = 2;
    cgroup.memory_peak = read_only(peak);
    cgroup.memory_usage = file("");
    cgroup.memory_stat = file("file 0\nshmem 0\n");
    cgroup.pids_events = file("max 0\n");
    cgroup.cpu = file("usage_usec 0\n");

    set_mib(cgroup.memory_usage, 1);
    set_mib(peak, 2); /* of the set-up */
    REQUIRE(cgroup_begin(&cgroup, &base) == 0);
    set_mib(peak, 301);
    cgroup_usage(&cgroup, &base, &usage);
    CHECK_EQ(usage.memory_peak, 300 * MIB);
    CHECK_EQ(usage.memory, 300 * MIB);

    REQUIRE(cgroup_begin(&cgroup, &base) == 0); /* the second stage */
    cgroup_usage(&cgroup, &base, &usage);
    CHECK_EQ(usage.memory_peak, 0); /* nothing is known */
    CHECK_EQ(usage.memory, 0);
    set_mib(peak, 401); /* it took more */
    cgroup_usage(&cgroup, &base, &usage);
    CHECK_EQ(usage.memory_peak, 400 * MIB);

    int *files[] = {&peak,
                    &cgroup.memory_peak,
                    &cgroup.memory_usage,
                    &cgroup.memory_stat,
                    &cgroup.pids_events,
                    &cgroup.cpu};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        close_fd(files[i]);
}

TEST_MAIN(TEST(a_peak_of_an_earlier_stage_is_not_the_next_ones))
