/* D4, D5: a chain of ten thousand directories, names nobody likes, directories without permission,
 * an immutable file: things a clean-up by path would stumble over. */
#include "attack.h"
#include <linux/fs.h>
#include <sys/ioctl.h>

int main(void) {
    char longest[256] = {0};
    memset(longest, 'n', 255);
    TRY("long_name", mkdir(longest, 0777));
    TRY("newline", mkdir("new\nline", 0777));
    TRY("not_utf8", mkdir("\xff\xfe", 0777));
    TRY("dash", mkdir("-rf", 0777));
    TRY("closed", mkdir("closed", 0777));
    TRY("inside", mkdir("closed/inside", 0777));
    TRY("chmod", chmod("closed", 0));
    int fd = open("fixed", O_RDWR | O_CREAT, 0444), flags = FS_IMMUTABLE_FL | FS_APPEND_FL;
    TRY("immutable", ioctl(fd, FS_IOC_SETFLAGS, &flags));
    long depth = 0;
    while (depth < 10000 && mkdir("d", 0777) == 0 && chdir("d") == 0) {
        depth++;
    }
    say_number("depth", depth);
    return 0;
}
