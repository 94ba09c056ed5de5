/* Messages with descriptors, from a peer that may send any number of them. */
#define _GNU_SOURCE
#include <sys/socket.h>

#include "internal.h"
#include "test.h"

enum { MANY = 14 }; /* as many as the kernel finds room for in the control buffer, and one more */

static unsigned count_fds(void) {
    unsigned count = 0;
    for (int fd = 0; fd < 64; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void send_fds(int sock, unsigned count) {
    char space[CMSG_SPACE(sizeof(int) * (MANY + 1))] = {0};
    char byte = 1;
    struct iovec part = {&byte, 1};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = space,
                         .msg_controllen = CMSG_SPACE(sizeof(int) * count)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    for (unsigned i = 0; i < count; i++)
        memcpy(CMSG_DATA(header) + i * sizeof sock, &sock, sizeof sock);
    REQUIRE(sendmsg(sock, &msg, 0) == 1);
}

/* The struct lies between others in the queue's memory: nothing may be written behind it. */
static void receive(int sock, unsigned sent, pid_t *pid) {
    char byte;
    struct iovec part = {&byte, 1};
    struct {
        struct fds fds;
        char behind[64];
    } memory;
    memset(&memory, 0x5a, sizeof memory);
    ssize_t n = message_receive(sock, &part, 1, &memory.fds, pid, MSG_DONTWAIT);
    CHECK_EQ(n, sent <= MAX_FDS ? 1 : -1);
    CHECK(n > 0 || errno == EMSGSIZE);
    CHECK_EQ(memory.fds.count, sent <= MAX_FDS ? sent : 0);
    for (size_t i = 0; i < sizeof memory.behind; i++)
        CHECK_EQ(memory.behind[i], 0x5a);
    fds_close(&memory.fds);
}

static void too_many_descriptors_are_refused_and_closed(void) {
    for (int credentials = 0; credentials < 2; credentials++) {
        int pair[2];
        pid_t pid = 0;
        REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
        REQUIRE(setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &credentials, sizeof credentials) ==
                0);
        unsigned before = count_fds();
        for (unsigned sent = 1; sent <= MANY + 1; sent++) {
            send_fds(pair[1], sent);
            receive(pair[0], sent, credentials ? &pid : NULL);
            CHECK_EQ(count_fds(), before);
        }
        CHECK_EQ(pid, credentials ? getpid() : 0);
        close_fd(&pair[0]);
        close_fd(&pair[1]);
    }
}

static void what_an_interpreter_sends_along_is_closed(void) {
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    struct warm warm = {.pid = 1, .sock = pair[0]};
    struct slot_msg end = {.type = SLOT_END};
    uint64_t resident;
    unsigned before = count_fds();
    send_fds(pair[1], 3);
    CHECK_EQ(warm_run(&warm, &end, &resident), -1);
    CHECK_EQ(count_fds(), before);
    close_fd(&pair[0]);
    close_fd(&pair[1]);
}

TEST_MAIN(TEST(too_many_descriptors_are_refused_and_closed),
          TEST(what_an_interpreter_sends_along_is_closed))
