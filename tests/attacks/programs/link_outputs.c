/* F1, F2, F3, F4: leaves everything but regular files under names that will be collected, and one
 * honest file beside them. */
#include "attack.h"
#include <sys/socket.h>
#include <sys/un.h>

int main(void) {
    TRY("passwd", symlink("/etc/passwd", "passwd"));
    TRY("self", symlink("honest", "to_honest"));
    TRY("zero", symlink("/dev/zero", "zero"));
    TRY("random", symlink("/dev/urandom", "random"));
    TRY("proc", symlink("/proc/self/environ", "environ"));
    TRY("parent", symlink("../../../../etc", "up"));
    TRY("fifo", mkfifo("fifo", 0666));
    TRY("directory", mkdir("directory", 0777));
    TRY("device", mknod("device", S_IFCHR | 0666, 1 << 8 | 5));
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
    TRY("socket",
        bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address));
    int fd = open("honest", O_WRONLY | O_CREAT, 0644);
    (void)!write(fd, "honest", 6);
    close(fd);
    TRY("hardlink", link("honest", "linked"));
    TRY("hardlink_usr", link("/usr/bin/env", "env"));
    TRY("hardlink_passwd", link("/etc/passwd", "hard_passwd"));
    fd = open("closed", O_WRONLY | O_CREAT, 0000);
    (void)!write(fd, "closed", 6);
    return 0;
}
