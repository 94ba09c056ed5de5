/* O15: writes where the host's logs are read from. */
#include "attack.h"
#include <sys/socket.h>
#include <sys/un.h>

/* How much of the kernel's log can be read: without waiting for more, as an empty file does. */
static long read_log(void) {
    char bytes[256];
    int fd = open("/proc/kmsg", O_RDONLY | O_NONBLOCK);
    return fd < 0 ? 0 : (long)read(fd, bytes, sizeof bytes);
}

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
    say_number("kmsg_bytes", read_log());
    TRY("kmsg_write", open("/proc/kmsg", O_WRONLY));
    TRY("tty", open("/dev/tty", O_WRONLY));
    char bytes[16];
    TRY("syslog", syscall(SYS_syslog, 3, bytes, sizeof bytes));
    TRY("syslog_clear", syscall(SYS_syslog, 5, NULL, 0));
    return 0;
}
