/* What a job printed: exact caps, the order of arrival, and messages with descriptors. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "internal.h"
#include "test.h"

static void print(int fd, char c, size_t count) {
    char data[256];
    memset(data, c, sizeof data);
    REQUIRE(count <= sizeof data && write(fd, data, count) == (ssize_t)count);
}

static void exactly_the_cap_is_kept(void) {
    struct output output;
    int ends[2];
    REQUIRE(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    REQUIRE(output_init(&output, 4096) == 0);
    for (size_t count = 99; count <= 101; count++) {
        output_begin(&output, 100, false);
        print(ends[1], 'x', count);
        CHECK_EQ(output_read(&output, 0, ends[0], UINT64_MAX), count <= 100);
        CHECK_EQ(output.len[0], count < 100 ? count : 100);
        CHECK_EQ(output.truncated[0], count > 100);
        CHECK_EQ(output.len[1], 0);
        CHECK(!output.truncated[1]);
        output_end(&output);
    }
    close_fd(&ends[0]);
    close_fd(&ends[1]);
}

static void a_cap_of_nothing_keeps_nothing(void) {
    struct output output;
    int ends[2];
    REQUIRE(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    REQUIRE(output_init(&output, 4096) == 0);
    output_begin(&output, 0, true);
    CHECK(output_read(&output, 1, ends[0], UINT64_MAX));
    print(ends[1], 'x', 1);
    CHECK(!output_read(&output, 1, ends[0], UINT64_MAX));
    CHECK_EQ(output.len[1], 0);
    CHECK_EQ(output.segments, 0);
    close_fd(&ends[0]);
    close_fd(&ends[1]);
}

/* As a process of the slot that kept the reading end could arrange. */
static void a_pipe_that_would_wait_does_not(void) {
    struct output output;
    int ends[2];
    REQUIRE(output_init(&output, 4096) == 0);
    SKIP_UNLESS(output.nowait); /* Linux 6.4 */
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    output_begin(&output, 4096, false);
    print(ends[1], 'x', 3);
    CHECK(output_read(&output, 0, ends[0], UINT64_MAX));
    CHECK_EQ(output.len[0], 3);
    close_fd(&ends[0]);
    close_fd(&ends[1]);
}

/* Named pipes do not know RWF_NOWAIT on any kernel, and the one who reads has a writing end. */
static void a_named_pipe_that_would_wait_does_not(void) {
    struct output output;
    char path[64];
    REQUIRE(output_init(&output, 4096) == 0);
    SKIP_UNLESS(output.nowait); /* Linux 6.4 */
    (void)snprintf(path, sizeof path, "/tmp/test_output.%d", (int)getpid());
    REQUIRE(mkfifo(path, 0600) == 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    int writer = open(path, O_WRONLY | O_CLOEXEC);
    REQUIRE(unlink(path) == 0 && reader >= 0 && writer >= 0);
    REQUIRE(fcntl(reader, F_SETFL, 0) == 0);
    output_begin(&output, 4096, false);
    CHECK(!output_read(&output, 0, reader, UINT64_MAX));
    CHECK_EQ(output.len[0], 0);
    close_fd(&reader);
    close_fd(&writer);
}

static void order_of_arrival_is_kept(void) {
    const uint32_t stderr_mark = 1u << 31;
    struct output output;
    int ends[2];
    REQUIRE(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    REQUIRE(output_init(&output, 4096) == 0);
    output_begin(&output, 4096, true);
    static const struct {
        unsigned stream;
        size_t count;
    } parts[] = {{0, 3}, {0, 2}, {1, 7}, {0, 1}, {1, 1}, {1, 1}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        print(ends[1], 'x', parts[i].count);
        CHECK(output_read(&output, parts[i].stream, ends[0], UINT64_MAX));
    }
    REQUIRE(output.segments == 4);
    CHECK_EQ(output.segment[0], 5);
    CHECK_EQ(output.segment[1], stderr_mark | 7);
    CHECK_EQ(output.segment[2], 1);
    CHECK_EQ(output.segment[3], stderr_mark | 2);
    close_fd(&ends[0]);
    close_fd(&ends[1]);
}

static void more_changes_than_are_recorded_do_no_harm(void) {
    struct output output;
    int ends[2];
    REQUIRE(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    REQUIRE(output_init(&output, 65536) == 0);
    output_begin(&output, 65536, true);
    for (unsigned i = 0; i < 2 * SBX_MAX_SEGMENTS; i++) {
        print(ends[1], 'x', 1);
        CHECK(output_read(&output, i % 2, ends[0], UINT64_MAX));
    }
    CHECK_EQ(output.segments, SBX_MAX_SEGMENTS);
    CHECK_EQ(output.len[0] + output.len[1], 2 * SBX_MAX_SEGMENTS);
    close_fd(&ends[0]);
    close_fd(&ends[1]);
}

/* Whoever gets it sees what came, and nothing of what comes later. */
static void output_that_is_given_away_is_whole_and_alone(void) {
    const char byte[] = {'x', 'y'};
    struct output output;
    int ends[2];
    uint32_t order[2];
    REQUIRE(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    REQUIRE(output_init(&output, 5000) == 0);
    int first = output.fd;
    output_begin(&output, 5000, true);
    for (unsigned i = 0; i < 2; i++) {
        print(ends[1], byte[i], 200);
        CHECK(output_read(&output, i, ends[0], UINT64_MAX));
    }
    int fd = output_give_away(&output);
    REQUIRE(fd == first && output.fd >= 0 && output.fd != fd);
    CHECK(output.len[0] == 0 && output.len[1] == 0 && output.segments == 0);
    REQUIRE(output.stride >= 5000);
    output_end(&output);
    output_begin(&output, 5000, false);
    print(ends[1], 'z', 250);
    CHECK(output_read(&output, 0, ends[0], UINT64_MAX));
    CHECK(output.data[0][249] == 'z' && output.data[0][250] == 0);
    for (unsigned i = 0; i < 2; i++) {
        char data[201] = {0};
        CHECK_EQ(pread(fd, data, sizeof data, (off_t)(i * output.stride)), sizeof data);
        CHECK(data[0] == byte[i] && data[199] == byte[i] && data[200] == 0);
    }
    CHECK_EQ(pread(fd, order, sizeof order, (off_t)(2 * output.stride)), sizeof order);
    CHECK(order[0] == 200 && order[1] == (1u << 31 | 200));
    close_fd(&fd);
    output_free(&output);
    close_fd(&ends[0]);
    close_fd(&ends[1]);
}

static void output_that_nobody_can_be_given_stays(void) {
    struct output output;
    struct rlimit before;
    REQUIRE(output_init(&output, 4096) == 0 && getrlimit(RLIMIT_NOFILE, &before) == 0);
    const struct rlimit none = {0, before.rlim_max};
    output_begin(&output, 4096, false);
    output.data[1][7] = 'x';
    REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK_EQ(output_give_away(&output), -1);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(output.fd >= 0 && output.data[1][7] == 'x');
    output_free(&output);
}

/* As of an ordinary user who has such a limit. */
static void a_limit_for_files_costs_what_is_large_alone(void) {
    const struct rlimit small = {1 << 20, RLIM_INFINITY};
    struct output output;
    struct rlimit before;
    int ends[2];
    REQUIRE(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0 && setrlimit(RLIMIT_FSIZE, &small) == 0);
    REQUIRE(output_init(&output, 1 << 20) == 0);
    output_begin(&output, 1 << 20, true);
    print(ends[1], 'x', 3);
    CHECK(output_read(&output, 1, ends[0], UINT64_MAX));
    CHECK(output.len[1] == 3 && output.data[1][2] == 'x');
    CHECK_EQ(output_give_away(&output), -1);
    CHECK_EQ(errno, EFBIG);
    memset(output.data[1], 'x', 1 << 20);
    output.len[1] = 1 << 20;
    output_end(&output);
    CHECK_EQ(output.data[1][0], 0);
    output_free(&output);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    close_fd(&ends[0]);
    close_fd(&ends[1]);
}

/* As where the host has no page: what was read so far is not what the job printed. */
static void output_that_cannot_be_read_is_known(void) {
    struct output output;
    int ends[2];
    REQUIRE(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    REQUIRE(output_init(&output, 4096) == 0 && ftruncate(output.fd, 0) == 0);
    output_begin(&output, 4096, false);
    CHECK(output_read(&output, 0, ends[0], UINT64_MAX) && !output.error);
    print(ends[1], 'x', 1);
    CHECK(!output_read(&output, 0, ends[0], UINT64_MAX));
    CHECK(output.error && !output.truncated[0] && output.len[0] == 0);
    output_begin(&output, 4096, false);
    CHECK(!output.error);
    output_free(&output);
    close_fd(&ends[0]);
    close_fd(&ends[1]);
}

/* As of a program whose output could not be given away. */
static void much_that_was_printed_leaves_no_memory(void) {
    struct output output;
    struct stat st;
    REQUIRE(output_init(&output, 1 << 20) == 0);
    output_begin(&output, 1 << 20, false);
    memset(output.data[1], 'x', 1 << 20);
    output.len[1] = 1 << 20;
    output_end(&output);
    CHECK(fstat(output.fd, &st) == 0 && st.st_blocks == 0);
    CHECK_EQ(output.data[1][0], 0);
    output_free(&output);
}

static unsigned open_descriptors(void) {
    unsigned count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void descriptors_travel_with_a_message(void) {
    int pair[2], ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    char text[8] = "job";
    struct iovec part = {text, 4};
    struct fds sent = {.count = 2, .fd = {ends[0], ends[1]}};
    struct fds received;
    CHECK_EQ(message_send(pair[0], &part, 1, &sent), 4);
    part.iov_len = sizeof text;
    CHECK_EQ(message_receive(pair[1], &part, 1, &received, NULL, 0), 4);
    REQUIRE(received.count == 2);
    CHECK(fcntl(received.fd[0], F_GETFD) & FD_CLOEXEC);
    print(received.fd[1], 'x', 1);
    CHECK(read(ends[0], text, 1) == 1 && text[0] == 'x');
    fds_close(&received);
    CHECK_EQ(received.count, 0);
    fds_close(&sent);
    close_fd(&pair[0]);
    close_fd(&pair[1]);
}

static void a_message_that_was_cut_off_leaves_no_descriptor(void) {
    unsigned before = open_descriptors();
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    char text[8] = "1234567";
    struct iovec part = {text, sizeof text};
    struct fds sent = {.count = 1, .fd = {pair[0]}};
    struct fds received;
    CHECK_EQ(message_send(pair[0], &part, 1, &sent), sizeof text);
    part.iov_len = 4;
    CHECK_EQ(message_receive(pair[1], &part, 1, &received, NULL, 0), -1);
    CHECK_EQ(errno, EMSGSIZE);
    CHECK_EQ(received.count, 0);
    close_fd(&pair[0]);
    CHECK_EQ(message_receive(pair[1], &part, 1, &received, NULL, 0), 0);
    close_fd(&pair[1]);
    CHECK_EQ(open_descriptors(), before);
}

TEST_MAIN(TEST(exactly_the_cap_is_kept), TEST(a_cap_of_nothing_keeps_nothing),
          TEST(a_pipe_that_would_wait_does_not), TEST(a_named_pipe_that_would_wait_does_not),
          TEST(order_of_arrival_is_kept), TEST(more_changes_than_are_recorded_do_no_harm),
          TEST(output_that_is_given_away_is_whole_and_alone),
          TEST(output_that_nobody_can_be_given_stays),
          TEST(a_limit_for_files_costs_what_is_large_alone),
          TEST(output_that_cannot_be_read_is_known), TEST(much_that_was_printed_leaves_no_memory),
          TEST(descriptors_travel_with_a_message),
          TEST(a_message_that_was_cut_off_leaves_no_descriptor))
