/* D7: dies with a core of a terabyte after asking for cores without a limit. */
#include "attack.h"
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

int main(void) {
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    TRY("rlimit_core", setrlimit(RLIMIT_CORE, &limit));
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    void *memory = mmap(NULL, (size_t)1 << 40, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    touch(memory, 1 << 20);
    abort();
}
