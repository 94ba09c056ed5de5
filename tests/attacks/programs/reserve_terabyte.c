/* M14: what Go, the JVM and ASan do: reserve a terabyte, use a page of it. It must work. */
#include "attack.h"
#include <sys/mman.h>

int main(void) {
    size_t size = (size_t)1 << 40;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TRY("mmap", memory == MAP_FAILED ? -1 : 0);
    if (memory == MAP_FAILED) {
        return 1;
    }
    memory[size / 2] = 1;
    memory = mremap(memory, size, 2 * size, MREMAP_MAYMOVE);
    TRY("mremap", memory == MAP_FAILED ? -1 : 0);
    say_number("byte", memory[size / 2]);
    return 0;
}
