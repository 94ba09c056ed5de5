/* P11, P20: spins for ever in as many threads as asked, every signal ignored. */
#include "attack.h"
#include <pthread.h>

static void *spin(void *turns) {
    while (turns == NULL) {
    }
    return turns;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    for (int number = 1; number < NSIG; number++) {
        signal(number, SIG_IGN);
    }
    for (int i = 1; i < threads; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, spin, NULL);
    }
    return spin(NULL) != NULL;
}
