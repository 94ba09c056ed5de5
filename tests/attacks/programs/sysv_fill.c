/* M6: fills SysV shared memory segments and detaches them, so that no mapping holds the pages. */
#include "attack.h"
#include <sys/ipc.h>
#include <sys/shm.h>

int main(void) {
    for (int i = 0; i < 64; i++) {
        int id = shmget(IPC_PRIVATE, 16 << 20, IPC_CREAT | 0600);
        if (id < 0) {
            say("shmget", strerrorname_np(errno));
            return 0;
        }
        void *memory = shmat(id, NULL, 0);
        touch(memory, 16 << 20);
        shmdt(memory);
    }
    say("filled", "ok");
    return 0;
}
