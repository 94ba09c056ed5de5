/* M5: writes into a directory (or `memfd`) until the kernel refuses; several files, so that the
 * limit of one file is not what is met. */
#include "attack.h"
#include <sys/mman.h>

int main(int argc, char **argv) {
    const char *where = argc > 1 ? argv[1] : "/tmp";
    static char block[1 << 20];
    long long written = 0;
    signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < 4096; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/fill%d", where, i);
        int fd = strcmp(where, "memfd") == 0 ? memfd_create("fill", 0)
                                             : open(path, O_WRONLY | O_CREAT, 0600);
        if (fd < 0) {
            say("open", strerrorname_np(errno));
            break;
        }
        for (int k = 0; k < 4; k++) {
            ssize_t done = write(fd, block, sizeof block);
            if (done < 0) {
                say("write", strerrorname_np(errno));
                say_number("written", written);
                return 0;
            }
            written += done;
        }
    }
    say_number("written", written);
    return 0;
}
