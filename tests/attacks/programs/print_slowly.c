/* O4: one byte each 10 ms, for ever. */
#include "attack.h"

int main(void) {
    for (;;) {
        (void)!write(1, ".", 1);
        usleep(10000);
    }
}
