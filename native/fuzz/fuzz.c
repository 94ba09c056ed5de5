#define _GNU_SOURCE
#include "fuzz.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SEEN_FDS = 256, MOST_FDS = 32 };

/* As the helper does. */
__attribute__((constructor)) static void ignore_broken_pipes(void) {
    (void)signal(SIGPIPE, SIG_IGN);
}

void fuzz_make_directory(char *ret, size_t size) {
    const char *tmp = getenv("TMPDIR");
    int len = snprintf(ret, size, "%s/sandboxd-fuzz-XXXXXX", tmp ? tmp : "/tmp");
    FUZZ_CHECK(len > 0 && (size_t)len < size && mkdtemp(ret));
}

unsigned fuzz_count_fds(void) {
    unsigned count = 0;
    for (int fd = 0; fd < SEEN_FDS; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static int open_pipe(int flags) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | flags) < 0)
        return -1;
    (void)close(ends[1]);
    return ends[0];
}

int fuzz_open(uint8_t kind) {
    int fd = -1;
    switch (kind % 6) {
    case 0:
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        break;
    case 1:
        fd = open_pipe(O_NONBLOCK);
        break;
    case 2:
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        break;
    case 3:
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        break;
    case 4:
        fd = eventfd(1, EFD_CLOEXEC);
        break;
    default:
        fd = open("/", O_PATH | O_CLOEXEC);
    }
    FUZZ_CHECK(fd >= 0);
    return fd;
}

bool fuzz_send(int sock, const void *data, size_t len, unsigned fds, uint8_t kind) {
    union {
        char space[CMSG_SPACE(sizeof(int) * MOST_FDS)];
        struct cmsghdr align;
    } control = {0};
    int fd[MOST_FDS];
    struct iovec part = {(void *)data, len};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};
    FUZZ_CHECK(fds <= MOST_FDS);
    for (unsigned i = 0; i < fds; i++)
        fd[i] = fuzz_open((uint8_t)(kind + i));
    if (fds) {
        msg.msg_control = control.space;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * fds);
        struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fds);
        memcpy(CMSG_DATA(header), fd, sizeof(int) * fds);
    }
    ssize_t n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    for (unsigned i = 0; i < fds; i++)
        (void)close(fd[i]);
    return n >= 0;
}
