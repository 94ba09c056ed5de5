/* M10: takes memory that cannot be reclaimed, or that is not counted. */
#include "attack.h"
#include <linux/memfd.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>

static long map(int flags) {
    void *memory =
        mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    return memory == MAP_FAILED ? -1 : 0;
}

/* The pages that the kernel makes huge by itself are memory as any other. */
static long advise(void) {
    const size_t size = 4 << 20;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -1;
    long result = madvise(memory, size, MADV_HUGEPAGE);
    touch(memory, size);
    return result;
}

int main(void) {
    TRY("mlockall", mlockall(MCL_CURRENT | MCL_FUTURE));
    TRY("map_locked", map(MAP_LOCKED));
    TRY("huge_map", map(MAP_HUGETLB));
    TRY("huge_map_1g", map(MAP_HUGETLB | 30 << MAP_HUGE_SHIFT));
    TRY("huge_memfd", memfd_create("huge", MFD_HUGETLB));
    TRY("huge_memfd_exec", memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_ALLOW_SEALING));
    TRY("huge_shm", shmget(IPC_PRIVATE, 4 << 20, IPC_CREAT | SHM_HUGETLB | 0600));
    TRY("advised", advise());
    TRY("memfd", memfd_create("usual", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    TRY("memfd_secret", syscall(447, 0));
    return 0;
}
