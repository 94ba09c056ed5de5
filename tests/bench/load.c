/*
 * load: a client of the daemon's socket that costs as little as a client can.
 *
 * Sends one prepared request (a MessagePack-RPC frame whose msgid is the five-byte form, at offset
 * MSGID_AT) JOBS times over CONNECTIONS connections with INFLIGHT of them under way, checks that
 * each answer has the expected status, and prints the time of each from the moment before it is
 * sent to the moment its answer is there.
 *
 * Output: "elapsed_ns N", then one line with the nanoseconds of each job.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "mp.h"

enum { MAX_CONNECTIONS = 256, BUFFER = 1 << 20, MAX_FRAME = 1 << 20, MSGID_AT = 3 };

struct connection {
    int fd;
    unsigned inflight;
    size_t have;
    uint8_t *buffer;
};

struct load {
    const char *socket;
    const char *status; /* what every answer must say */
    uint8_t frame[MAX_FRAME];
    size_t frame_len;
    unsigned jobs;
    unsigned inflight; /* over all connections */
    unsigned connections;
    unsigned gap_us; /* pause before each job; for one in flight */
    unsigned sent;
    unsigned done;
    uint64_t *sent_at; /* becomes the job's time when the answer is there */
    struct connection connection[MAX_CONNECTIONS];
};

static uint64_t now_ns(void) {
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail for this clock */
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, errno ? strerror(errno) : "refused");
    exit(1);
}

static void open_connection(struct connection *c, const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die(path);
    }
    memcpy(address.sun_path, path, strlen(path));
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0) {
        die(path);
    }
    c->buffer = malloc(BUFFER);
    if (!c->buffer) {
        die("malloc");
    }
}

static void send_job(struct load *l, struct connection *c) {
    uint32_t id = l->sent++;
    size_t at = 0;

    if (l->gap_us != 0) {
        (void)usleep(l->gap_us); /* a shorter pause does no harm */
    }
    for (unsigned i = 0; i < 4; i++) {
        l->frame[MSGID_AT + i] = (uint8_t)(id >> (24 - 8 * i));
    }
    l->sent_at[id] = now_ns();
    while (at < l->frame_len) {
        ssize_t n = send(c->fd, l->frame + at, l->frame_len - at, MSG_NOSIGNAL);

        if (n < 0) {
            die("send");
        }
        at += (size_t)n;
    }
    c->inflight++;
}

static void check_answer(struct load *l, struct mp m) {
    struct mp whole = m;
    struct mp_item error = mp_next(&m);

    if (error.kind == MP_NIL && mp_find(&m, "status") && mp_is(mp_next(&m), l->status)) {
        return;
    }
    fprintf(stderr, "load: answer %u is not '%s': ", l->done, l->status);
    for (const uint8_t *p = whole.at; p < whole.end && p < whole.at + 400; p++) {
        fputc(*p >= ' ' && *p < 127 ? *p : '.', stderr);
    }
    fputc('\n', stderr);
    exit(1);
}

/* One message from the front of the buffer; false when it is not complete. */
static bool take_answer(struct load *l, struct connection *c, struct mp *m) {
    struct mp inside = *m;
    struct mp_item id;
    uint64_t now = now_ns();

    mp_skip(m);
    if (!m->at) {
        return false;
    }
    if (mp_next(&inside).kind != MP_ARRAY || mp_next(&inside).n != 1) {
        errno = EPROTO;
        die("not a response");
    }
    id = mp_next(&inside);
    if (id.kind != MP_UINT || id.n >= l->sent) {
        errno = EPROTO;
        die("unknown msgid");
    }
    check_answer(l, (struct mp){inside.at, m->at});
    l->sent_at[id.n] = now - l->sent_at[id.n];
    l->done++;
    c->inflight--;
    return true;
}

static void receive(struct load *l, struct connection *c) {
    ssize_t n = recv(c->fd, c->buffer + c->have, BUFFER - c->have, 0);
    struct mp m = {c->buffer, c->buffer};
    size_t used = 0;

    if (n <= 0) {
        errno = n == 0 ? ECONNRESET : errno;
        die("recv");
    }
    c->have += (size_t)n;
    m.end = c->buffer + c->have;
    while (used < c->have && take_answer(l, c, &m)) {
        used = (size_t)(m.at - c->buffer);
    }
    c->have -= used;
    memmove(c->buffer, c->buffer + used, c->have);
}

static void fill(struct load *l, struct connection *c) {
    unsigned each = l->inflight / l->connections;

    while (c->inflight < each && l->sent < l->jobs) {
        send_job(l, c);
    }
}

static void run(struct load *l) {
    struct pollfd polls[MAX_CONNECTIONS];

    for (unsigned i = 0; i < l->connections; i++) {
        polls[i] = (struct pollfd){.fd = l->connection[i].fd, .events = POLLIN};
        fill(l, &l->connection[i]);
    }
    while (l->done < l->jobs) {
        if (l->connections > 1 && poll(polls, l->connections, -1) < 0) {
            die("poll");
        }
        for (unsigned i = 0; i < l->connections && l->done < l->jobs; i++) {
            if (l->connections == 1 || polls[i].revents) {
                receive(l, &l->connection[i]);
                fill(l, &l->connection[i]);
            }
        }
    }
}

static void read_frame(struct load *l, const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, l->frame, sizeof l->frame);

    if (n <= MSGID_AT + 4 || l->frame[MSGID_AT - 1] != 0xce) {
        die(path);
    }
    l->frame_len = (size_t)n;
    close(fd);
}

static void parse(struct load *l, int argc, char **argv) {
    int option;

    l->status = "ok";
    l->jobs = 100;
    l->inflight = l->connections = 1;
    while ((option = getopt(argc, argv, "n:k:c:g:s:")) != -1) {
        switch (option) {
        case 'n':
            l->jobs = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'k':
            l->inflight = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'c':
            l->connections = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'g':
            l->gap_us = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 's':
            l->status = optarg;
            break;
        default:
            optind = argc;
            break;
        }
    }
    if (argc - optind != 2 || l->connections == 0 || l->connections > MAX_CONNECTIONS ||
        l->inflight < l->connections || l->jobs == 0) {
        fprintf(stderr, "usage: load [-n JOBS] [-k INFLIGHT] [-c CONNECTIONS] [-g GAP_US] "
                        "[-s STATUS] SOCKET FRAME\n");
        exit(2);
    }
    l->socket = argv[optind];
    read_frame(l, argv[optind + 1]);
}

int main(int argc, char **argv) {
    static struct load l;
    uint64_t start;

    parse(&l, argc, argv);
    l.sent_at = calloc(l.jobs, sizeof *l.sent_at);
    if (!l.sent_at) {
        die("calloc");
    }
    for (unsigned i = 0; i < l.connections; i++) {
        open_connection(&l.connection[i], l.socket);
    }
    start = now_ns();
    run(&l);
    printf("elapsed_ns %llu\n", (unsigned long long)(now_ns() - start));
    for (unsigned i = 0; i < l.jobs; i++) {
        printf("%llu\n", (unsigned long long)l.sent_at[i]);
    }
    return 0;
}
