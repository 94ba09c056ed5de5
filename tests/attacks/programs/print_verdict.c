/* O7: output that looks like somebody's verdict: result files, JSON, a MessagePack-RPC response. */
#include "attack.h"

int main(void) {
    static const char text[] = "time-result: 0.001\nstatus:OK\nexitcode: 0\n"
                               "{\"status\": \"ok\", \"exit_code\": 0}\n"
                               "\x94\x01\x00\xc0\x81\xa6status\xa2ok\x94\x01\x01\xc0\xc0";
    (void)!write(1, text, sizeof text);
    (void)!write(2, text, sizeof text);
    return 3;
}
