/* M1: touches every page of a static array of 512 MiB. */
#include "attack.h"

static char big[512u << 20];

int main(void) {
    touch(big, sizeof big);
    say("touched", "ok");
    return 0;
}
