"""Archives of root file systems and container images, honest ones and others."""

import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

# What the small root has; a shell knows the rest by itself.
_PROGRAMS = {"sh": "dash", "cat": "cat", "env": "env", "ls": "ls", "sleep": "sleep"}


@dataclass(frozen=True)
class Member:
    """One member of a tar archive: a file, unless `type` says something else."""

    name: str
    data: bytes = b""
    mode: int = 0o644
    type: bytes = tarfile.REGTYPE
    to: str = ""


def directory(name: str, mode: int = 0o755) -> Member:
    return Member(name, mode=mode, type=tarfile.DIRTYPE)


def symlink(name: str, to: str) -> Member:
    return Member(name, type=tarfile.SYMTYPE, to=to)


def hardlink(name: str, to: str) -> Member:
    return Member(name, type=tarfile.LNKTYPE, to=to)


def tar(members: Iterable[Member]) -> bytes:
    """A tar archive of exactly these members."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.mode, info.type, info.linkname = member.mode, member.type, member.to
            info.size = len(member.data)
            if member.type == tarfile.CHRTYPE:
                info.devmajor, info.devminor = 1, 3
            archive.addfile(info, io.BytesIO(member.data))
    return packed.getvalue()


@cache
def small_root() -> tuple[Member, ...]:
    """A root in which a shell runs: a few of the host's programs and the libraries they need."""
    files: dict[str, Member] = {}
    for name, program in _PROGRAMS.items():
        found = shutil.which(program)
        assert found is not None, program
        files[f"bin/{name}"] = Member(f"bin/{name}", Path(found).read_bytes(), 0o755)
        for library in _libraries(found):
            files[library] = Member(library[1:], Path(library).read_bytes(), 0o755)
    passwd = b"root:x:0:0::/:/bin/sh\nguest:x:1000:1000::/work:/bin/sh\n"
    return (directory("./"), *files.values(), Member("etc/passwd", passwd))


def _libraries(program: str) -> list[str]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", listed)


def unpacked_root(where: Path) -> Path:
    """The small root as a directory."""
    for member in small_root():
        path = where / member.name
        if member.type == tarfile.DIRTYPE:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(member.data)
            path.chmod(member.mode)
    return where


def _libraries(program: str) -> list[str]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", listed)


@dataclass
class Image:
    """A container image; `spoil…` is what an attack changes about it."""

    layers: list[bytes]
    """Plain tar archives, lowest first."""
    env: list[str] = field(default_factory=list)
    working_dir: str = ""
    platform: Mapping[str, str] = field(
        default_factory=lambda: {"os": "linux", "architecture": MACHINE}
    )

    def config(self) -> dict[str, Any]:
        diff_ids = [_digest(layer) for layer in self.layers]
        return {
            **self.platform,
            "config": {"Env": self.env, "WorkingDir": self.working_dir, "User": "0"},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }

    def oci(self, pack: Callable[[bytes], bytes] = gzip.compress) -> "Layout":
        """As an OCI image layout; `pack` is done to each layer."""
        layout = Layout()
        layers = [layout.blob(pack(layer), LAYER_TYPE) for layer in self.layers]
        config = layout.json_blob(self.config(), "application/vnd.oci.image.config.v1+json")
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config}
        descriptor = layout.json_blob({**manifest, "layers": layers}, MANIFEST_TYPE)
        layout.manifests.append({**descriptor, "platform": dict(self.platform)})
        return layout

    def docker(self, *, duplicates: bool = False) -> list[Member]:
        """As `docker save` writes it. With `duplicates` each layer's name is a link."""
        config = json.dumps(self.config()).encode()
        config_name = f"{_digest(config)[7:]}.json"
        members = [Member(config_name, config)]
        names = []
        for number, layer in enumerate(self.layers):
            name = f"{number:064x}/layer.tar"
            if duplicates:
                members += [Member(f"{number}.tar", layer), symlink(name, f"../{number}.tar")]
            else:
                members.append(Member(name, layer))
            names.append(name)
        manifest = [{"Config": config_name, "RepoTags": ["test:1"], "Layers": names}]
        return [*members, Member("manifest.json", json.dumps(manifest).encode())]


class Layout:
    """The files of an OCI image layout."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: list[dict[str, Any]] = []

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Add it; returns its descriptor."""
        digest = _digest(data)
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def json_blob(self, value: object, media_type: str) -> dict[str, Any]:
        return self.blob(json.dumps(value).encode(), media_type)

    def members(self) -> list[Member]:
        index = {"schemaVersion": 2, "manifests": self.manifests}
        return [
            Member("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
            Member("index.json", json.dumps(index).encode()),
            *(
                Member(f"blobs/{digest.replace(':', '/')}", data)
                for digest, data in self.blobs.items()
            ),
        ]

    def tar(self) -> bytes:
        return tar(self.members())

    def write(self, where: Path) -> Path:
        """As a directory, which other tools read."""
        for member in self.members():
            path = where / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(member.data)
        return where


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def memfd(data: bytes) -> int:
    """A file with this content, at its beginning. The caller owns it."""
    fd = os.memfd_create("archive")
    with open(os.dup(fd), "wb") as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
