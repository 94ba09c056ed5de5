/* K17: calls that are denied, made through the other calling conventions of an x86-64 kernel:
 * `int 0x80` (i386) and numbers with the x32 bit. */
#include "attack.h"

static long i386_call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c)
                     : "memory", "r8", "r9", "r10", "r11");
    return result;
}

static void say_raw(const char *name, long result) {
    errno = result < 0 && result > -4096 ? (int)-result : 0;
    say(name, errno ? strerrorname_np(errno) : "ok");
}

int main(void) {
    say_raw("i386_getpid", i386_call(20, 0, 0, 0));
    say_raw("i386_mount", i386_call(21, 0, 0, 0));
    say_raw("i386_unshare", i386_call(310, 0x10000000, 0, 0));
    TRY("x32_getpid", syscall(0x40000000 | SYS_getpid));
    TRY("x32_unshare", syscall(0x40000000 | SYS_unshare, 0x10000000));
    TRY("x32_mount", syscall(0x40000000 | SYS_mount, NULL, NULL, NULL, 0, NULL));
    TRY("x32_execve", syscall(0x40000000 | 520, "/bin/true", NULL, NULL));
    say("alive", "ok");
    return 0;
}
