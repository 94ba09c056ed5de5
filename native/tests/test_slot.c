/* What the worker makes of a slot's messages, which may be anybody's once a job has been in it. */
#define _GNU_SOURCE
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "test.h"
#include "worker.h"

static const struct config config = {.slots = 1, .output_max = 65536};
static struct slot slot;
static struct waiting waiting[2];
static struct worker worker;
static int daemon_end, slot_end;
static unsigned open_before;

static unsigned count_fds(void) {
    unsigned count = 0;
    for (int fd = 0; fd < 64; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* A slot in which a prepared process waits. Its init, a child, ends when it is killed. */
static void begin(void) {
    int to_daemon[2], to_slot[2];
    open_before = count_fds();
    memset(&slot, 0, sizeof slot);
    memset(waiting, 0, sizeof waiting);
    REQUIRE(slot_init(&slot, &config, 0) == 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, to_daemon) == 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, to_slot) == 0);
    daemon_end = to_daemon[1];
    slot_end = to_slot[1];
    REQUIRE(fcntl(to_slot[0], F_SETFL, O_NONBLOCK) == 0);
    worker = (struct worker){.config = &config,
                             .sock = to_daemon[0],
                             .epoll = epoll_create1(EPOLL_CLOEXEC),
                             .cpus = 1,
                             .slot = &slot,
                             .slot_count = 1,
                             .waiting = waiting,
                             .waiting_count = 2};
    slot.sock = to_slot[0];
    slot.state = SLOT_IDLE;
    slot.tmpfs = slot.network = daemon_end;
    slot.cgroup.set_memory = slot.cgroup.set_processes = 0; /* as the jobs here want it */
    (void)signal(SIGTERM, SIG_IGN);                         /* init does not end by it */
    pid_t init = fork();
    if (init == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0)
        for (;;)
            (void)pause();
    slot.init_pidfd = sys_pidfd_open(init);
    REQUIRE(worker.epoll >= 0 && init > 0 && slot.init_pidfd >= 0);
}

static void end(void) {
    siginfo_t info;
    if (slot.state != SLOT_EMPTY) {
        REQUIRE(waitid(P_PIDFD, (id_t)slot.init_pidfd, &info, WEXITED) == 0);
        CHECK_EQ(info.si_status, SIGKILL);
    }
    close_fd(&slot.init_pidfd);
    close_fd(&slot.sock);
    close_fd(&slot.shared_fd);
    close_fd(&slot.reader.stop);
    close_fd(&slot.mount_namespace);
    for (int i = 0; i < 2; i++) {
        close_fd(&slot.output_fd[i]);
        close_fd(&slot.writer_fd[i]);
    }
    output_free(&slot.output);
    close_fd(&worker.epoll);
    close_fd(&worker.sock);
    close_fd(&daemon_end);
    close_fd(&slot_end);
    for (int i = 0; i < 1000 && count_fds() != open_before; i++)
        (void)usleep(1000); /* threads close what a message brought */
    CHECK_EQ(count_fds(), open_before);
}

static void say(const void *data, size_t len, const struct fds *fds) {
    struct iovec part = {(void *)data, len};
    REQUIRE(message_send(slot_end, &part, 1, fds) == (ssize_t)len);
    slot_event(&worker, &slot, FROM_SLOT);
}

static void say_type(uint32_t type, const struct fds *fds) {
    struct slot_msg msg = {.type = type};
    say(&msg, sizeof msg, fds);
}

static void what_cannot_come_now_ends_the_slot(void) {
    static const struct {
        uint32_t type;
        enum slot_state state;
    } cases[] = {
        {SLOT_CLONED, SLOT_IDLE},        {SLOT_CLONED, SLOT_RUNNING},
        {SLOT_BUILT, SLOT_IDLE},         {SLOT_BUILT, SLOT_RUNNING},
        {SLOT_BUILT, SLOT_RESETTING},    {SLOT_READY, SLOT_RUNNING},
        {SLOT_READY, SLOT_IDLE},         {SLOT_CLONED, SLOT_RESETTING},
        {SLOT_FAILED, SLOT_IDLE},        {0, SLOT_IDLE},
        {SLOT_FAILED + 1, SLOT_RUNNING}, {SLOT_CLONED, SLOT_BUILDING},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin();
        struct fds fds = {2, {daemon_end, slot_end}};
        int pidfd = slot.init_pidfd;
        slot.state = cases[i].state;
        say_type(cases[i].type, &fds);
        CHECK_EQ(slot.state, SLOT_DYING);
        CHECK_EQ(slot.init_pidfd, pidfd);
        CHECK_EQ(slot.tmpfs, daemon_end);
        CHECK_EQ(slot.network, daemon_end);
        end();
    }
}

static void a_failure_after_the_start_is_nobody_elses(void) {
    begin();
    waiting[0] = (struct waiting){.used = true, .job = {.job_id = 7}};
    for (int i = 0; i < 3; i++)
        say_type(SLOT_FAILED, NULL);
    CHECK(waiting[0].used);
    CHECK_EQ(slot.failures, 0);
    end();
}

static void what_is_no_message_ends_the_slot(void) {
    for (size_t len = 0; len < 2; len++) {
        begin();
        struct fds fds = {1, {daemon_end}};
        say("?", len, &fds);
        CHECK_EQ(slot.state, SLOT_DYING);
        end();
    }
}

/* A read of any of these could wait for ever, or the loop would find it readable for ever. */
static void pipes_that_are_none_end_the_slot(void) {
    for (int kind = 0; kind < 4; kind++) {
        struct fds fds = {.count = 4};
        begin();
        slot.state = SLOT_RESETTING;
        REQUIRE(pipe2(&fds.fd[0], O_CLOEXEC | (kind == 0 ? 0 : O_NONBLOCK)) == 0);
        REQUIRE(pipe2(&fds.fd[2], O_CLOEXEC | O_NONBLOCK) == 0);
        struct fds passed = fds;
        if (kind == 1)
            passed.fd[1] = fds.fd[3]; /* of another pipe: at the end of the first, who knows */
        if (kind == 2)
            passed.fd[2] = daemon_end;
        say_type(SLOT_READY, &passed);
        CHECK_EQ(slot.state, kind == 3 ? SLOT_IDLE : SLOT_DYING);
        slot_retire(&worker, &slot);
        fds_close(&fds);
        end();
    }
}

static void output_before_a_job_ends_the_slot(void) {
    begin();
    slot_event(&worker, &slot, FROM_OUTPUT);
    CHECK_EQ(slot.state, SLOT_DYING);
    end();
}

static void a_slot_that_reads_nothing_does_not_stop_the_worker(void) {
    static char blob[SBX_INLINE_BLOB];
    begin();
    for (int i = 0; i < 64 && slot.state == SLOT_IDLE; i++) {
        struct waiting job = {.job = {.job_id = 7, .blob_len = sizeof blob}, .blob = blob};
        slot_start(&worker, &slot, &job);
        if (slot.state == SLOT_RUNNING)
            slot.state = SLOT_IDLE; /* as if it had said so */
    }
    struct sbx_result result = {0};
    CHECK_EQ(slot.state, SLOT_DYING);
    CHECK_EQ(recv(daemon_end, &result, sizeof result, MSG_DONTWAIT), sizeof result);
    CHECK_EQ(result.reason, SBX_REASON_SETUP);
    CHECK_EQ(result.error, EAGAIN);
    end();
}

static void init_is_found_when_the_builders_news_is_not_read_yet(void) {
    begin();
    struct slot_msg msg = {.type = SLOT_CLONED};
    struct iovec part = {&msg, sizeof msg};
    struct fds fds = {1, {take_fd(&slot.init_pidfd)}};
    slot.state = SLOT_BUILDING;
    slot.tmpfs = slot.network = -1;
    pid_t builder = fork();
    if (builder == 0)
        _exit(message_send(slot_end, &part, 1, &fds) < 0);
    slot.builder = sys_pidfd_open(builder);
    REQUIRE(builder > 0 && slot.builder >= 0);
    fds_close(&fds);
    slot_retire(&worker, &slot);
    CHECK_EQ(slot.state, SLOT_DYING);
    CHECK_EQ(slot.builder, -1);
    end();
}

/* As whoever got hold of init could make it. */
static void a_start_in_the_future_puts_no_limit_off(void) {
    begin();
    slot.state = SLOT_RUNNING;
    slot.active = true;
    slot.job.limits = (struct sbx_limits){.wall_time_ns = 1000, .cpu_time_ns = UINT64_MAX};
    slot.started_ns = 1;
    slot.deadline_ns = 0;
    slot.next_cpu_ns = UINT64_MAX;
    slot.shared->exec_ns = UINT64_MAX / 2;
    (void)slot_due(&worker, &slot, SETUP_NS + 1000);
    CHECK_EQ(slot.reason, 0);
    CHECK_EQ(slot_next(&worker, &slot), SETUP_NS + 1001);
    (void)slot_due(&worker, &slot, SETUP_NS + 1001);
    CHECK_EQ(slot.reason, SBX_REASON_WALL_TIME);
    slot_retire(&worker, &slot);
    slot.active = false;
    end();
}

static int start_builder(void) {
    pid_t builder = fork();
    if (builder == 0)
        for (;;)
            (void)pause();
    REQUIRE(builder > 0);
    return sys_pidfd_open(builder);
}

static void end_builder(void) {
    siginfo_t info; /* it is dead, and stays to be waited for */
    REQUIRE(sys_pidfd_send_signal(slot.builder, SIGKILL) == 0);
    REQUIRE(waitid(P_PIDFD, (id_t)slot.builder, &info, WEXITED | WNOWAIT) == 0);
}

/* One that the kernel holds up; waiting for it would stop everybody. */
static void a_builder_that_does_not_end_is_not_waited_for(void) {
    begin();
    slot.state = SLOT_BUILDING;
    slot.deadline_ns = 0;
    slot.builder = start_builder();
    (void)slot_due(&worker, &slot, 1);
    CHECK_EQ(slot.state, SLOT_BUILDING);
    CHECK_EQ(slot_next(&worker, &slot), SETUP_NS + 1);
    end_builder();
    (void)slot_due(&worker, &slot, SETUP_NS + 1);
    CHECK_EQ(slot.state, SLOT_DYING);
    CHECK_EQ(slot.builder, -1);
    end();
}

/* It has let init go, and takes the slot's last mounts down. */
static void what_a_slot_says_does_not_wait_for_its_builder(void) {
    begin();
    struct fds built = {2, {daemon_end, slot_end}}, ready = {.count = 4};
    slot.state = SLOT_BUILDING;
    slot.tmpfs = slot.network = -1;
    slot.builder = start_builder();
    say_type(SLOT_BUILT, &built);
    CHECK(slot.tmpfs >= 0);
    REQUIRE(pipe2(&ready.fd[0], O_CLOEXEC | O_NONBLOCK) == 0);
    REQUIRE(pipe2(&ready.fd[2], O_CLOEXEC | O_NONBLOCK) == 0);
    say_type(SLOT_READY, &ready);
    CHECK_EQ(slot.state, SLOT_IDLE);
    slot_event(&worker, &slot, FROM_BUILDER); /* as if it had ended */
    CHECK(slot.builder >= 0);
    slot_retire(&worker, &slot);
    slot_event(&worker, &slot, FROM_INIT);
    CHECK_EQ(slot.state, SLOT_DYING); /* as it is, no other can be built */
    (void)slot_due(&worker, &slot, UINT64_MAX - 1);
    CHECK_EQ(worker.lost, 1);
    end_builder();
    slot_event(&worker, &slot, FROM_BUILDER);
    CHECK_EQ(slot.state, SLOT_EMPTY);
    CHECK_EQ(worker.lost, 0);
    fds_close(&ready);
    end();
}

/* A process of it waits in the kernel for a lock that somebody keeps. */
static void a_job_that_cannot_be_killed_is_reported(void) {
    begin();
    slot.tmpfs = slot.network = -1;
    slot.state = SLOT_RUNNING;
    slot.active = true;
    worker.running = 1;
    slot.job.job_id = 7;
    slot.started_ns = slot.shared->exec_ns = 1;
    slot_kill_job(&worker, &slot, SBX_REASON_WALL_TIME);
    slot_retire(&worker, &slot); /* it was told to, and did not */
    uint64_t due = slot_next(&worker, &slot);
    (void)slot_due(&worker, &slot, due - 1);
    CHECK(slot.active);
    CHECK_EQ(slot_due(&worker, &slot, due), due); /* somebody may wait for its place */
    CHECK(!slot.active);
    CHECK_EQ(worker.running, 0);
    CHECK_EQ(worker.lost, 1);
    CHECK_EQ(slot_next(&worker, &slot), UINT64_MAX);
    struct sbx_result result = {0};
    CHECK_EQ(recv(daemon_end, &result, sizeof result, MSG_DONTWAIT), sizeof result);
    CHECK_EQ(result.job_id, 7);
    CHECK_EQ(result.reason, SBX_REASON_WALL_TIME);
    CHECK_EQ(result.flags, SBX_RESULT_LOST);

    slot.builder = start_builder();
    slot_event(&worker, &slot, FROM_INIT);           /* after all */
    CHECK_EQ(slot_next(&worker, &slot), UINT64_MAX); /* it is not lost once more */
    end_builder();
    slot_event(&worker, &slot, FROM_BUILDER);
    CHECK_EQ(slot.state, SLOT_EMPTY);
    CHECK_EQ(worker.lost, 0);
    struct sbx_control gone = {0};
    CHECK_EQ(recv(daemon_end, &gone, sizeof gone, MSG_DONTWAIT), sizeof gone);
    CHECK_EQ(gone.type, SBX_MSG_GONE);
    CHECK_EQ(gone.job_id, 7);
    end();
}

static void the_shared_page_cannot_be_made_shorter(void) {
    begin();
    CHECK_EQ(ftruncate(slot.shared_fd, 0), -1);
    CHECK_EQ(ftruncate(slot.shared_fd, 1 << 20), -1);
    slot_retire(&worker, &slot);
    end();
}

TEST_MAIN(TEST(what_cannot_come_now_ends_the_slot), TEST(a_failure_after_the_start_is_nobody_elses),
          TEST(what_is_no_message_ends_the_slot), TEST(pipes_that_are_none_end_the_slot),
          TEST(output_before_a_job_ends_the_slot),
          TEST(a_slot_that_reads_nothing_does_not_stop_the_worker),
          TEST(a_start_in_the_future_puts_no_limit_off),
          TEST(a_builder_that_does_not_end_is_not_waited_for),
          TEST(init_is_found_when_the_builders_news_is_not_read_yet),
          TEST(what_a_slot_says_does_not_wait_for_its_builder),
          TEST(a_job_that_cannot_be_killed_is_reported),
          TEST(the_shared_page_cannot_be_made_shorter))
