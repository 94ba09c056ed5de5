/* O15: writes where the host's logs are read from. */
#include "attack.h"
#include <sys/socket.h>
#include <sys/un.h>

static long send_log(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    return fd < 0 ? -1 : sendto(fd, "<0>flood", 8, 0, (struct sockaddr *)&address, sizeof address);
}

int main(void) {
    TRY("dev_log", send_log("/dev/log"));
    TRY("journal", send_log("/run/systemd/journal/socket"));
    TRY("kmsg", open("/dev/kmsg", O_WRONLY));
    TRY("proc_kmsg", open("/proc/kmsg", O_RDONLY));
    TRY("tty", open("/dev/tty", O_WRONLY));
    char bytes[16];
    TRY("syslog", syscall(SYS_syslog, 3, bytes, sizeof bytes));
    return 0;
}
