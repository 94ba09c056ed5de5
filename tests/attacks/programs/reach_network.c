/* N1, N2: the Internet, name servers, private and link-local addresses, the cloud's metadata
 * service, and a port of the host's loopback (argument 1). Says how long all of it took. */
#include "attack.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static void reach4(const char *address, int type, int port) {
    char name[64];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, address, &to.sin_addr);
    int fd = socket(AF_INET, type, 0);
    snprintf(name, sizeof name, "%s_%s", type == SOCK_STREAM ? "tcp" : "udp", address);
    if (type == SOCK_STREAM) {
        TRY(name, fd < 0 ? -1 : connect(fd, (struct sockaddr *)&to, sizeof to));
    } else {
        TRY(name, fd < 0 ? -1 : sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to));
    }
}

static void reach6(const char *address, int port) {
    char name[64];
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    inet_pton(AF_INET6, address, &to.sin6_addr);
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    snprintf(name, sizeof name, "tcp6_%s", address);
    TRY(name, fd < 0 ? -1 : connect(fd, (struct sockaddr *)&to, sizeof to));
}

int main(int argc, char **argv) {
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    reach4("1.1.1.1", SOCK_STREAM, 80);
    reach4("8.8.8.8", SOCK_DGRAM, 53);
    reach4("255.255.255.255", SOCK_DGRAM, 67);
    reach4("224.0.0.1", SOCK_DGRAM, 5353);
    reach4("169.254.169.254", SOCK_STREAM, 80);
    reach4("10.0.0.1", SOCK_STREAM, 22);
    reach4("192.168.0.1", SOCK_STREAM, 80);
    reach4("172.17.0.1", SOCK_STREAM, 80);
    reach4("127.0.0.1", SOCK_STREAM, argc > 1 ? atoi(argv[1]) : 1);
    reach4("127.0.0.53", SOCK_DGRAM, 53);
    reach6("2606:4700:4700::1111", 80);
    reach6("fd00::1", 80);
    reach6("::1", argc > 1 ? atoi(argv[1]) : 1);
    say_number("took_ms", (long long)((clock_ns(CLOCK_MONOTONIC) - start) / 1000000));
    return 0;
}
