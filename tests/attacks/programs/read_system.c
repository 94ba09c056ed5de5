/* M12: reads so many bytes of files below /usr to fill the page cache. */
#include "attack.h"
#include <ftw.h>

static long long wanted, total;

static int visit(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)at;
    if (kind != FTW_F || info->st_size < 65536) {
        return 0;
    }
    static char block[1 << 20];
    int fd = open(path, O_RDONLY);
    ssize_t got;
    while (fd >= 0 && (got = read(fd, block, sizeof block)) > 0) {
        total += got;
    }
    close(fd);
    return total > wanted;
}

int main(int argc, char **argv) {
    wanted = argc > 1 ? atoll(argv[1]) : 0;
    nftw("/usr/lib", visit, 16, FTW_PHYS);
    say_number("read", total);
    return 0;
}
