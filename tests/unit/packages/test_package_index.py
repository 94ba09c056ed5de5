"""The index, the choice of a package, and the archive that is made of a directory."""

import hashlib
import io
import tarfile
import urllib.error
import urllib.request
from http.client import HTTPMessage
from pathlib import Path

import pytest

from sandboxd_packages import (
    DEFAULT_INDEX,
    BadPackage,
    DownloadFailed,
    IndexUnavailable,
    NoSuchPackage,
    Package,
    build,
    fetch_index,
    index_url,
    matching,
    parse_index,
    select,
)
from sandboxd_packages.download import MAX_REDIRECTS, Redirects, download, read
from support import packages

_SUM = "ab" * 32


def test_lines_of_an_index() -> None:
    text = (
        f"\n\r\ngcc,10.2.0,{_SUM},https://h/gcc.tar.gz\n"
        f"  node,18.15.0-rc.1,{_SUM},https://h/n?a=b,more,fields\r\n"
    )
    index = parse_index(text)
    assert index.packages == (
        Package("gcc", "10.2.0", _SUM, "https://h/gcc.tar.gz"),
        Package("node", "18.15.0-rc.1", _SUM, "https://h/n?a=b"),
    )
    assert index.warnings == ()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("hello", "the version is not of the form"),
        (f"gcc,10.2,{_SUM},https://h/x", "the version is not of the form"),
        ("gcc,10.2.0,abc,https://h/x", "the checksum is no SHA-256"),
        (f"gcc,10.2.0,{_SUM.upper()},https://h/x", "the checksum is no SHA-256"),
        (f"gcc,10.2.0,{_SUM}", "there is no URL"),
        (f"../x,10.2.0,{_SUM},https://h/x", "the language is no name"),
        (f",10.2.0,{_SUM},https://h/x", "the language is no name"),
    ],
)
def test_a_line_that_is_no_package(line: str, problem: str) -> None:
    good = f"gcc,1.0.0,{_SUM},u"
    index = parse_index(f"{good}\n\n{line}\n{good}", "http://h/index")
    assert len(index.packages) == 2
    [warning] = index.warnings
    assert warning.startswith("http://h/index: line 3 is left out, ")
    assert problem in warning
    assert repr(line[:40])[:-1] in warning


def test_where_the_index_is() -> None:
    both = {"PISTON_REPO_URL": "http://piston", "SANDBOXD_PACKAGE_INDEX": "http://ours"}
    assert index_url("http://argument", both) == "http://argument"
    assert index_url(None, both) == "http://ours"
    assert index_url(None, {"PISTON_REPO_URL": "http://piston"}) == "http://piston"
    assert index_url(None, {"PISTON_REPO_URL": ""}) == DEFAULT_INDEX


def test_the_highest_version_in_the_range() -> None:
    found = [
        Package("gcc", version, _SUM, "u")
        for version in ("9.3.0", "10.2.0", "10.10.0", "11.0.0-rc.1")
    ]
    found.append(Package("node", "20.0.0", _SUM, "u"))
    assert select(found, "gcc").version == "10.10.0"
    assert select(found, "gcc", "^9").version == "9.3.0"
    assert select(found, "gcc", "10.2").version == "10.2.0"
    assert select(found, "gcc", "11.0.0-rc.1").version == "11.0.0-rc.1"
    assert [package.version for package in matching(found, "gcc")] == ["10.10.0", "10.2.0", "9.3.0"]
    for language, version in (("gcc", "12"), ("c++", "*"), ("gcc", "no range at all"), ("", "")):
        with pytest.raises(NoSuchPackage) as error:
            select(found, language, version)
        assert str(error.value) == f"Requested package {language}-{version} does not exist"


# -- building ----------------------------------------------------------------------------------


def test_the_same_directory_makes_the_same_archive(tmp_path: Path) -> None:
    one, two = packages.make(tmp_path / "one"), packages.make(tmp_path / "two")
    (one / "run").chmod(0o700)
    (two / "run").chmod(0o755)
    (two / ".env").write_text("of an installation")
    first, second = build(one), build(two, two / "inside.tar.gz", url="https://h/x")
    assert first.path == tmp_path / "one" / "pkg.tar.gz"
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.sha256 == hashlib.sha256(first.path.read_bytes()).hexdigest()
    assert second.line == f"mysh,1.2.3,{first.sha256},https://h/x"
    assert parse_index(first.line).packages == (
        Package("mysh", "1.2.3", first.sha256, f"file://{first.path}"),
    )
    with tarfile.open(first.path) as archive:
        names = archive.getnames()
        assert {member.uid for member in archive} == {0}
    assert names == sorted(names)
    assert "./run" in names
    assert "./.env" not in names


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"pkg-info.json": None}, "No such file"),
        ({"pkg-info.json": "{"}, "pkg-info.json"),
        ({"pkg-info.json": "[]"}, "must be an object"),
        ({"pkg-info.json": '{"language": "a/b", "version": "1.0.0"}'}, "'a/b' is no name"),
        ({"pkg-info.json": '{"language": "a", "version": "1"}'}, "'1' is not of the form"),
        ({"run": None}, "there is no such file"),
    ],
)
def test_a_directory_that_is_no_package(
    tmp_path: Path, files: dict[str, str | None], words: str
) -> None:
    directory = packages.make(tmp_path, files=files)
    for name, text in files.items():
        if text is None:
            (directory / name).unlink(missing_ok=True)
    with pytest.raises(BadPackage, match=words):
        build(directory)
    assert not (tmp_path / "pkg.tar.gz").exists()


# -- downloading -------------------------------------------------------------------------------


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "with space"
    path.write_text(f"gcc,10.2.0,{_SUM},u")
    assert len(fetch_index(path.as_uri()).packages) == 1
    with pytest.raises(DownloadFailed, match="bytes; 10 are taken"):
        read(path.as_uri(), 10)


@pytest.mark.parametrize(
    "url",
    ["ftp://h/x", "data:,x", "/etc/passwd", "", "http://", "http://127.0.0.1:1/x", "file:///no"],
)
def test_an_address_that_cannot_be_read(url: str) -> None:
    with pytest.raises(DownloadFailed):
        read(url, 100)
    with pytest.raises(IndexUnavailable):
        fetch_index(url or "nothing:")


def test_redirections_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * 1000)
    with packages.serving(tmp_path) as server:
        server.redirects = {"/again": "/again", "/once": "/data", "/out": "file:///etc/passwd"}
        assert read(f"{server.url}/once", 1000) == b"x" * 1000
        with pytest.raises(DownloadFailed, match="has 1000 bytes; 999 are taken"):
            read(f"{server.url}/data", 999)
        with pytest.raises(DownloadFailed, match="not allowed"):
            read(f"{server.url}/out", 1000)
        with pytest.raises(DownloadFailed, match="the server says 404"):
            read(f"{server.url}/nowhere", 1000)
        server.requests.clear()
        with pytest.raises(DownloadFailed, match="redirect"):
            read(f"{server.url}/again", 1000)
        assert len(server.requests) <= 2 * MAX_REDIRECTS
        server.go_on.clear()
        with pytest.raises(DownloadFailed, match="does not answer in time"):
            read(f"{server.url}/data", 1000, timeout_s=0.3)


def test_no_redirection_from_https_to_http() -> None:
    request = urllib.request.Request("https://host/index")
    headers = HTTPMessage()
    with pytest.raises(urllib.error.URLError, match="redirects to http://host/x, which is less"):
        Redirects().redirect_request(request, io.BytesIO(), 302, "", headers, "http://host/x")
    followed = Redirects().redirect_request(
        request, io.BytesIO(), 302, "", headers, "https://other/x"
    )
    assert followed is not None
    assert followed.full_url == "https://other/x"


def test_what_the_taker_raises_is_not_the_servers_fault(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")

    def take(data: bytes) -> None:
        raise BrokenPipeError

    with packages.serving(tmp_path) as server, pytest.raises(BrokenPipeError):
        download(f"{server.url}/data", take)
    with pytest.raises(BrokenPipeError):
        download((tmp_path / "data").as_uri(), take)
