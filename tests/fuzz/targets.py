"""The Python targets: each takes any bytes, and raises where a promise does not hold."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgpack
import msgspec

from fuzz.choices import Choices
from fuzz.http1 import http1
from sandboxd.engine import collect, results, wire
from sandboxd.environments import image
from sandboxd.environments.errors import ImportRefused
from sandboxd.errors import ConfigError
from sandboxd.functions import control, definitions, large_json, python_call
from sandboxd.packages import environment, info
from sandboxd.protocol import jobs, models, rpc, runtimes
from sandboxd.protocol.errors import RemoteProtocolError, RequestError
from sandboxd.protocol.framing import NEED_DATA, FrameDecoder
from sandboxd.protocol.functions import FunctionFields
from sandboxd.protocol.limits import JobLimits
from sandboxd.runtimes import model, versions
from sandboxd.unpack import source
from sandboxd.unpack.bounds import Bounds, Options
from sandboxd.unpack.extract import Extraction
from sandboxd.unpack.refused import Refused
from sandboxd.unpack.squashed import SquashExtraction
from sandboxd.unpack.zipped import ZipExtraction
from support import archives as archive

Target = Callable[[bytes], None]

# -- framing: any bytes, however they are cut --------------------------------------------------


def framing(data: bytes) -> None:
    """The same frames or the same refusal, whole, byte by byte and cut anywhere."""
    choices = Choices(data)
    cuts = [choices.byte() for _ in range(choices.byte() % 6)]
    stream = choices.rest()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    whole = _frames([stream])
    assert whole == _frames([bytes([byte]) for byte in stream])
    assert whole == _frames([stream[a:b] for a, b in itertools.pairwise(edges)])
    for frame in whole[0]:
        try:
            request = rpc.decode_request(frame)
            rpc.decode_params(request.method, request.params)
        except (RemoteProtocolError, RequestError):
            continue


def _frames(chunks: list[bytes]) -> tuple[list[bytes], bool]:
    """The frames, and whether the stream was refused; never more is kept than came."""
    decoder = FrameDecoder(max_message_bytes=400, max_depth=8, max_values=64)
    found: list[bytes] = []
    for chunk in chunks:
        decoder.receive_data(chunk)
        try:
            while (frame := decoder.next_frame()) is not NEED_DATA:
                assert isinstance(frame, bytes | bytearray)
                found.append(bytes(frame))
        except RemoteProtocolError:
            return found, True
    assert sum(map(len, found)) <= sum(map(len, chunks))
    return found, False


# -- params: every method, with what is nearly right -------------------------------------------

_METHODS: Final = sorted(rpc.METHODS)


def _names(kind: Any, seen: set[Any]) -> Iterator[str]:
    """The fields of a params struct and of what is in it."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind in seen:
            return
        seen.add(kind)
        for field in msgspec.structs.fields(kind):
            yield field.encode_name
            yield from _names(field.type, seen)
    for inner in getattr(kind, "__args__", ()):
        yield from _names(inner, seen)


_FIELDS: Final = {
    method: sorted({*_names(params, set()), "argv", "data"})
    for method, params in rpc.METHODS.items()
}


def params(data: bytes) -> None:
    """Any params of any method are accepted or refused with a RequestError that can be sent."""
    choices = Choices(data)
    method = choices.of(_METHODS)
    if choices.byte() % 8 == 0:
        raw = choices.rest()
    else:
        fields = _FIELDS[method]
        given = {choices.key(fields): choices.value(fields) for _ in range(choices.byte() % 10)}
        if method in _NEEDED and choices.byte() % 4:
            given = _NEEDED[method] | given
        raw = msgpack.packb([given], unicode_errors="surrogatepass")
    try:
        _check(method, rpc.decode_params(method, msgspec.Raw(raw)), choices)
    except RequestError as exc:
        msgspec.msgpack.decode(rpc.encode_error(1, exc))


_NEEDED: Final[dict[str, dict[str, Any]]] = {
    "job.run": {"argv": ["true"]},
    "job.start": {"argv": ["true"]},
    "job.batch": {"jobs": [{"argv": ["true"]}]},
    "runtime.execute": {"language": "c", "version": "*", "files": [{"data": "x"}]},
    "runtime.start": {"language": "c", "version": "*", "files": [{"data": "x"}]},
}


def _check(method: str, given: object, choices: Choices) -> None:
    """What the method's own code looks at before anything else happens."""
    if isinstance(given, models.JobParams):
        _pack(jobs.job_spec(given, started=method == "job.start"))
    elif isinstance(given, models.BatchParams):
        jobs.batch_size(given.jobs)
        for index, job in enumerate(given.jobs):
            jobs.job_spec(rpc.decode_job(job, f"jobs[{index}]"), field=f"jobs[{index}]")
    elif isinstance(given, runtimes.ExecuteParams):
        runtimes.check_program(given, started=method == "runtime.start")
    elif isinstance(given, FunctionFields):
        kind = choices.of(("python", "program", "json"))
        definitions.check(given, kind, complete=bool(choices.byte() & 1))


def _pack(spec: jobs.JobSpec) -> None:
    """A job that is accepted can be packed, and holds no NUL that would cut a string short."""
    run = spec.run
    env = run.env or ()
    strings = (*run.argv, *env, run.cwd, *(file.path for file in spec.files), *spec.collect)
    assert not any(b"\0" in string for string in strings)
    wire.blob_parts(run.argv, env, run.cwd, spec.files, run.stdin)


# -- streams: what comes out of a sandbox ------------------------------------------------------

_LIMITS: Final = JobLimits(*[1 << 20] * len(JobLimits.__struct_fields__))


def streams(data: bytes) -> None:
    """What a job or the helper says becomes a result, whatever it is."""
    choices = Choices(data)
    what = choices.byte() % 4
    if what == 0:
        _collected(choices.rest())
    elif what == 1:
        _answers(choices.rest())
    elif what == 2:
        end = results.StageEnd(
            wire.unpack_result(
                memoryview(choices.take(wire.RESULT.size).ljust(wire.RESULT.size, b"\0"))
            ),
            choices.take(choices.byte()),
            choices.take(choices.byte()),
            choices.take(choices.byte() // 4 * 4).ljust(4, b"\0")[: choices.byte() // 4 * 4],
        )
        _built(end)
    else:
        try:
            definitions.to_json(choices.value(["a", "b"], depth=20), "args")
            large_json.to_json(choices.value(["a", "b"], depth=20), "args")
        except RequestError:
            return


def _collected(stream: bytes) -> None:
    found = collect.parse(stream, 1000)
    assert sum(map(len, found.files.values())) <= 1000
    for name in found.files:
        path = name if isinstance(name, bytes) else name.encode()
        assert path
        assert not {b"", b".", b".."} & set(path.split(b"/"))


def _answers(data: bytes) -> None:
    for read in (python_call.read_answer, python_call.read_value):
        text, error = read(data, truncated=False)
        assert (text is None) != (error is None)
        if text is not None:
            msgspec.json.decode(text)


def _built(end: results.StageEnd) -> None:
    assert len(results.in_order(end)) <= len(end.stdout) + len(end.stderr)
    stage = jobs.Stage((b"true",), None, b"", b"", None)
    try:
        result = results.build(end, stage, _LIMITS, ordered=True)
    except RequestError as exc:
        rpc.encode_error(1, exc)
        return
    msgspec.msgpack.decode(rpc.encode_response(1, result))


# -- texts: files of packages, images, tasks and the administrator -----------------------------


def texts(data: bytes) -> None:
    """Each parser takes its text or refuses it in its own words."""
    choices = Choices(data)
    _TEXTS[choices.byte() % len(_TEXTS)](choices)


def _control(choices: Choices) -> None:
    try:
        commands = control.parse(choices.rest())
    except control.BadControl:
        return
    assert commands
    control.steps(commands)


def _versions(choices: Choices) -> None:
    known = [found for _ in range(4) if (found := versions.semantic(choices.text()))]
    for version in known:
        assert versions.highest([version, "1.2.3"], version) == version
    found = versions.highest([*known, "1.2.3", "2.0.0-rc.1"], choices.text())
    assert found is None or found in (*known, "1.2.3", "2.0.0-rc.1")


def _runtime(choices: Choices) -> None:
    try:
        model.parse(choices.rest(), "x.toml")
    except ConfigError as exc:
        assert str(exc).startswith("x.toml: ")  # noqa: PT017 - either is right


def _package(choices: Choices) -> None:
    try:
        info.parse(choices.rest(), "c", "1.0.0")
    except info.BadInfo:
        return


def _listed(choices: Choices) -> None:
    try:
        environment.parse(choices.rest())
    except RequestError:
        return


def _image(choices: Choices) -> None:
    with tempfile.TemporaryDirectory(prefix="sandboxd-fuzz-") as place:
        for name in ("oci-layout", "index.json", "manifest.json"):
            Path(place, name).write_bytes(choices.take(choices.byte() * 4))
        directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for source in (image.OCI, image.DOCKER):
                image.find(directory)
                image.read(directory, source)
        except ImportRefused:
            return
        finally:
            os.close(directory)


_TEXTS: Final = (_control, _versions, _runtime, _package, _listed, _image)


# -- archives ----------------------------------------------------------------------------------

_BOUNDS: Final = Bounds(total_bytes=1 << 20, file_bytes=1 << 20, members=100, depth=8)


def archives(data: bytes) -> None:
    """Nothing outside of the directory is touched, and no descriptor kept."""
    choices = Choices(data)
    what, flags = choices.byte() % 4, choices.byte()
    content = choices.rest() if what < 3 else _tar(choices)
    options = Options(
        any_links=bool(flags & 1), skip_devices=bool(flags & 2), layer=bool(flags & 4)
    )
    base = Path(tempfile.mkdtemp(prefix="sandboxd-fuzz-"))
    before = len(os.listdir("/proc/self/fd"))
    try:
        (base / "precious").write_text("untouched")
        (base / "root").mkdir()
        _unpack(_FORMATS[what], base, options, content)
        assert sorted(os.listdir(base)) == ["precious", "root"]
        assert (base / "precious").read_text() == "untouched"
        assert (base / "precious").stat().st_nlink == 1
        for path in (base / "root").rglob("*"):
            assert path.is_symlink() or not path.lstat().st_mode & 0o7022
        # Fewer, where what others left was collected meanwhile.
        assert len(os.listdir("/proc/self/fd")) <= before
    finally:
        shutil.rmtree(base, ignore_errors=True)


# Few, so that they meet: what is a link in one member is a directory in the next.
_WORDS: Final = ("a", "b", "..", ".", "", "precious", ".wh.a", ".wh..wh..opq", "\n", "c" * 120)
_KINDS: Final = (
    tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE,
    tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, b"?",
)  # fmt: skip
_FORMATS: Final = (Extraction, ZipExtraction, SquashExtraction, Extraction)


def _tar(choices: Choices) -> bytes:
    """Members whose checksums are right, whatever else they are."""
    members = []
    while choices.left and len(members) < 20:
        name, link = ("/".join(_words(choices)) for _ in range(2))
        data = choices.take(choices.byte() % 40)
        mode, size = choices.number() % 0o10000, None if choices.byte() % 8 else choices.number()
        kind = choices.of(_KINDS)
        if choices.byte() % 8 == 0:
            members.append(archive.pax([("path", name), ("size", str(size))], b""))
        members.append(archive.member(name, data, kind, link, mode=mode, size=size))
    return archive.archive(*members)


def _words(choices: Choices) -> list[str]:
    return [choices.of(_WORDS) for _ in range(choices.byte() % 4)]


def _unpack(kind: Any, base: Path, options: Options, content: bytes) -> None:
    root = os.open(base / "root", os.O_RDONLY | os.O_DIRECTORY)
    try:
        kind(root, _BOUNDS, options).run(io.BytesIO(content))
    except source.DAMAGED:
        pass  # As in `unpack.__main__`, which has a sentence for it.
    except Refused as exc:
        assert "\n" not in str(exc)  # noqa: PT017 - either is right
        json.dumps(str(exc))
    finally:
        os.close(root)


TARGETS: Final[dict[str, Target]] = {
    "framing": framing,
    "params": params,
    "streams": streams,
    "texts": texts,
    "archives": archives,
    "http1": lambda data: http1(Choices(data)),
}
