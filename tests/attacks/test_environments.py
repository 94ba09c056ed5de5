"""Attacks by archives that an administrator imports, and by jobs on what was imported.

Who imports is trusted and what is imported is not: whatever an archive says, nothing outside the
environment's own directory may change, no program of it may run outside a sandbox, and what is
refused leaves nothing.
"""

import gzip
import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandboxd_client import Client, RequestError
from support.daemon import Daemon
from support.environments import (
    eventually,
    files_below,
    import_bytes,
    import_or_refusal,
    imported,
    kept,
    shell,
    state,
)
from support.images import Image, Layout, Member, directory, hardlink, small_root, symlink, tar
from support.jobs import GIB, MIB

BASE = tar(small_root())


@pytest.fixture(autouse=True)
def outside(daemon: Daemon, unharmed: None) -> Iterator[Path]:
    """A directory that everybody may write, the daemon too, and nobody does: what is beside
    the environments stays as it was."""
    place = state(daemon).parent / "outside"
    place.mkdir(exist_ok=True)
    place.chmod(0o777)
    victim = place / "victim"
    victim.write_text("untouched")
    victim.chmod(0o666)
    before = _listed(daemon)
    yield place
    assert victim.read_text() == "untouched"
    eventually(lambda: not kept(daemon), "a refused archive left something")
    assert _listed(daemon) == before


def _listed(daemon: Daemon) -> list[str]:
    return [line for line in files_below(state(daemon).parent) if "runtimes.json" not in line]


def refused(client: Client, archive: bytes) -> str:
    """The message with which it is refused."""
    with pytest.raises(RequestError) as caught:
        import_bytes(client, archive)
    assert caught.value.code == "invalid_argument", caught.value
    return caught.value.message


# -- names that lead out -------------------------------------------------------------------------


def _names(outside: Path) -> dict[str, list[Member]]:
    """Member lists that would write or reveal the victim."""
    victim = str(outside / "victim")
    up = "../" * 8 + victim.lstrip("/")
    return {
        "up": [Member(up, b"x")],
        "absolute": [Member(victim, b"x")],
        "up within": [Member(f"a/b/../../{up}", b"x")],
        "through a link": [symlink("l", str(outside)), Member("l/victim", b"x")],
        "through a relative link": [symlink("l", "../" * 8), Member(f"l{victim}", b"x")],
        "through two links": [symlink("a", ".."), symlink("b", "a/.."), Member("b/x", b"x")],
        "directory through a link": [symlink("l", str(outside)), directory("l/made")],
        "link through a link": [symlink("l", str(outside)), symlink("l/made", "x")],
        "hard link up": [hardlink("mine", up)],
        "hard link absolute": [hardlink("mine", victim)],
        "hard link through a link": [symlink("l", str(outside)), hardlink("mine", "l/victim")],
        "file over a link": [symlink("l", victim), Member("l", b"x")],
        "directory over a link": [symlink("l", str(outside)), directory("l", 0o777),
                                  Member("l/made", b"x")],
        "up and down": [Member("../rootfs/x", b"x")],
        "the description": [Member("../environment.json", b"{}")],
    }  # fmt: skip


def test_root_file_system_that_climbs(client: Client, outside: Path) -> None:
    for members in _names(outside).values():
        refused(client, tar([*small_root(), *members]))


def test_image_archive_that_climbs(client: Client, outside: Path) -> None:
    """The archive around the layers."""
    for members in _names(outside).values():
        refused(client, tar([*Image([BASE]).oci().members(), *members]))


@pytest.mark.parametrize("split", [False, True], ids=["one layer", "two layers"])
def test_layer_that_climbs(client: Client, outside: Path, split: bool) -> None:
    """Split, the link is in one layer and what goes through it in the next; there it may be
    replaced, which is harmless, but never followed."""
    harmless = {"file over a link", "directory over a link"}
    taken = set()
    for kind, (first, *rest) in _names(outside).items():
        if split and not rest:
            continue
        base = [*small_root(), first]
        layers = [base, rest] if split else [[*base, *rest]]
        if _is_taken(client, layers):
            taken.add(kind)
    assert taken == harmless


def _is_taken(client: Client, layers: list[list[Member]]) -> bool:
    """Whether an image of these layers is imported; jobs run in it, then, and it goes again."""
    outcome = import_or_refusal(client, Image([tar(layer) for layer in layers]).oci().tar())
    if isinstance(outcome, RequestError):
        assert outcome.code == "invalid_argument"
        return False
    assert shell(client, outcome, "echo fine").stdout == b"fine\n"
    client.remove_environment(outcome)
    return True


_WHITEOUTS = (".wh...", ".wh..", "a/.wh...", "../.wh.victim", "l/.wh.victim", "l/.wh..wh..opq",
              "../.wh..wh..opq", "a/../../.wh.outside", ".wh.../outside")  # fmt: skip


@pytest.mark.parametrize("split", [False, True], ids=["one layer", "two layers"])
def test_whiteouts_that_climb(client: Client, outside: Path, split: bool) -> None:
    link = [*small_root(), symlink("l", str(outside)), directory("a")]
    taken = {
        whiteout
        for whiteout in _WHITEOUTS
        if _is_taken(client, [link, [Member(whiteout)]] if split else [[*link, Member(whiteout)]])
    }
    assert taken == {".wh.../outside"}  # Which is a file in a directory of an odd name.


def test_whiteout_of_everything(client: Client) -> None:
    """Also of what it lies in: an image without files is none."""
    message = refused(client, Image([BASE, tar([Member(".wh..wh..opq")])]).oci().tar())
    assert "no files" in message


# -- where a sandbox mounts ----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["proc", "dev", "tmp", "work", "piston", "piston/packages"])
def test_mount_point_that_is_a_link(client: Client, outside: Path, path: str) -> None:
    """A mount on it, or a directory made in it, would be on the host."""
    members = tar([*small_root(), symlink(path, str(outside))])
    for archive in (members, Image([members]).oci().tar(), tar(Image([members]).docker())):
        assert f"/{path} is a symbolic link" in refused(client, archive)


def test_mount_point_that_becomes_a_link(client: Client, outside: Path) -> None:
    """In a later layer."""
    layers = [tar([*small_root(), directory("tmp")]),
              tar([Member(".wh.tmp"), symlink("tmp", str(outside))])]  # fmt: skip
    assert "/tmp is a symbolic link" in refused(client, Image(layers).oci().tar())


def test_what_lies_where_a_sandbox_mounts(client: Client) -> None:
    """Is not seen, and not in the way."""
    planted = [Member("dev/null", b"not null"), Member("dev/.slot/x"), Member("proc/self/x"),
               Member("work/x"), Member("tmp/x"), symlink("dev/shm", "/etc"),
               symlink("dev/tty", "/etc/passwd"), Member("piston/packages/c/1.0.0/x")]  # fmt: skip
    with imported(client, tar([*small_root(), *planted])) as name:
        script = "cat /dev/null; echo x > /dev/null; ls -A /work /tmp /dev/shm /piston/packages"
        result = shell(client, name, script)
        assert result.stdout == b"/dev/shm:\n\n/piston/packages:\n\n/tmp:\n\n/work:\n"
        assert result.status == "ok"


# -- what is not what it says --------------------------------------------------------------------


def _replace_blob(layout: Layout, number: int, data: bytes) -> None:
    layout.blobs[list(layout.blobs)[number]] = data


@pytest.mark.parametrize("number", [0, 1, 2, 3], ids=["layer", "second", "config", "manifest"])
def test_digest_mismatch(client: Client, number: int) -> None:
    """Every blob is what the index says, down to the last layer."""
    layout = Image([BASE, tar([Member("x")])]).oci()
    digest = list(layout.blobs)[number]
    other = gzip.compress(tar([Member("evil")])) if number < 2 else layout.blobs[digest] + b" "
    _replace_blob(layout, number, other)
    message = refused(client, layout.tar())
    assert digest.removeprefix("sha256:") in message
    assert f"is damaged: its sha256 is {hashlib.sha256(other).hexdigest()}" in message


def test_digest_mismatch_of_docker_layers(client: Client) -> None:
    image = Image([BASE, tar([Member("x")])])
    members = [Member(member.name, tar([Member("evil")])) if member.name.startswith(f"{1:064x}")
               else member for member in image.docker()]  # fmt: skip
    assert "is damaged: its sha256 is" in refused(client, tar(members))


def _names_another_file(layout: Layout) -> None:
    manifest = json.loads(layout.blobs[layout.manifests[0]["digest"]])
    manifest["layers"][0]["digest"] = "sha256:../../../../../../../../etc/passwd"
    layout.manifests = [layout.json_blob(manifest, "")]


def _has_no_layer(layout: Layout) -> None:
    del layout.blobs[next(iter(layout.blobs))]


def _has_layers_of_text(layout: Layout) -> None:
    manifest = json.loads(layout.blobs[layout.manifests[0]["digest"]])
    manifest["layers"] = [layout.blob(b"no archive at all" * 100, "")]
    layout.manifests = [layout.json_blob(manifest, "")]


@pytest.mark.parametrize("spoil", [_names_another_file, _has_no_layer, _has_layers_of_text])
def test_layers_that_are_none(client: Client, spoil: Callable[[Layout], None]) -> None:
    layout = Image([BASE]).oci()
    spoil(layout)
    refused(client, layout.tar())


def test_blobs_that_are_links(client: Client) -> None:
    layout = Image([BASE]).oci()
    layer = next(iter(layout.blobs)).replace(":", "/")
    members = [symlink(member.name, "/etc/passwd") if member.name.endswith(layer) else member
               for member in layout.members()]  # fmt: skip
    assert "is not in the archive" in refused(client, tar(members))


# -- too much ------------------------------------------------------------------------------------


def _zeros(size: int) -> bytes:
    """A packed tar archive of one file of zeros, made without having it in memory."""
    header = tarfile.TarInfo("zeros")
    header.size = size
    packed = gzip.compress(bytes(MIB), 9)
    # gzip members may follow each other.
    parts = [gzip.compress(header.tobuf()), packed * (size // MIB), gzip.compress(bytes(1024))]
    return b"".join(parts)


def test_layer_that_unpacks_to_more_than_it_is(client: Client, daemon: Daemon) -> None:
    bomb = _zeros(2 * GIB)
    assert len(bomb) < 4 * MIB
    message = refused(client, bomb)
    assert "times its size" in message
    layout = Image([BASE, BASE]).oci()
    manifest = json.loads(layout.blobs[layout.manifests[0]["digest"]])
    manifest["layers"][1] = layout.blob(bomb, "")
    layout.manifests = [layout.json_blob(manifest, "")]
    assert "times its size" in refused(client, layout.tar())


def test_file_that_is_said_to_be_huge(client: Client) -> None:
    header = tarfile.TarInfo("huge")
    header.size = 2**62
    assert "larger than" in refused(client, header.tobuf() + bytes(10240))


def test_too_many_layers(client: Client) -> None:
    layer = tar([Member("x")])
    assert "at most 128" in refused(client, Image([BASE, *[layer] * 128]).oci().tar())


# -- what an environment brings along ------------------------------------------------------------


def test_devices_and_set_id_bits(client: Client) -> None:
    """Devices are not there; set-id bits are gone, and would do nothing."""
    node = Member("node", type=tarfile.CHRTYPE, mode=0o666)
    fifo = Member("fifo", type=tarfile.FIFOTYPE, mode=0o666)
    setid = Member("bin/setid", small_root()[1].data, 0o7755)
    with imported(client, tar([*small_root(), node, fifo, setid])) as name:
        script = (
            "test -e /node -o -e /fifo || echo absent; test -u /bin/setid -o -g /bin/setid"
            " || echo plain; setid -c 'cat /proc/self/status' | while read key value rest; do"
            ' case $key in Uid:|Gid:|CapEff:) echo "$key $value";; esac; done'
        )
        result = shell(client, name, script)
        assert result.stdout == b"absent\nplain\nUid: 1000\nGid: 1000\nCapEff: 0000000000000000\n"


def test_links_of_an_environment_stay_in_the_sandbox(client: Client, outside: Path) -> None:
    """They may lead anywhere: it is always a place in the sandbox."""
    victim = str(outside / "victim")
    links = [
        symlink("absolute", victim),
        symlink("up", "../" * 20 + victim.lstrip("/")),
        symlink("self", "/proc/1/root" + victim),
        symlink("cwd", "/proc/self/cwd/../../.."),
    ]
    with imported(client, tar([*small_root(), *links])) as name:
        script = f"cat /absolute /up /self /cwd{victim}; echo x > /absolute; echo x > /up"
        result = shell(client, name, script)
        assert result.stdout == b""
        assert b"untouched" not in result.stderr


def test_preload_of_an_environment_stays_in_the_sandbox(client: Client, outside: Path) -> None:
    """What the dynamic linker, name lookups or shells read of a root is read by its jobs only: the
    process that prepares a job executes nothing of it before."""
    planted = [
        Member("etc/ld.so.preload", b"/evil.so\n"),
        Member("evil.so", b"\x7fELF broken"),
        Member("etc/nsswitch.conf", b"passwd: evil\n"),
        Member("etc/profile", b"exit 3\n"),
    ]
    with imported(client, tar([*small_root(), *planted])) as name:
        result = shell(client, name, "echo ran")
        assert (result.status, result.stdout) == ("ok", b"ran\n")


def test_job_cannot_change_what_the_next_one_sees(client: Client, daemon: Daemon) -> None:
    """Neither by name nor through another name of the root, nor by its links."""
    with imported(client, tar([*small_root(), Member("open", b"as imported", 0o666)])) as name:
        script = (
            "for file in /open /proc/self/root/open /proc/self/cwd/../open /etc/passwd /bin/sh;"
            " do (echo spoilt > $file); (: > $file.new); done; cat /open"
        )
        for _ in range(3):
            result = shell(client, name, script)
            assert result.stdout == b"as imported"
            assert result.stderr.count(b"Read-only") == 10
        root = state(daemon) / "environments" / name / "rootfs"
        assert (root / "open").read_text() == "as imported"


def test_name_that_is_a_path(client: Client, outside: Path) -> None:
    for name in ("../outside", "/etc", "..", ".", "x/../../outside"):
        with pytest.raises(RequestError, match="name: "):
            import_bytes(client, BASE, name)
        with pytest.raises(RequestError, match="name: "):
            client.remove_environment(name)
        with pytest.raises(RequestError, match="environment: "):
            client.run(["true"], environment=name)


def test_job_cannot_import(client: Client) -> None:
    """No job can reach the socket, in an environment or not."""
    with imported(client, BASE) as name:
        script = "ls -d /run /var /run/sandboxd 2>/dev/null; echo done"
        assert shell(client, name, script).stdout == b"done\n"
    assert os.path.exists("/run")
