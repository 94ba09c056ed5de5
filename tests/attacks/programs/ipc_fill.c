/* M6: IPC objects that hold memory of the kernel's: semaphore sets, messages in queues. */
#include "attack.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

static void fill_semaphores(void) {
    for (long sets = 0;; sets++) {
        if (semget(IPC_PRIVATE, 32000, IPC_CREAT | 0600) < 0) {
            say("sem", strerrorname_np(errno));
            say_number("sets", sets);
            return;
        }
    }
}

static void fill_queues(void) {
    static struct {
        long type;
        char text[4096];
    } message = {.type = 1};
    for (long queues = 0;; queues++) {
        int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
        if (id < 0) {
            say("msg", strerrorname_np(errno));
            say_number("queues", queues);
            return;
        }
        while (msgsnd(id, &message, sizeof message.text, IPC_NOWAIT) == 0) {
        }
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "sem") == 0) {
        fill_semaphores();
    } else {
        fill_queues();
    }
    return 0;
}
