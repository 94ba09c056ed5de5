/* What is made of counters that no test can bring about: files with their texts. */
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

/* As of a new slot of cgroup v2 that uses so much. */
static void counters(struct cgroup *cgroup, unsigned usage_mib) {
    cgroup_init(cgroup);
    cgroup->version = 2;
    cgroup->batches = 0;
    cgroup->memory_peak = file("");
    cgroup->memory_usage = file("");
    cgroup->memory_stat = file("file 0\nshmem 0\n");
    cgroup->memory_reclaim = file("");
    cgroup->pids_events = file("max 0\n");
    cgroup->cpu = file("usage_usec 0\n");
    set_mib(cgroup->memory_usage, usage_mib);
}

static void set_cache(struct cgroup *cgroup, unsigned file_mib, unsigned shmem_mib) {
    char text[128];
    snprintf(text, sizeof text, "anon 0\nfile %lu\nshmem %lu\n", (unsigned long)file_mib * MIB,
             (unsigned long)shmem_mib * MIB);
    set(cgroup->memory_stat, text);
}

/* Linux before 6.12, cgroup v2: two stages in one group. */
static void a_peak_of_an_earlier_stage_is_not_the_next_ones(void) {
    struct cgroup cgroup;
    struct base base = {0};
    struct usage usage;
    counters(&cgroup, 1);
    int peak = cgroup.memory_peak;
    cgroup.memory_peak = read_only(peak);

    set_mib(peak, 2); /* of the set-up */
    REQUIRE(cgroup_begin(&cgroup, &base, 0) == 0);
    set_mib(peak, 301);
    cgroup_usage(&cgroup, &base, 512 * MIB, &usage);
    CHECK_EQ(usage.memory_peak, 300 * MIB);
    CHECK_EQ(usage.memory, 300 * MIB);

    REQUIRE(cgroup_begin(&cgroup, &base, 0) == 0); /* the second stage */
    cgroup_usage(&cgroup, &base, 512 * MIB, &usage);
    CHECK_EQ(usage.memory_peak, 0); /* nothing is known */
    CHECK_EQ(usage.memory, 0);
    set_mib(peak, 401); /* it took more */
    cgroup_usage(&cgroup, &base, 512 * MIB, &usage);
    CHECK_EQ(usage.memory_peak, 400 * MIB);

    close_fd(&peak);
    cgroup_close(&cgroup);
}

/* A stage has read 40 MiB; the next one's limit is so much. */
static void begin_after_reading(struct cgroup *cgroup, struct base *base, unsigned limit_mib) {
    counters(cgroup, 1);
    *base = (struct base){0};
    REQUIRE(cgroup_begin(cgroup, base, 0) == 0);
    set_mib(cgroup->memory_usage, 41);
    set_cache(cgroup, 40, 0);
    REQUIRE(cgroup_begin(cgroup, base, (uint64_t)limit_mib * MIB) == 0);
}

static void what_a_stage_has_read_is_kept_where_there_is_room(void) {
    struct cgroup cgroup;
    struct base base;
    for (unsigned limit_mib = 0; limit_mib <= 128; limit_mib += 64) {
        begin_after_reading(&cgroup, &base, limit_mib);
        CHECK_EQ(base.cache, 40 * MIB);
        char text[32] = "";
        (void)pread(cgroup.memory_reclaim, text, sizeof text - 1, 0);
        CHECK_EQ(strtoull(text, NULL, 10), limit_mib < 82 ? 40 * MIB : 0);
        cgroup_close(&cgroup);
    }
}

static void memory_beside_what_an_earlier_stage_has_read(void) {
    struct cgroup cgroup;
    struct base base;
    struct usage usage;
    begin_after_reading(&cgroup, &base, 128);

    set_mib(cgroup.memory_peak, 61); /* and has given it back */
    cgroup_usage(&cgroup, &base, 128 * MIB, &usage);
    CHECK_EQ(usage.memory_peak, 20 * MIB);
    CHECK_EQ(usage.memory, 20 * MIB);

    set_mib(cgroup.memory_usage, 50); /* read more */
    set_cache(&cgroup, 49, 0);
    cgroup_usage(&cgroup, &base, 128 * MIB, &usage);
    CHECK_EQ(usage.memory_peak, 20 * MIB);
    CHECK_EQ(usage.memory, 11 * MIB);

    set_mib(cgroup.memory_peak, 128); /* all that there is: the kernel took cache back */
    set_mib(cgroup.memory_usage, 11);
    set_cache(&cgroup, 10, 0);
    cgroup_usage(&cgroup, &base, 128 * MIB, &usage);
    CHECK_EQ(usage.memory_peak, (128 - 1 - 10) * MIB);
    CHECK_EQ(usage.memory, (128 - 1 - 10) * MIB);

    set_mib(cgroup.memory_peak, 100); /* somebody else had it dropped: no room for this one */
    cgroup_usage(&cgroup, &base, 128 * MIB, &usage);
    CHECK_EQ(usage.memory, (100 - 41) * MIB);
    cgroup_close(&cgroup);
}

static void what_the_kernel_frees_late_may_have_been_in_the_peak_or_not(void) {
    struct cgroup cgroup;
    struct base base = {0};
    struct usage usage;
    counters(&cgroup, 1);
    REQUIRE(cgroup_begin(&cgroup, &base, 0) == 0);
    set_mib(cgroup.memory_usage, 5); /* an earlier stage's processes */
    REQUIRE(cgroup_begin(&cgroup, &base, 64 * MIB) == 0);
    set_mib(cgroup.memory_peak, 7);
    set_mib(cgroup.memory_usage, 2);
    cgroup_usage(&cgroup, &base, 64 * MIB, &usage);
    CHECK_EQ(usage.memory_peak, 2 * MIB);
    CHECK_EQ(usage.memory, 2 * MIB);
    CHECK_EQ(usage.memory_most, 5 * MIB);
    cgroup_close(&cgroup);
}

static void what_a_job_leaves_in_a_slot(void) {
    struct cgroup cgroup;
    struct base base = {0};
    counters(&cgroup, 1);
    REQUIRE(cgroup_begin(&cgroup, &base, 0) == 0);
    CHECK_EQ(cgroup_leftover(&cgroup, &base), LEFT_NOTHING);
    set_mib(cgroup.memory_usage, 3);
    CHECK_EQ(cgroup_leftover(&cgroup, &base), LEFT_FREED_LATE);
    set_cache(&cgroup, 2, 0);
    CHECK_EQ(cgroup_leftover(&cgroup, &base), LEFT_FILES);
    set_cache(&cgroup, 2, 2); /* shmem is of it */
    CHECK_EQ(cgroup_leftover(&cgroup, &base), LEFT_FILES);

    cgroup.batches = 2 * MIB; /* a large machine's counters are that inexact, but know of files */
    CHECK_EQ(cgroup_leftover(&cgroup, &base), LEFT_FILES);
    set_cache(&cgroup, 0, 0);
    CHECK_EQ(cgroup_leftover(&cgroup, &base), LEFT_NOTHING);
    cgroup_close(&cgroup);
}

TEST_MAIN(TEST(a_peak_of_an_earlier_stage_is_not_the_next_ones),
          TEST(what_a_stage_has_read_is_kept_where_there_is_room),
          TEST(memory_beside_what_an_earlier_stage_has_read),
          TEST(what_the_kernel_frees_late_may_have_been_in_the_peak_or_not),
          TEST(what_a_job_leaves_in_a_slot))
