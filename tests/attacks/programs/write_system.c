/* D10, X8, K8: writes where only the administrator may: read-only trees, the root, caches. */
#include "attack.h"

int main(void) {
    TRY("usr_file", open("/usr/bin/env", O_WRONLY));
    TRY("usr_create", open("/usr/planted", O_WRONLY | O_CREAT, 0644));
    TRY("usr_lib_create", open("/usr/lib/python3/planted.pyc", O_WRONLY | O_CREAT, 0644));
    TRY("usr_unlink", unlink("/usr/bin/env"));
    TRY("usr_link", link("/usr/bin/env", "/work/env"));
    TRY("usr_chmod", chmod("/usr/bin/env", 0777));
    TRY("usr_utime", utimensat(AT_FDCWD, "/usr/bin/env", NULL, 0));
    TRY("root_mkdir", mkdir("/planted", 0755));
    TRY("root_file", open("/planted", O_WRONLY | O_CREAT, 0644));
    TRY("etc_create", open("/etc/planted", O_WRONLY | O_CREAT, 0644));
    TRY("dev_create", open("/dev/planted", O_WRONLY | O_CREAT, 0644));
    TRY("proc_create", open("/proc/planted", O_WRONLY | O_CREAT, 0644));
    TRY("lib_rename", rename("/usr", "/old"));
    return 0;
}
