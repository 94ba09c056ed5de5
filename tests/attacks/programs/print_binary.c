/* O5, O6: bytes that are no text: all 256 values, NULs, broken UTF-8, a lone surrogate, escape
 * sequences; and a character of three bytes in three writes. */
#include "attack.h"

int main(void) {
    char all[256];
    for (int i = 0; i < 256; i++) {
        all[i] = (char)i;
    }
    (void)!write(1, all, sizeof all);
    (void)!write(1, "\xed\xa0\x80\x1b[2J\r\xc3", 9);
    const char *euro = "\xe2\x82\xac";
    for (int i = 0; i < 3; i++) {
        (void)!write(1, euro + i, 1);
        usleep(2000);
    }
    (void)!write(2, "\0\xff\0", 3);
    return 0;
}
