#define _GNU_SOURCE
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "test.h"
#include "worker.h"

enum { SLOTS = 4, WAITING = 2 };

static struct config config;
static struct slot slots[SLOTS];
static struct waiting waiting[WAITING];
static struct worker worker;

/* Every slot but the first is ready, and fresh, for jobs that want nothing special. */
static void begin(void) {
    config = (struct config){.slots = 2};
    memset(slots, 0, sizeof slots);
    for (unsigned i = 0; i < SLOTS; i++) {
        slots[i].index = i;
        slots[i].state = i ? SLOT_IDLE : SLOT_EMPTY;
    }
    memset(waiting, 0, sizeof waiting);
    worker = (struct worker){.config = &config,
                             .slot = slots,
                             .slot_count = SLOTS,
                             .waiting = waiting,
                             .waiting_count = WAITING};
}

static void one_that_waits_for_another_kind_says_so(void) {
    begin();
    slots[0].mounts = waiting[0].job.mounts = 1;
    queue_add(&worker, &waiting[0]);
    queue_run(&worker);
    CHECK(waiting[0].used);
    CHECK(worker.wanting);
    worker.running = config.slots;
    queue_run(&worker);
    CHECK(!worker.wanting); /* it waits for the others */
    worker.running = 0;
    queue_drop(&waiting[0]);
    queue_run(&worker);
    CHECK(!worker.wanting);
}

static void nobody_waits_for_a_slot_that_is_lost(void) {
    begin();
    slots[0].mounts = waiting[0].job.mounts = 1;
    slots[0].state = SLOT_DYING;
    for (unsigned i = 1; i < SLOTS; i++)
        slots[i].init_pidfd = -1;
    queue_add(&worker, &waiting[0]);
    queue_run(&worker);
    CHECK_EQ(slots[1].mounts, 0);
    slots[0].lost = true;
    queue_run(&worker);
    CHECK_EQ(slots[1].mounts, 1); /* it is made anew for this one */
    queue_drop(&waiting[0]);
}

static void one_of_an_unknown_environment_gets_no_slot(void) {
    begin();
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    worker.sock = pair[0];
    worker.environment[0] = (struct environment){2, pair[0]};
    waiting[0].job.job_id = 7;
    waiting[0].job.root = 1;
    queue_add(&worker, &waiting[0]);
    queue_run(&worker);
    CHECK(!waiting[0].used);
    struct sbx_result result = {0};
    CHECK_EQ(recv(pair[1], &result, sizeof result, MSG_DONTWAIT), sizeof result);
    CHECK_EQ(result.job_id, 7);
    CHECK_EQ(result.reason, SBX_REASON_SETUP);
    CHECK_EQ(result.step, SBX_STEP_ROOT);
    for (unsigned i = 0; i < SLOTS; i++)
        CHECK_EQ(slots[i].root, 0);
    close_fd(&pair[0]);
    close_fd(&pair[1]);
}

/* Whatever sandboxd says: a held slot has its job's files in it. */
static void a_next_stage_of_somebody_else_gets_no_slot(void) {
    for (unsigned kind = 0; kind < 3; kind++) {
        begin();
        int pair[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
        worker.sock = pair[0];
        slots[1].held_by = 6;
        slots[1].jobs_run = slots[1].tenant = slots[1].partition = 1;
        waiting[0].job = (struct sbx_job){.job_id = 7,
                                          .after = 6,
                                          .tenant = kind == 0 ? 2 : 1,
                                          .partition = kind == 1 ? 2 : 1,
                                          .mounts = kind == 2};
        queue_add(&worker, &waiting[0]);
        queue_run(&worker);
        CHECK(!waiting[0].used);
        struct sbx_result result = {0};
        CHECK_EQ(recv(pair[1], &result, sizeof result, MSG_DONTWAIT), sizeof result);
        CHECK_EQ(result.reason, SBX_REASON_HELPER);
        CHECK_EQ(slots[1].held_by, 6);
        close_fd(&pair[0]);
        close_fd(&pair[1]);
    }
}

static struct sbx_result refused(int daemon_end) {
    struct sbx_result result = {0};
    CHECK_EQ(recv(daemon_end, &result, sizeof result, MSG_DONTWAIT), sizeof result);
    CHECK_EQ(result.reason, SBX_REASON_SETUP);
    CHECK_EQ(result.step, SBX_STEP_DESCRIPTORS);
    return result;
}

/* Whoever passes descriptors may keep a slot for ever; jobs without any never notice. */
static void the_last_slot_is_not_risked(void) {
    for (int held = 0; held < 2; held++) {
        begin();
        int pair[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
        worker.sock = pair[0];
        config.spare = 1;
        slots[1].active = true;
        slots[1].state = SLOT_RUNNING;
        slots[2].active = !held;
        slots[2].held_by = held ? 6 : 0; /* its next program is to come */
        slots[2].state = held ? SLOT_IDLE : SLOT_RUNNING;
        slots[1].job.flags = slots[2].job.flags = SBX_JOB_PASSED;
        slots[1].job.tenant = slots[2].job.tenant = 1;
        slots[3].state = SLOT_BUILDING;
        worker.running = 1;
        waiting[0].job = (struct sbx_job){.job_id = 7, .tenant = 2, .flags = SBX_JOB_PASSED};
        waiting[1].job = (struct sbx_job){.job_id = 8, .tenant = 1};
        queue_add(&worker, &waiting[0]);
        queue_add(&worker, &waiting[1]);
        queue_run(&worker);
        CHECK(waiting[0].used); /* nothing is lost yet, and one of them will end */
        worker.lost = 1;
        queue_run(&worker);
        CHECK(!waiting[0].used);
        CHECK(waiting[1].used);
        CHECK_EQ(refused(pair[1]).job_id, 7);
        close_fd(&pair[0]);
        close_fd(&pair[1]);
    }
}

static void who_has_lost_a_slot_risks_no_other(void) {
    begin();
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    worker.sock = pair[0];
    config.spare = 4;
    for (unsigned i = 1; i < SLOTS; i++)
        slots[i].state = SLOT_BUILDING;
    slots[0].lost = true;
    slots[0].lost_job = 5;
    slots[0].job.tenant = 1;
    worker.lost = 1;
    for (unsigned i = 0; i < WAITING; i++) {
        waiting[i].job =
            (struct sbx_job){.job_id = 7 + i, .after = 0, .tenant = 1 + i, .flags = SBX_JOB_PASSED};
        queue_add(&worker, &waiting[i]);
    }
    queue_run(&worker);
    CHECK(!waiting[0].used);
    CHECK(waiting[1].used); /* another's */
    CHECK_EQ(refused(pair[1]).job_id, 7);
    close_fd(&pair[0]);
    close_fd(&pair[1]);
}

static unsigned count_copies(ino_t inode) {
    unsigned copies = 0;
    struct stat st;
    for (int fd = 0; fd < 64; fd++)
        copies += fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && st.st_ino == inode;
    return copies;
}

/* A builder, a fork, would have it until it ends. */
static void what_a_client_passed_is_no_descriptor_while_its_job_waits(void) {
    for (int passed = 0; passed < 2; passed++) {
        begin();
        int ends[2];
        struct stat st;
        REQUIRE(pipe2(ends, O_CLOEXEC) == 0 && fstat(ends[0], &st) == 0);
        for (unsigned i = 0; i < SLOTS; i++)
            slots[i].state = SLOT_BUILDING;
        waiting[0].job = (struct sbx_job){.job_id = 7, .flags = passed ? SBX_JOB_PASSED : 0};
        waiting[0].fds = (struct fds){1, {dup(ends[0])}};
        queue_add(&worker, &waiting[0]);
        CHECK_EQ(count_copies(st.st_ino), passed ? 2 : 3);
        close_fd(&ends[0]);
        CHECK_EQ(write(ends[1], "x", 1), 1); /* it is there all the same */
        queue_drop(&waiting[0]);
        (void)signal(SIGPIPE, SIG_IGN);
        CHECK_EQ(write(ends[1], "x", 1), -1);
        CHECK_EQ(count_copies(st.st_ino), 1);
        close_fd(&ends[1]);
    }
}

/* Of a tenant's warm slots; all but the first slot are such, and have served tenant 1. */
static void begin_warm(void) {
    begin();
    config.warm = SLOTS - 1;
    for (unsigned i = 1; i < SLOTS; i++) {
        slots[i].for_warm = slots[i].warm = true;
        slots[i].init_pidfd = -1;
        slots[i].tenant = slots[i].jobs_run = 1;
        slots[i].state = SLOT_IDLE;
    }
    slots[0].state = SLOT_BUILDING;
    waiting[0].job = (struct sbx_job){.job_id = 7, .tenant = 2, .flags = SBX_JOB_WARM};
    waiting[0].job.limits.memory_bytes = 64 << 20;
    queue_add(&worker, &waiting[0]);
}

static unsigned count_idle(void) {
    unsigned idle = 0;
    for (unsigned i = 0; i < SLOTS; i++)
        idle += slots[i].state == SLOT_IDLE;
    return idle;
}

static void one_that_waits_takes_one_interpreter_only(void) {
    begin_warm();
    for (int i = 0; i < 5; i++)
        queue_run(&worker);
    CHECK(waiting[0].used);
    CHECK_EQ(count_idle(), SLOTS - 2);
    queue_drop(&waiting[0]);
}

static void one_that_no_interpreter_serves_takes_none(void) {
    begin_warm();
    slots[0].mounts = waiting[0].job.mounts = 1;
    queue_run(&worker);
    CHECK_EQ(count_idle(), SLOTS - 1);
    queue_drop(&waiting[0]);
}

TEST_MAIN(TEST(one_that_waits_for_another_kind_says_so), TEST(nobody_waits_for_a_slot_that_is_lost),
          TEST(one_of_an_unknown_environment_gets_no_slot),
          TEST(a_next_stage_of_somebody_else_gets_no_slot), TEST(the_last_slot_is_not_risked),
          TEST(who_has_lost_a_slot_risks_no_other),
          TEST(what_a_client_passed_is_no_descriptor_while_its_job_waits),
          TEST(one_that_waits_takes_one_interpreter_only),
          TEST(one_that_no_interpreter_serves_takes_none))
