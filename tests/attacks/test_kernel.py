"""Attacks on the kernel, on namespaces and on privilege."""

import contextlib
import platform
from pathlib import Path

import pytest

from sandboxd_client import Client, RequestError
from support.daemon import Daemon
from support.jobs import SECOND, run_ok
from support.requirements import USER_MODE_LINUX

NATIVE_X86_64 = platform.machine() == "x86_64" and not USER_MODE_LINUX
# User Mode Linux takes int 0x80 for a native call of the same number.
x86_64_only = pytest.mark.skipif(not NATIVE_X86_64, reason="needs an x86-64 kernel's entry points")

NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time")
ROOT_ENTRIES = {
    ".", "..", "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "piston", "proc", "sbin",
    "task", "tmp", "usr", "var", "work",  # "var": where a compiler keeps its settings in /var/lib
}  # fmt: skip


def test_no_way_out_through_proc(client: Client) -> None:
    """K1, K2, K3: roots, working directories and descriptors of others are closed; the program
    files of pid 1 and of the job cannot be overwritten; no descriptor but 0, 1 and 2."""
    found = run_ok(client, "walk_proc")
    top = {name.removeprefix("top_") for name in list(found) if name.startswith("top_")}
    found = {name: value for name, value in found.items() if not name.startswith("top_")}
    assert top <= ROOT_ENTRIES
    for name in ("init_root", "init_cwd", "init_exe", "init_exe_write", "init_root_open",
                 "init_fd", "init_map"):  # fmt: skip
        assert found.pop(name) in {"EACCES", "EPERM", "ENOENT", "EROFS"}, name
    assert found == {
        "self_exe_write": "ETXTBSY",
        "shadow": "ENOENT",
        "same_root": "1",
        "open_fds": "0",
        "escapes": "0",
    }


def test_chroot_escape(client: Client) -> None:
    """K4: EPERM for chroot and pivot_root; ".." ends at the sandbox's own root."""
    found = run_ok(client, "escape_chroot")
    assert found == {
        "chroot": "EPERM",
        "fchdir": "ok",
        "chroot_back": "EPERM",
        "pivot_root": "EPERM",
        "shadow": "ENOENT",
    }


def test_no_new_namespaces(client: Client) -> None:
    """K5, K6, K21: EPERM for unshare, clone and setns; ENOSYS for clone3, whose flags a filter
    cannot see, so that the C library falls back to clone."""
    found = run_ok(client, "make_namespaces")
    for kind in NAMESPACES:
        assert found.pop(f"unshare_{kind}") == "EPERM", kind
        assert found.pop(f"clone3_{kind}") == "ENOSYS", kind
        if kind != "time":
            assert found.pop(f"clone_{kind}") == "EPERM", kind
            assert found.pop(f"clone_user_{kind}") == "EPERM", kind
    assert found.pop("clone3_plain") == "ENOSYS"
    assert found.pop("setns_user") == found.pop("setns_mnt") == "EPERM"
    assert set(found.values()) <= {"EPERM", "EACCES", "ENOENT"}


def test_no_mounts(client: Client) -> None:
    """K7, K8: EPERM for every call of both mount interfaces; the host's mounts are as before."""
    found = run_ok(client, "make_mounts")
    assert len(found) == 19
    assert set(found.values()) == {"EPERM"}


def test_no_devices(client: Client) -> None:
    """K9: EPERM for device nodes; none of the host's is there."""
    found = run_ok(client, "make_devices")
    assert found["memory"] == found["null"] == found["disk"] == "EPERM"
    # A whiteout (character device 0:0) is what unprivileged users may make; it cannot be opened.
    assert found["whiteout"] in {"EPERM", "ok"}
    assert found["loop"] in {"EPERM", "EROFS", "EACCES"}
    missing = ("open_memory", "dev_mem", "dev_disk", "dev_fuse", "dev_kvm", "dev_tun")
    assert {found[name] for name in missing} == {"ENOENT"}


def test_no_file_handles(client: Client) -> None:
    """K10: EPERM."""
    found = run_ok(client, "open_by_handle")
    assert found == {"open_by_handle_at": "EPERM", "name_to_handle_at": "EPERM"}


UNREADABLE = (
    "/proc/kcore", "/proc/keys", "/proc/kallsyms", "/proc/kmsg", "/proc/timer_list",
    "/proc/modules", "/proc/kpageflags", "/proc/vmallocinfo", "/proc/slabinfo", "/proc/iomem",
    "/proc/interrupts", "/proc/locks", "/proc/cmdline", "/proc/config.gz", "/proc/sched_debug",
    "/proc/1/environ", "/proc/1/maps", "/proc/1/stack", "/etc/shadow", "/root/.bashrc",
)  # fmt: skip
UNWRITABLE = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/proc/sys/fs/binfmt_misc/register",
    "/proc/sysrq-trigger", "/sys/kernel/uevent_helper", "/proc/self/uid_map",
    "/proc/self/setgroups", "/proc/self/loginuid", "/proc/irq/default_smp_affinity",
)  # fmt: skip


def test_kernel_switches_and_secrets(client: Client) -> None:
    """K11, K12, K13: switches are read-only, secrets are masked, no cgroup and no /sys is seen."""
    found = run_ok(client, "touch_proc_sys")
    for path in UNWRITABLE:
        assert found[path] in {"EROFS", "EACCES", "EPERM", "ENOENT"}, path
    for path in UNREADABLE:
        assert found[path] in {"empty", "EACCES", "EPERM", "ENOENT"}, path
    assert found["/etc/shadow"] == found["/root/.bashrc"] == "ENOENT"
    for directory in ("/sys", "/sys/firmware", "/sys/fs/cgroup", "/run", "/home"):
        assert found[directory] == "ENOENT", directory
    for directory in ("/proc/acpi", "/proc/scsi"):
        assert found[directory] in {"ENOENT", "0"}, directory
    assert found["/dev/.slot"] == "EACCES"
    assert "mounted" not in found
    assert "cgroup" not in found


DENIED = {
    "EPERM": """
        bpf perf_event_open userfaultfd kcmp process_madvise ptrace fanotify_init quotactl_fd
        add_key request_key keyctl reboot kexec_load kexec_file_load init_module finit_module
        delete_module swapon swapoff acct quotactl sethostname setdomainname clock_settime
        settimeofday adjtimex clock_adjtime vhangup syslog seccomp_listener personality_exec
    """,
    "ENOSYS": "io_uring_setup io_uring_enter io_uring_register after_filter",
}
DENIED_X86_64 = {"EPERM": "iopl ioperm modify_ldt uselib sysfs"}


def test_denied_calls(client: Client) -> None:
    """K14, K15, K16, K19, K23, K29: each fails with the promised errno and the program goes on;
    a filter of the job's own loosens nothing."""
    found = run_ok(client, "deny_syscalls")
    for error, names in DENIED.items():
        for name in names.split():
            assert (name, found.pop(name)) == (name, error)
    if platform.machine() == "x86_64":
        for name in DENIED_X86_64["EPERM"].split():
            assert (name, found.pop(name)) == (name, "EPERM")
    assert found.pop("lookup_dcookie") in {"EPERM", "ENOSYS"}
    assert found.pop("nfsservctl") in {"EPERM", "ENOSYS"}
    # Memory policy of its own pages is a program's right, of another's it is not.
    assert found.pop("move_pages") in {"EPERM", "ENOSYS", "EACCES", "ESRCH"}
    assert found.pop("mbind") in {"EPERM", "ENOSYS", "EINVAL", "ok"}
    assert found == {"personality_norandom": "ok"}


@x86_64_only
def test_foreign_calling_conventions(client: Client) -> None:
    """K17: EPERM for everything through int 0x80, ENOSYS for everything with the x32 bit."""
    found = run_ok(client, "foreign_abi")
    assert found.pop("alive") == "ok"
    for name, outcome in found.items():
        assert (name, outcome) == (name, "EPERM" if name.startswith("i386") else "ENOSYS")
    assert len(found) == 7


def test_garbage_in_the_upper_half(client: Client) -> None:
    """K18: arguments the kernel takes 32 bits of are compared in 32 bits."""
    found = run_ok(client, "high_bits")
    assert found.pop("socket_packet") == "EAFNOSUPPORT"
    assert found.pop("socket_vsock") == found.pop("socket_alg") == "EAFNOSUPPORT"
    assert found.pop("socket_netlink") == "EAFNOSUPPORT"
    assert found.pop("prctl") == "EINVAL"
    assert found == dict.fromkeys(("ioctl_tiocsti", "clone_user", "unshare_user", "personality"),
                                  "EPERM")  # fmt: skip


def test_odd_sockets(client: Client) -> None:
    """K20, X3, N7: EAFNOSUPPORT for every family but Unix and the two Internet ones; no raw
    sockets, no rare protocols; Unix sockets work."""
    found = run_ok(client, "odd_sockets")
    assert found.pop("unix") == found.pop("unix_pair") == "ok"
    for name in ("sctp", "mptcp"):
        assert found.pop(name) == "EPROTONOSUPPORT", name
    for name in ("raw_icmp", "raw_ip", "dccp"):
        assert found.pop(name) == "EPERM", name
    assert found.pop("ping") in {"EACCES", "EPROTONOSUPPORT", "EPERM"}
    assert len(found) == 17
    assert set(found.values()) == {"EAFNOSUPPORT"}


def test_odd_programs(client: Client) -> None:
    """K24: an empty argument list and too large ones are the kernel's business, no crash."""
    # To copy gigabytes of them takes its time on a slow machine.
    limits = {"wall_time_ns": 60 * SECOND, "cpu_time_ns": 60 * SECOND}
    found = run_ok(client, "exec_oddly", limits=limits)
    assert found == {
        "argc_0": "ok",
        "huge_arg": "E2BIG",
        "huge_env": "E2BIG",
        "directory": "EACCES",
        "script": "ENOENT",
        "loop": "ELOOP",
    }


def test_request_with_a_too_long_argument(client: Client) -> None:
    """K24: invalid_argument for what the kernel never takes (MAX_ARG_STRLEN)."""
    with pytest.raises(RequestError) as caught:
        client.run(argv=["/bin/true", "x" * (1 << 20)])
    assert (caught.value.code, caught.value.data) == ("invalid_argument", {"field": "argv[1]"})


def test_request_with_too_many_arguments(client: Client) -> None:
    """K24: invalid_argument where the sum is more than the kernel takes."""
    with pytest.raises(RequestError) as caught:
        client.run(argv=["/bin/true", *(["x" * 100_000] * 200)])
    assert (caught.value.code, caught.value.data) == ("invalid_argument", {"field": "argv"})


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "GLIBC_TUNABLES", "PYTHONSTARTUP", "BASH_ENV", "NODE_OPTIONS"]
)
def test_hostile_environment(client: Client, daemon: Daemon, name: str) -> None:
    """K25: the request's environment reaches the job and nobody else."""
    value = "glibc.malloc.mxfast=glibc.malloc.mxfast=" + "A" * 4096
    result = client.run(argv=["/bin/sh", "-c", "true"], env={name: value})
    assert result.status == "ok"
    for pid in (daemon.pid, *daemon.helpers()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # It has ended.
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"glibc.malloc.mxfast" not in environ


def test_the_daemon_s_socket_is_out_of_reach(client: Client, daemon: Daemon) -> None:
    """K27, K28: the daemon's own socket and its configuration are not in the sandbox."""
    found = run_ok(client, "reach_sockets", daemon.socket)
    assert set(found.values()) <= {"ENOENT", "ECONNREFUSED"}
    directory = Path(daemon.socket).parent
    result = client.run(argv=["ls", str(directory), str(directory / "sandboxd.toml")])
    assert (result.status, result.stdout) == ("nonzero_exit", b"")


def test_nothing_of_the_daemon_is_in_the_environment(client: Client) -> None:
    """K27: the environment is the configured one, nothing of the daemon's."""
    result = client.run(argv=["env"])
    names = {line.partition(b"=")[0] for line in result.stdout.splitlines()}
    assert names == {b"PATH", b"HOME", b"LANG"}
