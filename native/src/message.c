/* One message over a SOCK_SEQPACKET socket, with file descriptors and the sender's pid. */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <sys/uio.h>

#include "internal.h"

union control {
    char space[CMSG_SPACE(sizeof(int) * MAX_FDS) + CMSG_SPACE(sizeof(struct ucred))];
    struct cmsghdr align;
};

void fds_close(struct fds *fds) {
    for (unsigned i = 0; i < fds->count; i++)
        close_fd(&fds->fd[i]);
    fds->count = 0;
}

ssize_t message_send(int sock, const struct iovec *parts, size_t count, const struct fds *fds) {
    union control control;
    struct msghdr msg = {.msg_iov = (struct iovec *)parts, .msg_iovlen = count};
    if (fds && fds->count) {
        size_t bytes = sizeof(int) * fds->count;
        msg.msg_control = control.space;
        msg.msg_controllen = CMSG_SPACE(bytes);
        struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(header), fds->fd, bytes);
    }
    ssize_t n;
    do
        n = sendmsg(sock, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}

/* Where no credentials come, the kernel fills their place in the control buffer with further
 * descriptors, so there can be more than MAX_FDS. Returns false then. */
static bool take_fds(struct cmsghdr *header, struct fds *ret) {
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    bool fits = count <= MAX_FDS;
    for (size_t i = 0; i < count; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
        if (fits)
            ret->fd[ret->count++] = fd;
        else
            close_fd(&fd);
    }
    return fits;
}

static bool take_control(struct msghdr *msg, struct fds *ret_fds, pid_t *ret_pid) {
    bool whole = true;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_RIGHTS) {
            whole = take_fds(c, ret_fds);
        } else if (c->cmsg_type == SCM_CREDENTIALS && ret_pid) {
            struct ucred sender;
            memcpy(&sender, CMSG_DATA(c), sizeof sender);
            *ret_pid = sender.pid;
        }
    }
    return whole;
}

ssize_t message_receive(int sock, const struct iovec *parts, size_t count, struct fds *ret_fds,
                        pid_t *ret_pid, int flags) {
    union control control;
    struct msghdr msg = {.msg_iov = (struct iovec *)parts,
                         .msg_iovlen = count,
                         .msg_control = control.space,
                         .msg_controllen = sizeof control.space};
    ret_fds->count = 0;
    ssize_t n;
    do
        n = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return n;
    bool whole = take_control(&msg, ret_fds, ret_pid);
    if (!whole || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        fds_close(ret_fds);
        errno = EMSGSIZE;
        return -1;
    }
    return n;
}
