/* Messages with descriptors, as whoever has the other end of a socket sends them: to message.c, and
 * through it to init, which the waiting interpreter of a warm slot tells how a job ended. */
#define _GNU_SOURCE
#include <sys/socket.h>

#include "fuzz.h"
#include "internal.h"

enum { WORDS = 65600 };

static void receive_one(int sock, bool credentials) {
    static char words[WORDS];
    struct slot_msg first;
    struct iovec parts[] = {{&first, sizeof first}, {words, SBX_INLINE_BLOB}};
    struct fds fds;
    pid_t pid = 0;
    ssize_t n = message_receive(sock, parts, 2, &fds, credentials ? &pid : NULL, MSG_DONTWAIT);
    FUZZ_CHECK(fds.count <= MAX_FDS && (n >= 0 || !fds.count));
    FUZZ_CHECK(n <= (ssize_t)(sizeof first + SBX_INLINE_BLOB));
    FUZZ_CHECK(!pid || pid == getpid());
    for (unsigned i = 0; i < fds.count; i++)
        FUZZ_CHECK(fcntl(fds.fd[i], F_GETFD) == FD_CLOEXEC);
    fds_close(&fds);
}

static void run_warm(int sock, int peer) {
    struct warm warm = {.pid = 1, .sock = sock};
    struct slot_msg end = {.type = SLOT_END};
    uint64_t resident = 0;
    (void)shutdown(peer, SHUT_WR); /* or it would wait for more */
    if (warm_run(&warm, &end, &resident) == 0)
        FUZZ_CHECK(end.type == SLOT_END && !end.exec_ns && !end.fault.step);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char bytes[WORDS];
    struct input input = {data, size};
    unsigned before = fuzz_count_fds();
    int pair[2];
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    int credentials = take_byte(&input) & 1;
    (void)setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &credentials, sizeof credentials);
    for (unsigned i = 0; i < 8 && input.left; i++) {
        uint8_t what = take_byte(&input), kind = take_byte(&input);
        size_t len = (what & 0x20 ? 65280u : 0u) + take_byte(&input);
        take_bytes(&input, bytes, len < 64 ? len : 64);
        if (what & 0x40)
            len = sizeof(struct warm_msg);
        (void)fuzz_send(pair[1], bytes, len, what % 32, kind);
        if (what & 0x80)
            receive_one(pair[0], credentials);
    }
    run_warm(pair[0], pair[1]);
    close_fd(&pair[0]);
    close_fd(&pair[1]);
    FUZZ_CHECK(fuzz_count_fds() == before);
    return 0;
}
