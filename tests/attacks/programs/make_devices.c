/* K9: device nodes for the disk, the memory and the null device, then opening them. */
#include "attack.h"
#include <sys/sysmacros.h>

int main(void) {
    TRY("memory", mknod("mem", S_IFCHR | 0666, makedev(1, 1)));
    TRY("null", mknod("null", S_IFCHR | 0666, makedev(1, 3)));
    TRY("disk", mknod("disk", S_IFBLK | 0666, makedev(254, 0)));
    TRY("loop", mknod("/dev/loop0", S_IFBLK | 0666, makedev(7, 0)));
    TRY("whiteout", mknod("whiteout", S_IFCHR | 0666, makedev(0, 0)));
    TRY("open_memory", open("mem", O_RDONLY));
    TRY("dev_mem", open("/dev/mem", O_RDONLY));
    TRY("dev_disk", open("/dev/vda", O_RDONLY));
    TRY("dev_fuse", open("/dev/fuse", O_RDWR));
    TRY("dev_kvm", open("/dev/kvm", O_RDWR));
    TRY("dev_tun", open("/dev/net/tun", O_RDWR));
    return 0;
}
