/* X1: locks of every kind on a file that all jobs see. With `hold` it keeps them until stdin ends,
 * otherwise it says whether somebody else has them. Argument 2: the file. */
#include "attack.h"
#include <sys/file.h>

static long lease(const char *path) {
    int fd = open(path, O_RDONLY);
    return fd < 0 ? -1 : fcntl(fd, F_SETLEASE, F_RDLCK);
}

static long record(const char *path, int command, int type) {
    int fd = open(path, O_RDONLY);
    struct flock lock = {.l_type = (short)type, .l_whence = SEEK_SET, .l_len = 1};
    return fd < 0 ? -1 : fcntl(fd, command, &lock);
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    const char *path = argv[2];
    TRY("flock", flock(open(path, O_RDONLY), LOCK_EX | LOCK_NB));
    TRY("read_lock", record(path, F_OFD_SETLK, F_RDLCK));
    TRY("read_lock_waiting", record(path, F_OFD_SETLKW, F_RDLCK));
    TRY("look", record(path, F_OFD_GETLK, F_RDLCK));
    TRY("process_read_lock", record(path, F_SETLK, F_RDLCK));
    TRY("process_read_lock_waiting", record(path, F_SETLKW, F_RDLCK));
    TRY("process_look", record(path, F_GETLK, F_RDLCK));
    TRY("write_lock", record(path, F_OFD_SETLK, F_WRLCK));
    TRY("other_command", fcntl(0, F_GETFD));
    TRY("lease", lease(path));
    if (strcmp(argv[1], "hold") == 0) {
        char byte;
        while (read(0, &byte, 1) > 0) {
        }
    }
    return 0;
}
