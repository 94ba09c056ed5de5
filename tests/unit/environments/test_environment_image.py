"""Container images out of unpacked archives."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd.environments import beneath, image
from sandboxd.environments.errors import ImportRefused
from support.images import INDEX_TYPE, MACHINE, Image, Layout, Member, tar

LAYER = tar([Member("a", b"1")])
OTHER = "s390x"


@pytest.fixture
def at(tmp_path: Path) -> Iterator[int]:
    """The directory an archive was unpacked into."""
    fd = os.open(tmp_path, beneath.DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def put(tmp_path: Path) -> Callable[[list[Member]], None]:
    """Unpack an archive, of honest members only."""

    def put(members: list[Member]) -> None:
        for member in members:
            path = tmp_path / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.to:
                path.symlink_to(member.to)
            else:
                path.write_bytes(member.data)

    return put


Put = Callable[[list[Member]], None]


def read(at: int) -> image.Image:
    return image.read(at, image.find(at))


def test_oci_image(at: int, put: Put) -> None:
    layers = [tar([Member("a", b"1")]), tar([Member("b", b"2")])]
    layout = Image(layers, env=["PATH=/a:/b", "EMPTY="], working_dir="/srv").oci()
    put(layout.members())
    found = read(at)
    assert found.source == "oci"
    assert found.defaults.env == {"PATH": "/a:/b", "EMPTY": ""}
    assert found.defaults.working_directory == "/srv"
    blobs = list(layout.blobs)[:2]
    assert [layer.path for layer in found.layers] == [blob.replace("sha256:", "blobs/sha256/")
                                                      for blob in blobs]  # fmt: skip
    assert [f"sha256:{layer.sha256}" for layer in found.layers] == blobs


@pytest.mark.parametrize("duplicates", [False, True])
def test_docker_image(at: int, put: Put, duplicates: bool) -> None:
    made = Image([LAYER, tar([])], env=["A=b=c"])
    put(made.docker(duplicates=duplicates))
    found = read(at)
    assert (found.source, found.defaults.env) == ("docker", {"A": "b=c"})
    diff_ids = made.config()["rootfs"]["diff_ids"]
    assert [f"sha256:{layer.sha256}" for layer in found.layers] == diff_ids
    for layer, content in zip(found.layers, made.layers, strict=True):
        assert beneath.read_file(at, layer.path, 100_000) == content


def test_what_both_tools_read_is_oci(at: int, put: Put) -> None:
    """`docker save` since version 25 writes both descriptions into one archive."""
    made = Image([LAYER])
    put([*made.oci().members(), *made.docker()])
    assert image.find(at) == "oci"


def test_root_file_system_is_no_image(at: int, put: Put) -> None:
    put([Member("bin/sh"), Member("manifest.json", b"[]")])
    assert image.find(at) == ""


def test_links_are_not_taken_for_an_image(at: int, put: Put, tmp_path: Path) -> None:
    (tmp_path / "oci-layout").symlink_to("/etc/passwd")
    (tmp_path / "index.json").symlink_to("/etc/passwd")
    (tmp_path / "manifest.json").symlink_to("/etc/passwd")
    assert image.find(at) == ""


def test_one_for_this_machine_of_several(at: int, put: Put) -> None:
    layout = Image([LAYER], env=["HERE=1"]).oci()
    other = Image([LAYER], env=["HERE=0"], platform={"os": "linux", "architecture": OTHER}).oci()
    layout.blobs |= other.blobs
    several = {"schemaVersion": 2, "manifests": [*other.manifests, *layout.manifests]}
    layout.manifests = [layout.json_blob(several, INDEX_TYPE)]
    put(layout.members())
    assert read(at).defaults.env == {"HERE": "1"}


def test_index_without_a_media_type(at: int, put: Put) -> None:
    """What an older skopeo wrote."""
    layout = Image([LAYER], env=["A=1"]).oci()
    inner = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": layout.manifests}
    descriptor = layout.json_blob(inner, "")
    del descriptor["mediaType"]
    layout.manifests = [descriptor]
    put(layout.members())
    assert read(at).defaults.env == {"A": "1"}


def _two_images(layout: Layout) -> None:
    layout.manifests += Image([LAYER], env=["A=1"]).oci().manifests


def _endless_index(layout: Layout) -> None:
    for _ in range(6):
        layout.manifests = [layout.json_blob({"manifests": layout.manifests}, INDEX_TYPE)]


def _damaged_manifest(layout: Layout) -> None:
    layout.blobs[layout.manifests[0]["digest"]] += b" "


def _missing_manifest(layout: Layout) -> None:
    del layout.blobs[layout.manifests[0]["digest"]]


def _climbing_digest(layout: Layout) -> None:
    layout.manifests[0]["digest"] = "sha256:../../../../etc/passwd"


def _md5(layout: Layout) -> None:
    layout.manifests[0]["digest"] = "md5:" + 32 * "0"


def _no_object(layout: Layout) -> None:
    layout.manifests = [layout.json_blob([], "")]


def _deep(layout: Layout) -> None:
    layout.manifests = [layout.blob(b'{"config":' + b"[" * 500_000, "")]


def _too_long(layout: Layout) -> None:
    layout.manifests = [layout.blob(b" " * 5_000_000, "")]


def _no_text(layout: Layout) -> None:
    layout.manifests = [layout.blob(b'{"config": "\xff\xfe"}', "")]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(_two_images, "2 images"), (_endless_index, "without end"),
     (_damaged_manifest, "is damaged"), (_missing_manifest, "cannot be read from the archive"),
     (_climbing_digest, "is not a sha256 digest"), (_md5, "is not a sha256 digest"),
     (_no_object, "is not what the format says"), (_deep, "is not what the format says"),
     (_too_long, "more than 4194304 bytes"), (_no_text, "is not what the format says")],
)  # fmt: skip
def test_wrong_oci_image(at: int, put: Put, spoil: Callable[[Layout], None], message: str) -> None:
    layout = Image([LAYER]).oci()
    spoil(layout)
    put(layout.members())
    with pytest.raises(ImportRefused, match=message):
        read(at)


@pytest.mark.parametrize(
    ("made", "message"),
    [(Image([]), "no layers"),
     (Image([LAYER] * 129), "129 layers; at most 128"),
     (Image([LAYER], env=["novalue"]), "'novalue' is not one"),
     (Image([LAYER], env=["=x"]), "'=x' is not one"),
     (Image([LAYER], env=["A=\0"]), "is not one"),
     (Image([LAYER], env=[f"A{n}=" + "x" * 10_000 for n in range(14)]), "more than 131071 bytes"),
     (Image([LAYER], env=["A=" + "\u20ac" * 50_000]), "more than 131071 bytes"),
     (Image([LAYER], platform={"os": "linux", "architecture": OTHER}), f"is for linux/{OTHER}"),
     (Image([LAYER], platform={"os": "windows", "architecture": MACHINE}), "is for windows/")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_wrong_config(at: int, put: Put, kind: str, made: Image, message: str) -> None:
    put(made.oci().members() if kind == "oci" else made.docker())
    with pytest.raises(ImportRefused, match=message):
        read(at)


def _edit_docker(members: list[Member], **changes: Any) -> list[Member]:
    *rest, manifest = members
    images = [json.loads(manifest.data)[0] | changes]
    return [*rest, Member("manifest.json", json.dumps(images).encode())]


@pytest.mark.parametrize(
    "path",
    ["../../etc/passwd", "/etc/passwd", "absent", "out/layer.tar", "absolute", "loop", "", "dir",
     "dir/..", "a\0b", "manifest.json/x"],
)  # fmt: skip
def test_layers_outside_the_archive(at: int, put: Put, tmp_path: Path, path: str) -> None:
    put(_edit_docker(Image([LAYER]).docker(), Layers=[path]))
    (tmp_path / "dir").mkdir()
    (tmp_path / "out").symlink_to("/tmp")
    (tmp_path / "absolute").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ImportRefused, match="is not in the archive"):
        read(at)


@pytest.mark.parametrize("path", ["../../../../etc/passwd", "/etc/passwd", "link", "absent", ""])
def test_config_outside_the_archive(at: int, put: Put, tmp_path: Path, path: str) -> None:
    put(_edit_docker(Image([LAYER]).docker(), Config=path))
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(ImportRefused, match="cannot be read from the archive"):
        read(at)


def test_several_docker_images(at: int, put: Put) -> None:
    images = [{"Config": "c", "RepoTags": [tag], "Layers": []} for tag in ("one", "two")]
    put([Member("manifest.json", json.dumps(images).encode())])
    with pytest.raises(ImportRefused, match=r"2 images \(one, two\); save one image alone"):
        read(at)


def test_other_number_of_layers_than_the_config_says(at: int, put: Put) -> None:
    members = Image([LAYER]).docker()
    put(_edit_docker(members, Layers=[members[1].name] * 2))
    with pytest.raises(ImportRefused, match="2 layers and its config lists 1"):
        read(at)
