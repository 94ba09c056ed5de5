/* P17: raises every resource limit it has, and those of pid 1. */
#include "attack.h"
#include <sys/resource.h>

int main(void) {
    for (int which = 0; which < RLIM_NLIMITS; which++) {
        struct rlimit limit;
        getrlimit(which, &limit);
        if (limit.rlim_max == RLIM_INFINITY) {
            continue;
        }
        struct rlimit more = {limit.rlim_max + 1, limit.rlim_max + 1};
        char name[32];
        snprintf(name, sizeof name, "rlimit_%d", which);
        TRY(name, setrlimit(which, &more));
    }
    struct rlimit none = {0, 0};
    TRY("prlimit_init", prlimit(1, RLIMIT_NOFILE, &none, NULL));
    return 0;
}
