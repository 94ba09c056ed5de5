/* K7, K8: every call of the old and of the new mount API. */
#include "attack.h"
#include <linux/mount.h>
#include <sys/mount.h>

int main(void) {
    mkdir("m", 0777);
    TRY("tmpfs", mount("none", "m", "tmpfs", 0, NULL));
    TRY("proc", mount("none", "m", "proc", 0, NULL));
    TRY("overlay", mount("none", "m", "overlay", 0, "lowerdir=/usr,upperdir=/tmp,workdir=/work"));
    TRY("bind", mount("/usr", "m", NULL, MS_BIND, NULL));
    TRY("bind_proc", mount("/work", "/proc/sys", NULL, MS_BIND, NULL));
    TRY("remount_usr", mount(NULL, "/usr", NULL, MS_REMOUNT | MS_BIND, NULL));
    TRY("remount_root", mount(NULL, "/", NULL, MS_REMOUNT, NULL));
    TRY("shared", mount(NULL, "/", NULL, MS_SHARED | MS_REC, NULL));
    TRY("move", mount("/tmp", "m", NULL, MS_MOVE, NULL));
    TRY("umount", umount2("/usr", 0));
    TRY("umount_detach", umount2("/proc", MNT_DETACH));
    TRY("pivot_root", syscall(SYS_pivot_root, "m", "m"));
    TRY("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/usr", OPEN_TREE_CLONE));
    TRY("move_mount", syscall(SYS_move_mount, AT_FDCWD, "/tmp", AT_FDCWD, "m", 0));
    TRY("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    TRY("fspick", syscall(SYS_fspick, AT_FDCWD, "/tmp", 0));
    TRY("fsconfig", syscall(SYS_fsconfig, 0, 6, NULL, NULL, 0));
    TRY("fsmount", syscall(SYS_fsmount, 0, 0, 0));
    struct mount_attr attributes = {.attr_clr = MOUNT_ATTR_RDONLY};
    TRY("mount_setattr",
        syscall(SYS_mount_setattr, AT_FDCWD, "/usr", 0, &attributes, sizeof attributes));
    return 0;
}
