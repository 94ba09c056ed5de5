"""Whatever an archive says: it is unpacked or refused, and nothing outside is touched."""

import io
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxd.unpack.bounds import Bounds, Options
from sandboxd.unpack.extract import Extraction
from sandboxd.unpack.refused import Refused
from sandboxd.unpack.remove import remove_at
from support.archives import archive, member, pax

_BOUNDS = Bounds(total_bytes=1 << 20, file_bytes=1 << 20, members=100, depth=8)
_KINDS = [
    tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE,
    tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE,
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"?",
]  # fmt: skip
# Few words, so that names meet: links that become directories, files upon links, whiteouts.
_WORDS = st.sampled_from(
    ["a", "b", "..", ".", "", "/", "precious", ".wh.a", ".wh.b", ".wh..", ".wh..wh..opq", "\n", "ä"]
)
_GOOD = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)
_TARGETS = st.sampled_from(
    ["..", "../..", "../../..", "../precious", "../../precious", "../c", ".", "a", "b", "a/b", "/"]
)
# By its name each could be honest; what they do together is the question.
_USUAL = st.one_of(
    st.builds(member, _GOOD, st.binary(max_size=5), mode=st.sampled_from([0o644, 0o6755, 0])),
    st.builds(member, _GOOD, st.just(b""), st.just(tarfile.DIRTYPE), mode=st.integers(0, 0o7777)),
    st.builds(member, _GOOD, st.just(b""), st.just(tarfile.SYMTYPE), _TARGETS),
    st.builds(member, _GOOD, st.just(b""), st.just(tarfile.SYMTYPE), _TARGETS),
    st.builds(member, _GOOD, st.just(b""), st.just(tarfile.LNKTYPE), st.one_of(_GOOD, _TARGETS)),
    st.builds(member, st.sampled_from([".wh.a", "a/.wh.b", "b/.wh..wh..opq", "a/b/.wh.precious"])),
)
_NAMES = st.lists(_WORDS, max_size=4).map("/".join)
_MEMBERS = st.builds(
    member,
    _NAMES,
    st.binary(max_size=40),
    st.sampled_from(_KINDS),
    _NAMES,
    mode=st.integers(0, 0o7777),
    size=st.sampled_from([None, None, None, 0, 1, 600, -1, 2**40]),
)
_PAX = st.builds(
    pax,
    st.lists(
        st.tuples(
            st.sampled_from(
                ["path", "linkpath", "size", "mtime", "GNU.sparse.size", "GNU.sparse.map",
                 "GNU.sparse.major", "GNU.sparse.name", "GNU.sparse.realsize", "hdrcharset"]
            ),
            st.one_of(_NAMES, st.sampled_from(["0", "-1", "1", "9" * 30, "1,2", "nan", "BINARY"])),
        ),
        max_size=3,
    ),
    _MEMBERS,
)  # fmt: skip
_OPTIONS = st.builds(
    Options, any_links=st.booleans(), skip_devices=st.booleans(), layer=st.booleans()
)


def _snapshot(base: Path) -> dict[str, object]:
    return {
        str(path.relative_to(base)): (
            path.lstat().st_mode,
            path.lstat().st_nlink,
            path.read_bytes(),
        )
        for path in base.iterdir()
        if path.is_file()
    }


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(_USUAL, max_size=8), max_size=4),
    st.lists(st.one_of(_USUAL, _MEMBERS, _PAX), max_size=6),
    _OPTIONS,
    st.binary(max_size=20),
    st.integers(0, 20_000),
)
def test_any_archive(
    usual: list[list[bytes]], strange: list[bytes], options: Options, noise: bytes, at: int
) -> None:
    base = Path(tempfile.mkdtemp(prefix="sandboxd-test-unpack-"))
    try:
        (base / "precious").write_text("untouched")
        (base / "root").mkdir()
        before, descriptors = _snapshot(base), len(os.listdir("/proc/self/fd"))
        root = os.open(base / "root", os.O_RDONLY | os.O_DIRECTORY)
        data = bytearray(archive(*strange))
        data[at : at + len(noise)] = noise[: max(0, len(data) - at)]
        contents = [archive(*members) for members in usual]
        for content in (*contents, archive(*strange), bytes(data)):
            try:
                Extraction(root, _BOUNDS, options).run(io.BytesIO(content))
            except Refused as exc:
                assert "\n" not in str(exc)  # noqa: PT017 - either is right
        os.close(root)
        assert _snapshot(base) == before
        assert sorted(os.listdir(base)) == ["precious", "root"]
        assert len(os.listdir("/proc/self/fd")) == descriptors
        for path in (base / "root").rglob("*"):
            mode = path.lstat().st_mode
            assert path.is_symlink() or not mode & 0o7022, "no set-id bit, nobody else writes"
        parent = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
        remove_at(parent, "root")
        os.close(parent)
        assert os.listdir(base) == ["precious"]
    finally:
        shutil.rmtree(base, ignore_errors=True)
