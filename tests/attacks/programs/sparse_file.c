/* D2, F14: a file of a terabyte (or of the size given) without blocks. */
#include "attack.h"

int main(int argc, char **argv) {
    off_t size = argc > 1 ? (off_t)atoll(argv[1]) : (off_t)1 << 40;
    signal(SIGXFSZ, SIG_IGN);
    int fd = open("sparse", O_RDWR | O_CREAT, 0644);
    TRY("ftruncate", ftruncate(fd, size));
    TRY("fallocate", argc > 1 ? 0 : fallocate(fd, 0, 0, size));
    TRY("keep_size", argc > 1 ? 0 : fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, size));
    struct stat info;
    fstat(fd, &info);
    say_number("size", info.st_size);
    say_number("blocks", info.st_blocks);
    return 0;
}
