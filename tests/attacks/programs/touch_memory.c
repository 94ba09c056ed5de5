/* Touches exactly so many bytes of fresh memory and exits 0. */
#include "attack.h"
#include <sys/mman.h>

int main(int argc, char **argv) {
    size_t size = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    if (size > 0) {
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        touch(memory, size);
    }
    return 0;
}
