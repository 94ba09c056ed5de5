/* N3, K27, K28: Unix sockets of the host: abstract ones ("@name") and paths, all given as
 * arguments; and where the daemons' sockets usually are. */
#include "attack.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static void reach(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, path, sizeof to.sun_path - 1);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (path[0] == '@') {
        to.sun_path[0] = 0;
    }
    TRY(path, connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&to, length));
}

int main(int argc, char **argv) {
    reach("/run/sandboxd/sandboxd.sock");
    reach("/run/docker.sock");
    reach("/run/dbus/system_bus_socket");
    reach("@/tmp/.X11-unix/X0");
    for (int i = 1; i < argc; i++) {
        reach(argv[i]);
    }
    return 0;
}
