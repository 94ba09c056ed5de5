/* M10: takes memory that cannot be reclaimed. */
#include "attack.h"
#include <sys/mman.h>

static long map(int flags) {
    void *memory =
        mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    return memory == MAP_FAILED ? -1 : 0;
}

int main(void) {
    TRY("mlockall", mlockall(MCL_CURRENT | MCL_FUTURE));
    TRY("map_locked", map(MAP_LOCKED));
    TRY("huge", map(MAP_HUGETLB));
    TRY("memfd_secret", syscall(447, 0));
    return 0;
}
