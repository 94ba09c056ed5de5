/* O1, O2, O3: prints for ever to descriptor 1 or 2, in blocks of the size given. Byte n of the
 * output is 'a' + n % 23, so that a wrong prefix is seen. */
#include "attack.h"

int main(int argc, char **argv) {
    int fd = argc > 1 ? atoi(argv[1]) : 1;
    size_t size = (argc > 2 ? strtoull(argv[2], NULL, 10) : 4096) / 23 * 23;
    char *block = malloc(size);
    for (size_t i = 0; i < size; i++) {
        block[i] = (char)('a' + i % 23);
    }
    signal(SIGPIPE, SIG_IGN);
    for (size_t at = 0;;) {
        ssize_t done = write(fd, block + at, size - at);
        at = done < 0 ? at : (at + (size_t)done) % size;
    }
}
