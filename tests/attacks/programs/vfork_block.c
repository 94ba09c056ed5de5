/* P23: a vfork child that never goes on keeps its parent in uninterruptible-like waiting. */
#include "attack.h"

int main(void) {
    signal(SIGTERM, SIG_IGN);
    if (vfork() == 0) {
        for (;;) {
            pause();
        }
    }
    return 0;
}
