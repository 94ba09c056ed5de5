"""Reading container images: an OCI image layout, or what `docker save` writes.

Both come as a tar archive that has been unpacked into a directory. Here it is found out which of
the two it is, if any, and what its layers and its configuration are; nothing is believed that a
digest does not prove, where the format has digests (OCI: of everything; docker: of the layers).
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from sandboxd.environments import beneath
from sandboxd.environments.description import Defaults
from sandboxd.environments.errors import ImportRefused
from sandboxd.protocol.jobs import MAX_STRING_BYTES

OCI: Final = "oci"
DOCKER: Final = "docker"

MAX_LAYERS: Final = 128  # Docker makes at most 127.
_MAX_JSON_BYTES: Final = 4 * 1024 * 1024  # what registries take as a manifest
_MAX_INDEXES: Final = 4  # an index may name another one
_MAX_ENV_BYTES: Final = MAX_STRING_BYTES  # Together; then none of them is too long for execve.

_LAYOUT_FILE: Final = "oci-layout"
_INDEX_FILE: Final = "index.json"
_DOCKER_FILE: Final = "manifest.json"
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_INDEX_TYPES: Final = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
# Go's names of what uname(2) says of the machine.
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}

_T = TypeVar("_T")
Digest = Annotated[str, Meta(max_length=256)]


class _Platform(Struct, frozen=True):
    architecture: str = ""
    os: str = ""


class _Descriptor(Struct, frozen=True, rename={"media_type": "mediaType"}):
    digest: Digest
    media_type: str = ""
    platform: _Platform | None = None


class _Index(Struct, frozen=True):
    manifests: list[_Descriptor]


class _Manifest(Struct, frozen=True):
    config: _Descriptor
    layers: list[_Descriptor]


class _Docker(Struct, frozen=True, rename="pascal"):
    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


class _Process(Struct, frozen=True, rename="pascal"):
    env: list[str] | None = None
    working_dir: str = ""


class _Rootfs(Struct, frozen=True):
    diff_ids: list[Digest]


class _Config(Struct, frozen=True):
    rootfs: _Rootfs
    config: _Process | None = None
    architecture: str = ""
    os: str = ""


class Layer(Struct, frozen=True):
    """One layer: its file in the unpacked archive, and the digest it must have."""

    path: str
    sha256: str


class Image(Struct, frozen=True):
    """An image, lowest layer first."""

    source: str
    layers: list[Layer]
    defaults: Defaults


def find(directory: int) -> str:
    """What an unpacked archive is: `oci`, `docker`, or empty for a plain root file system."""
    if beneath.is_file(directory, _LAYOUT_FILE) and beneath.is_file(directory, _INDEX_FILE):
        return OCI
    if beneath.is_file(directory, _DOCKER_FILE) and not beneath.kind(directory, "bin"):
        return DOCKER
    return ""


def read(directory: int, source: str) -> Image:
    """The image in an unpacked archive of the kind that `find` found. Raises ImportRefused."""
    image = _read_oci(directory) if source == OCI else _read_docker(directory)
    if not image.layers:
        raise ImportRefused("the image has no layers")
    return image


# -- OCI image layout --------------------------------------------------------------------------


def _read_oci(directory: int) -> Image:
    index = _decode(_read(directory, _INDEX_FILE), _Index, _INDEX_FILE)
    manifest = _choose_manifest(directory, index)
    _require_few(manifest.layers)
    config = _decode(_read_blob(directory, manifest.config), _Config, "the image's config")
    _check(config, len(manifest.layers))
    layers = [Layer(_blob_path(blob.digest), _sha256(blob.digest)) for blob in manifest.layers]
    return Image(OCI, layers, _defaults(config))


def _choose_manifest(directory: int, index: _Index) -> _Manifest:
    """The one image for this machine, also behind an index of images for several."""
    for _ in range(_MAX_INDEXES):
        descriptor = _choose(index.manifests)
        data = _read_blob(directory, descriptor)
        kind = descriptor.media_type or _media_type(data)
        if kind not in _INDEX_TYPES:
            return _decode(data, _Manifest, f"manifest {descriptor.digest}")
        index = _decode(data, _Index, f"index {descriptor.digest}")
    raise ImportRefused("the image's indexes name each other without end")


def _media_type(data: bytes) -> str:
    found = _decode(data, dict[str, Any], "a manifest").get("mediaType", "")
    return found if isinstance(found, str) else ""


def _choose(manifests: list[_Descriptor]) -> _Descriptor:
    machine = _MACHINES.get(os.uname().machine, os.uname().machine)
    if len(manifests) == 1:
        return manifests[0]
    fitting = [
        item
        for item in manifests
        if item.platform is not None
        and (item.platform.os, item.platform.architecture) == ("linux", machine)
    ]
    if len({item.digest for item in fitting}) == 1:
        return fitting[0]
    raise ImportRefused(
        f"the archive has {len(manifests)} images, {len(fitting)} of them said to be for"
        f" linux/{machine}; export one image alone"
    )


def _blob_path(digest: str) -> str:
    return f"blobs/sha256/{_sha256(digest)}"


def _sha256(digest: str) -> str:
    """The hexadecimal digits of a digest. Others than SHA-256 are allowed, but nobody uses one."""
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ImportRefused(f"{digest[:80]!r} is not a sha256 digest")
    return match[1]


def _read_blob(directory: int, blob: _Descriptor) -> bytes:
    path = _blob_path(blob.digest)
    data = _read(directory, path)
    found = hashlib.sha256(data).hexdigest()
    if found != _sha256(blob.digest):
        raise ImportRefused(f"{path} is damaged: its sha256 is {found}")
    return data


# -- docker save -------------------------------------------------------------------------------


def _read_docker(directory: int) -> Image:
    images = _decode(_read(directory, _DOCKER_FILE), list[_Docker], _DOCKER_FILE)
    if len(images) != 1:
        tags = [tag for image in images for tag in image.repo_tags or ()]
        names = f" ({', '.join(tags[:8])})" if tags else ""
        raise ImportRefused(f"the archive has {len(images)} images{names}; save one image alone")
    image = images[0]
    _require_few(image.layers)
    config = _decode(_read(directory, image.config), _Config, "the image's config")
    _check(config, len(image.layers))
    layers = [
        # `docker save` writes layers as they are, not packed.
        Layer(_layer_path(directory, path), _sha256(diff_id))
        for path, diff_id in zip(image.layers, config.rootfs.diff_ids, strict=True)
    ]
    return Image(DOCKER, layers, _defaults(config))


def _layer_path(directory: int, path: str) -> str:
    """Where a layer is in the archive. One that occurs twice is a link to the other place."""
    parent, _, name = path.rpartition("/")
    try:
        if beneath.is_file(directory, path):
            return path
        above = os.open(parent, beneath.DIRECTORY, dir_fd=directory) if parent else -1
        try:
            link = os.readlink(name, dir_fd=directory if above < 0 else above)
        finally:
            if above >= 0:
                os.close(above)
    except (OSError, ValueError):
        raise ImportRefused(f"{path[:200]} is not in the archive; save the whole image") from None
    target = posixpath.normpath(posixpath.join(parent, link))
    if not beneath.is_file(directory, target):
        raise ImportRefused(f"{path} is a link to {target[:200]}, which is not in the archive")
    return target


# -- both --------------------------------------------------------------------------------------


def _read(directory: int, path: str) -> bytes:
    try:
        return beneath.read_file(directory, path, _MAX_JSON_BYTES)
    except (OSError, ValueError) as exc:
        why = (isinstance(exc, OSError) and exc.strerror) or str(exc)
        raise ImportRefused(f"{path[:200]} cannot be read from the archive: {why}") from exc


def _decode(data: bytes, type_: type[_T], what: str) -> _T:
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ImportRefused(f"{what} is not what the format says: {exc}") from None


def _require_few(layers: list[Any]) -> None:
    if len(layers) > MAX_LAYERS:
        raise ImportRefused(f"the image has {len(layers)} layers; at most {MAX_LAYERS} are taken")


def _check(config: _Config, layers: int) -> None:
    listed = len(config.rootfs.diff_ids)
    if listed != layers:
        raise ImportRefused(f"the image has {layers} layers and its config lists {listed}")
    machine = _MACHINES.get(os.uname().machine, os.uname().machine)
    if config.os not in ("", "linux") or config.architecture not in ("", machine):
        raise ImportRefused(
            f"the image is for {config.os}/{config.architecture}; this is linux/{machine}"
        )


def _defaults(config: _Config) -> Defaults:
    process = config.config or _Process()
    env = {}
    for variable in process.env or ():
        key, equals, value = variable.partition("=")
        if not key or not equals or "\0" in variable:
            raise ImportRefused(f"the image's environment variable {variable[:80]!r} is not one")
        env[key] = value
    if sum(len(f"{key}={value}".encode()) for key, value in env.items()) > _MAX_ENV_BYTES:
        raise ImportRefused(f"the image's Env has more than {_MAX_ENV_BYTES} bytes")
    return Defaults(env, process.working_dir)
