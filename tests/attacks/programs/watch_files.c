/* Tries to be told what others do with the files all sandboxes share. */
#include "attack.h"
#include <sys/inotify.h>
#include <sys/syscall.h>

int main(void) {
    int dir = open("/usr/bin", O_RDONLY | O_DIRECTORY);
    TRY("inotify", inotify_init1(0));
    TRY("dnotify", fcntl(dir, F_NOTIFY, DN_ACCESS | DN_MULTISHOT));
    struct {
        unsigned long offset, length;
    } range = {0, 4096};
    unsigned long counts[5];
    TRY("cachestat", syscall(451, dir, &range, counts, 0));
    TRY("sync", syscall(SYS_sync));
    return 0;
}
