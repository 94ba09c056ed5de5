/* flood BYTES: writes so many bytes to stdout. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    static char block[1 << 16];
    size_t left = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;

    memset(block, 'x', sizeof block);
    while (left > 0) {
        ssize_t n = write(1, block, left < sizeof block ? left : sizeof block);

        if (n < 0) {
            return 1;
        }
        left -= (size_t)n;
    }
    return 0;
}
