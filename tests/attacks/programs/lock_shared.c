/* X1: a lock on a file all jobs share, as a channel between them. `hold` keeps it until stdin ends.
 */
#include "attack.h"
#include <sys/file.h>

int main(int argc, char **argv) {
    int fd = open("/usr/bin/env", O_RDONLY);
    struct flock record = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    if (argc > 1 && strcmp(argv[1], "hold") == 0) {
        TRY("flock", flock(fd, LOCK_EX));
        char byte;
        while (read(0, &byte, 1) > 0) {
        }
        return 0;
    }
    TRY("flock", flock(fd, LOCK_EX | LOCK_NB));
    TRY("read_lock", fcntl(fd, F_SETLK, &record));
    record.l_type = F_WRLCK;
    TRY("write_lock", fcntl(fd, F_SETLK, &record));
    TRY("lease", fcntl(fd, F_SETLEASE, F_RDLCK));
    TRY("lease_write", fcntl(fd, F_SETLEASE, F_WRLCK));
    return 0;
}
