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

static void take_control(struct msghdr *msg, struct fds *ret_fds, pid_t *ret_pid) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_RIGHTS) {
            /* The control buffer has room for MAX_FDS, so the kernel never hands out more. */
            ret_fds->count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(ret_fds->fd, CMSG_DATA(c), ret_fds->count * sizeof(int));
        } else if (c->cmsg_type == SCM_CREDENTIALS && ret_pid) {
            struct ucred sender;
            memcpy(&sender, CMSG_DATA(c), sizeof sender);
            *ret_pid = sender.pid;
        }
    }
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
    take_control(&msg, ret_fds, ret_pid);
    if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        fds_close(ret_fds);
        errno = EMSGSIZE;
        return -1;
    }
    return n;
}
