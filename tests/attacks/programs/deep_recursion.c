/* M4: recursion without an end. */
#include "attack.h"

static volatile int sink;

__attribute__((noinline)) static int deeper(int depth) {
    volatile char frame[1024];
    frame[0] = (char)depth;
    return depth < 0 ? 0 : deeper(depth + 1) + frame[0];
}

int main(void) {
    sink = deeper(0);
    return sink;
}
