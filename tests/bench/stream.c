/*
 * stream: how fast a job's streamed output arrives.
 *
 * Sends one prepared `job.start` request, counts the bytes of its `job.output` notifications until
 * `job.exit`, and checks their number and the job's status.
 *
 * Output: "elapsed_ns N" and "messages N".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "mp.h"

enum { BUFFER = 4 << 20, MAX_FRAME = 1 << 16 };

struct stream {
    int fd;
    bool ended;
    size_t have;
    uint64_t bytes;
    uint64_t messages;
    uint8_t *buffer;
};

static uint64_t now_ns(void) {
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail for this clock */
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "stream: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        die(path);
    }
    return fd;
}

static void send_file(int fd, const char *path) {
    static uint8_t frame[MAX_FRAME];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = file < 0 ? -1 : read(file, frame, sizeof frame);

    if (n <= 0 || send(fd, frame, (size_t)n, MSG_NOSIGNAL) != n) {
        die(path);
    }
    close(file);
}

static void refuse(const char *why, struct mp m) {
    fprintf(stderr, "stream: %s: ", why);
    for (const uint8_t *p = m.at; p < m.end && p < m.at + 400; p++) {
        fputc(*p >= ' ' && *p < 127 ? *p : '.', stderr);
    }
    fputc('\n', stderr);
    exit(1);
}

static void notification(struct stream *s, struct mp m) {
    struct mp whole = m;
    struct mp_item method = mp_next(&m);

    (void)mp_next(&m); /* the array around the params */
    if (mp_is(method, "job.output") && mp_find(&m, "data")) {
        s->bytes += mp_next(&m).n;
    } else if (mp_is(method, "job.exit")) {
        if (!mp_find(&m, "result") || !mp_find(&m, "status") || !mp_is(mp_next(&m), "ok")) {
            refuse("the job did not end ok", whole);
        }
        s->ended = true;
    }
}

static void message(struct stream *s, struct mp m) {
    uint64_t kind;

    s->messages++;
    (void)mp_next(&m); /* the array around the message */
    kind = mp_next(&m).n;
    if (kind == 2) {
        notification(s, m);
        return;
    }
    mp_skip(&m);
    if (mp_next(&m).kind != MP_NIL) {
        refuse("job.start was refused", m);
    }
}

static void receive(struct stream *s) {
    ssize_t n = recv(s->fd, s->buffer + s->have, BUFFER - s->have, 0);
    struct mp m = {s->buffer, s->buffer};
    size_t used = 0;

    if (n <= 0) {
        errno = n == 0 ? ECONNRESET : errno;
        die("recv");
    }
    s->have += (size_t)n;
    m.end = s->buffer + s->have;
    while (used < s->have) {
        struct mp inside = m;

        mp_skip(&m);
        if (!m.at) {
            break;
        }
        message(s, (struct mp){inside.at, m.at});
        used = (size_t)(m.at - s->buffer);
    }
    s->have -= used;
    memmove(s->buffer, s->buffer + used, s->have);
}

int main(int argc, char **argv) {
    static struct stream s;
    uint64_t start;

    if (argc != 4) {
        fprintf(stderr, "usage: stream SOCKET FRAME BYTES\n");
        return 2;
    }
    s.buffer = malloc(BUFFER);
    if (!s.buffer) {
        die("malloc");
    }
    s.fd = connect_to(argv[1]);
    start = now_ns();
    send_file(s.fd, argv[2]);
    while (!s.ended) {
        receive(&s);
    }
    if (s.bytes != strtoull(argv[3], NULL, 10)) {
        fprintf(stderr, "stream: %llu bytes came\n", (unsigned long long)s.bytes);
        return 1;
    }
    printf("elapsed_ns %llu\nmessages %llu\n", (unsigned long long)(now_ns() - start),
           (unsigned long long)s.messages);
    return 0;
}
