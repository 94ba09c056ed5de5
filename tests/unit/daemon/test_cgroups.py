"""The cgroup tree: found from the kernel's words, prepared, cleaned. The trees here are plain
directories; tests/integration/test_daemon_life.py has the real one."""

import os
import subprocess
from pathlib import Path

import pytest

from sandboxd import cgroups
from sandboxd.errors import HostError

OWN = f"sandboxd-{os.getpid()}"


class Tree:
    """A made-up /proc/self and the hierarchies it tells of."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        self.proc.mkdir()
        self._membership: list[str] = []
        self._mounts: list[str] = ["20 1 0:5 / /proc rw - proc proc rw"]
        self._write()

    def _write(self) -> None:
        (self.proc / "cgroup").write_text("".join(f"{line}\n" for line in self._membership))
        (self.proc / "mountinfo").write_text("\n".join(self._mounts) + "\n")

    def v1(self, controllers: str, own: str = "/", mount_root: str = "/") -> Path:
        """Mount a v1 hierarchy and put this process into ``own``."""
        point = self.root / controllers
        number = len(self._membership) + 1
        self._membership.append(f"{number}:{controllers}:{own}")
        self._mounts.append(
            f"{30 + number} 20 0:{number} {mount_root} {_escape(point)} rw - cgroup cgroup "
            f"rw,{controllers}"
        )
        directory = point / os.path.relpath(own, mount_root)
        directory.mkdir(parents=True)
        self._write()
        return directory

    def v2(self, own: str, controllers: str) -> Path:
        point = self.root / "unified"
        self._membership.append(f"0::{own}")
        self._mounts.append(f"40 20 0:40 / {_escape(point)} rw,nosuid - cgroup2 cgroup2 rw")
        directory = point / own.strip("/")
        directory.mkdir(parents=True)
        (directory / "cgroup.controllers").write_text(controllers)
        (directory / "cgroup.subtree_control").write_text("")
        (directory / "cgroup.procs").write_text("")
        self._write()
        return directory


def _escape(path: Path) -> str:
    return str(path).replace(" ", "\\040")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "a tree"
    root.mkdir()
    return Tree(root)


def test_own_groups_are_found_in_every_hierarchy(tree: Tree) -> None:
    memory = tree.v1("memory", "/system.slice/x.service")
    cpu = tree.v1("cpu,cpuacct")
    unified = tree.v2("/y", "")
    found = {
        item.controllers: (item.version, item.own) for item in cgroups.find_hierarchies(tree.proc)
    }
    assert found == {
        frozenset({"memory"}): (1, memory),
        frozenset({"cpu", "cpuacct"}): (1, cpu),
        frozenset(): (2, unified),
    }


def test_a_mount_of_a_part_of_the_tree(tree: Tree) -> None:
    """As in a container: the mount's root is a group, and ours is below it."""
    own = tree.v1("memory", "/docker/abc/inner", mount_root="/docker/abc")
    (item,) = cgroups.find_hierarchies(tree.proc)
    assert item.own.resolve() == own.resolve()


def test_a_mount_that_does_not_show_our_group_is_of_no_use(tree: Tree) -> None:
    tree.v1("memory", "/elsewhere", mount_root="/docker/abc")
    assert cgroups.find_hierarchies(tree.proc) == []


def test_v1_groups_are_made_and_locked(tree: Tree) -> None:
    parents = [tree.v1(name) for name in ("memory", "pids", "cpuacct")]
    groups = cgroups.prepare(tree.proc)
    assert groups.version == 1
    assert groups.arguments() == [f"cg_{parent.name}={parent / OWN}" for parent in parents]
    assert all((parent / OWN).is_dir() for parent in parents)
    assert len(groups.locks) == 3
    assert dict(groups.describe())["pids"] == f"v1, {parents[1] / OWN}"
    groups.directories = {}
    groups.remove()


@pytest.mark.parametrize("missing", ["memory", "pids", "cpuacct"])
def test_a_missing_v1_controller_is_named(tree: Tree, missing: str) -> None:
    for name in ("memory", "pids", "cpuacct", "cpuset"):
        if name != missing:
            tree.v1(name)
    with pytest.raises(HostError, match=f"controller {missing} is missing: mount"):
        cgroups.prepare(tree.proc)


@pytest.mark.parametrize("missing", ["memory", "pids"])
def test_a_missing_v2_controller_is_named(tree: Tree, missing: str) -> None:
    names = {"memory", "pids", "cpu"} - {missing}
    tree.v2("/own", " ".join(names))
    with pytest.raises(HostError, match=f"controller {missing} is not available"):
        cgroups.prepare(tree.proc)


def test_no_hierarchy_at_all(tree: Tree) -> None:
    with pytest.raises(HostError, match="no cgroup hierarchy is mounted"):
        cgroups.prepare(tree.proc)


def test_a_tree_that_cannot_be_written(tree: Tree) -> None:
    for name in ("memory", "pids", "cpuacct"):
        tree.v1(name)
    (tree.root / "pids").rmdir()
    (tree.root / "pids").symlink_to("/proc/self")
    with pytest.raises(HostError, match="cannot set up the cgroup") as caught:
        cgroups.prepare(tree.proc)
    assert "Delegate=yes" in str(caught.value)
    assert not (tree.root / "memory" / OWN).exists()


def test_who_is_not_root_is_told_the_commands(tree: Tree) -> None:
    for name in ("memory", "pids", "cpuacct", "cpu"):
        tree.v1(name)
    (tree.root / "pids").rmdir()
    (tree.root / "pids").symlink_to("/proc/self")
    with pytest.raises(HostError, match="cannot set up the cgroup") as caught:
        cgroups.prepare(tree.proc, user="alice")
    groups = " ".join(str(tree.root / name) for name in ("memory", "pids", "cpuacct", "cpu"))
    assert (
        f"as root, for your shell: for g in {groups}; do mkdir -p $g/alice; chown alice $g/alice;"
        f" echo {os.getppid()} >$g/alice/cgroup.procs; done" in str(caught.value)
    )


def test_who_is_not_root_and_has_pure_v2(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tree.v2("/own", "cpu")
    monkeypatch.setattr(cgroups, "_SYSTEMD", tree.root / "none")
    with pytest.raises(HostError, match="controller memory is not available") as caught:
        cgroups.prepare(tree.proc, user="alice")
    assert f"g={own}/alice; mkdir $g; echo {os.getppid()} >$g/cgroup.procs" in str(caught.value)
    monkeypatch.setattr(cgroups, "_SYSTEMD", tree.root)
    for runtime in (tree.root, tree.root / "none"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
        with pytest.raises(HostError, match="systemd-run --user --scope -p Delegate=yes") as caught:
            cgroups.prepare(tree.proc, user="alice")
        assert ("loginctl enable-linger alice" in str(caught.value)) != runtime.exists()


def test_groups_of_dead_daemons_are_removed_and_others_left(tree: Tree) -> None:
    memory, pids, cpuacct = (tree.v1(name) for name in ("memory", "pids", "cpuacct"))
    for parent in (memory, pids, cpuacct):
        for name in ("sandboxd-1", "sandboxd-x", "other", "sandboxd-77"):
            (parent / name).mkdir()
        (parent / "sandboxd-1" / "slot-0").mkdir()
    with subprocess.Popen(
        ["flock", pids / "sandboxd-77", "sh", "-c", "echo locked; read x"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        groups = cgroups.prepare(tree.proc)
        assert sorted(entry.name for entry in pids.iterdir()) == sorted(
            ["sandboxd-x", "other", "sandboxd-77", OWN]
        )
        assert sorted(entry.name for entry in memory.iterdir()) == sorted(
            ["sandboxd-x", "other", OWN]
        )
        holder.communicate(b"\n")
    groups.directories = {}
    groups.remove()
