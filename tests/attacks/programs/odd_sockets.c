/* K20, X3, N7: sockets of the kinds whose kernel code has been broken into most often. */
#include "attack.h"
#include <linux/netlink.h>
#include <sys/socket.h>

int main(void) {
    static const struct {
        const char *name;
        int family, type, protocol;
    } kinds[] = {
        {"packet", AF_PACKET, SOCK_RAW, 0x0300},
        {"packet_dgram", AF_PACKET, SOCK_DGRAM, 0x0300},
        {"raw_icmp", AF_INET, SOCK_RAW, 1},
        {"raw_ip", AF_INET, SOCK_RAW, 255},
        {"ping", AF_INET, SOCK_DGRAM, 1},
        {"sctp", AF_INET, SOCK_STREAM, 132},
        {"dccp", AF_INET, SOCK_DCCP, 33},
        {"mptcp", AF_INET, SOCK_STREAM, 262},
        {"alg", AF_ALG, SOCK_SEQPACKET, 0},
        {"vsock", AF_VSOCK, SOCK_STREAM, 0},
        {"rds", AF_RDS, SOCK_SEQPACKET, 0},
        {"tipc", AF_TIPC, SOCK_STREAM, 0},
        {"can", AF_CAN, SOCK_RAW, 1},
        {"bluetooth", AF_BLUETOOTH, SOCK_RAW, 1},
        {"xdp", AF_XDP, SOCK_RAW, 0},
        {"key", AF_KEY, SOCK_RAW, 2},
        {"kcm", AF_KCM, SOCK_DGRAM, 0},
        {"qipcrtr", AF_QIPCRTR, SOCK_DGRAM, 0},
        {"netlink_route", AF_NETLINK, SOCK_RAW, NETLINK_ROUTE},
        {"netlink_netfilter", AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER},
        {"netlink_xfrm", AF_NETLINK, SOCK_RAW, NETLINK_XFRM},
        {"netlink_audit", AF_NETLINK, SOCK_RAW, NETLINK_AUDIT},
        {"netlink_uevent", AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT},
        {"unix", AF_UNIX, SOCK_STREAM, 0},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        TRY(kinds[i].name, socket(kinds[i].family, kinds[i].type, kinds[i].protocol));
    }
    int pair[2];
    TRY("unix_pair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    return 0;
}
