"""The installed package under a real systemd: upgraded under load, removed, installed again.

Run by `make test-vm` in a virtual machine; it installs and removes packages there.
"""

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandboxd_client import Client, RequestError
from sandboxd_client.errors import ConnectionLost
from sandboxd_client.result import Result

SOCKET = "/run/sandboxd/sandboxd.sock"
PACKAGE = next(Path("/opt/deb").glob("sandboxd_*.deb"))
CLIENTS = 4
EXECUTIONS = 40
UNITS = ("sandboxd.socket", "sandboxd.service")
# More work than the old daemon can do after SIGTERM: some of it is for the new one.
FUNCTION = """
import time

def main(args, context):
    time.sleep(0.5)
    return args * 2
"""


def run(*command: str) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def states() -> list[str]:
    command = ["systemctl", "is-active", *UNITS]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def main_pid() -> int:
    return int(run("systemctl", "show", "--value", "-p", "MainPID", "sandboxd.service"))


@pytest.fixture
def installed() -> Iterator[None]:
    """Serving at the beginning, and installed but stopped at the end."""
    run("systemctl", "start", *UNITS)
    yield
    run("dpkg", "--install", str(PACKAGE))
    run("systemctl", "stop", *UNITS)


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package with a later version."""
    root = tmp_path_factory.mktemp("newer") / "root"
    run("dpkg-deb", "--raw-extract", str(PACKAGE), str(root))
    control = root / "DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 1:"))
    package = root.with_suffix(".deb")
    run("dpkg-deb", "-Znone", "--build", str(root), str(package))
    return package


class Load:
    """Clients that run jobs one after the other; what became of each job is counted."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(i,)) for i in range(CLIENTS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, index: int) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                with Client(SOCKET) as client:
                    while not self._stop.is_set():
                        number += 1
                        self._run_one(client, f"{index}.{number}")
            except RequestError as error:
                # Not begun: the client knows, and tries again.
                if error.code != "cancelled":
                    self.unexpected.append(repr(error))
                self.outcomes["refused"] += 1
            except ConnectionLost:
                self.outcomes["lost"] += 1
            except Exception as error:  # among them: nobody listens
                self.unexpected.append(repr(error))
                time.sleep(0.1)

    def _run_one(self, client: Client, name: str) -> None:
        result = client.run(["/bin/sh", "-c", f"sleep 0.1; echo {name}"])
        if (result.status, result.stdout) != ("ok", f"{name}\n".encode()):
            self.unexpected.append(f"{name}: {result}")
        self.outcomes["ok"] += 1


def call(use: Callable[[Client], Result], results: list[Result]) -> threading.Thread:
    """One call in a thread, on a connection of its own."""

    def work() -> None:
        with Client(SOCKET) as client:
            results.append(use(client))

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_package_starts_the_service_and_not_the_gateway() -> None:
    run("dpkg", "--install", str(PACKAGE))
    assert run("systemctl", "is-enabled", *UNITS).split() == ["enabled", "enabled"]
    gateway = ["systemctl", "is-enabled", "sandboxd-rest.service"]
    shown = subprocess.run(gateway, capture_output=True, text=True, check=False).stdout
    assert shown.strip() == "disabled"


@pytest.mark.usefixtures("installed")
def test_an_upgrade_under_load_loses_nothing(newer: Path) -> None:
    before = main_pid()
    with Client(SOCKET) as client:
        client.create_function("double", "python", code=FUNCTION)
    long: list[Result] = []
    with Load() as load:
        time.sleep(2)
        with Client(SOCKET) as client:
            ids = client.run_function_many("double", list(range(EXECUTIONS)))["ids"]
        thread = call(lambda client: client.run(["/bin/sh", "-c", "sleep 4; echo done"]), long)
        time.sleep(1)
        start = time.monotonic()
        run("dpkg", "--install", str(newer))
        took = time.monotonic() - start
        assert main_pid() not in (0, before)
        time.sleep(2)
    thread.join()
    print(f"{took:.1f} s for the upgrade, jobs: {dict(load.outcomes)}")
    assert states() == ["active", "active"]
    # Nobody was refused by the socket, and every answer was that of the job.
    assert load.unexpected == []
    assert load.outcomes["ok"] > 10
    # Whose request crossed the last words of the daemon: at most one of each client.
    assert load.outcomes["lost"] <= CLIENTS
    assert [result.stdout for result in long] == [b"done\n"]
    # What was acknowledged has its result, from the old daemon or the new one; only what ran for
    # longer than the old one waited may say that it was interrupted, and these do not run so long.
    with Client(SOCKET) as client:
        for number, id in enumerate(ids):
            row = client.wait_execution(id)
            assert row["end_reason"] == "normal", row
            assert json.loads(row["result"]) == number * 2
        client.delete_function("double")


@pytest.mark.usefixtures("installed")
def test_a_stopped_service_stays_stopped_in_an_upgrade(newer: Path) -> None:
    run("systemctl", "stop", "sandboxd.service")
    run("dpkg", "--install", str(newer))
    assert states() == ["active", "inactive"]
    with Client(SOCKET) as client:
        assert client.run(["/bin/true"]).status == "ok"


@pytest.mark.usefixtures("installed")
def test_the_gateway_serves_without_any_privilege() -> None:
    run("systemctl", "start", "sandboxd-rest.service")
    try:
        pid = run("systemctl", "show", "--value", "-p", "MainPID", "sandboxd-rest.service")
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["CapEff"] == fields["CapPrm"] == fields["CapBnd"] == "0" * 16
        assert fields["NoNewPrivs"] == "1"
        assert "/sandboxd.slice/" in Path(f"/proc/{pid}/cgroup").read_text()
        body = {"language": "bash", "version": "*", "files": [{"content": "echo $((6 * 7))"}]}
        answer = run(
            "curl", "--silent", "--show-error", "--max-time", "60",
            "--header", "Content-Type: application/json", "--data", json.dumps(body),
            "http://127.0.0.1:2000/api/v2/execute",
        )  # fmt: skip
        assert json.loads(answer)["run"]["stdout"] == "42\n"
    finally:
        run("systemctl", "stop", "sandboxd-rest.service")


@pytest.mark.usefixtures("installed")
def test_the_gateway_makes_a_certificate_where_it_may_write() -> None:
    drop_in = Path("/run/systemd/system/sandboxd-rest.service.d/tls.conf")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text("[Service]\nEnvironment=SANDBOXD_REST_DEV_TLS=true\n")
    run("systemctl", "daemon-reload")
    try:
        run("systemctl", "start", "sandboxd-rest.service")
        answer = run("curl", "--silent", "--insecure", "https://127.0.0.1:2000/api/v2/runtimes")
        assert any(runtime["language"] == "bash" for runtime in json.loads(answer))
        assert Path("/run/sandboxd-rest").stat().st_mode & 0o777 == 0o700
    finally:
        run("systemctl", "stop", "sandboxd-rest.service")
        drop_in.unlink()
        run("systemctl", "daemon-reload")
    assert not Path("/run/sandboxd-rest").exists()


@pytest.mark.usefixtures("installed")
def test_a_removed_package_leaves_no_process_and_no_unit() -> None:
    with Client(SOCKET) as client:
        assert client.run(["/bin/true"]).status == "ok"
    run("dpkg", "--remove", "sandboxd")
    assert states() == ["inactive", "inactive"]
    assert not Path("/run/sandboxd").exists()
    assert not Path("/sys/fs/cgroup/sandboxd.slice").exists()
    left = subprocess.run(["pgrep", "-u", "sandboxd"], capture_output=True, text=True, check=False)
    assert not left.stdout
    shown = run("systemctl", "show", "--value", "-p", "LoadState", "sandboxd-rest.service")
    assert shown == "not-found"
    assert run("systemctl", "list-units", "--failed", "--no-legend", "--plain", "sandboxd*") == ""
    run("dpkg", "--install", str(PACKAGE))
    assert states() == ["active", "active"]
    with Client(SOCKET) as client:
        assert client.run(["/bin/true"]).status == "ok"
