/* touch BYTES: writes to every page of so many bytes of anonymous memory. */
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv) {
    size_t bytes = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        return 1;
    }
    for (size_t i = 0; i < bytes; i += 4096) {
        ((volatile char *)p)[i] = 1;
    }
    return 0;
}
