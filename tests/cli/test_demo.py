"""`gatekey demo` with nginx and with Python's own server: it ends well within ten seconds, tells the whole story, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12

from kit.administrator import COMMAND, SRC, Answer
from kit.servers import group_members, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.interop]

#: Who did what, in the order of the story, and how the knocks ended.
TOLD = [
    ("1-3", "kitty-ca", "makes a key and signs itself"),
    ("4-7", "picture-server", "makes picture-server.key and .csr"),
    ("8", "kitty-ca", "issues picture-server.crt"),
    ("11-12", "eager-client", "makes eager-client.key and .csr"),
    ("13", "kitty-ca", "issues eager-client.crt"),
    ("14", "eager-client", "puts eager-client.p12"),
    ("9-10", "picture-server", "serves https://localhost:"),
    ("15", "nobody", "knocks without a certificate"),
    ("16-17", "eager-client", "shows the certificate"),
    ("", "mallory", "of another CA"),
    ("after", "kitty-ca", "revokes eager-client.crt"),
    ("", "eager-client", "knocks again"),
    ("", "patient-client", "still gets in"),
]


@pytest.fixture(params=["nginx", "Python"])
def environment(request: pytest.FixtureRequest, tmp_path: Path, program: Callable[[str], str]) -> dict[str, str]:
    """With nginx, or in a place where there is none: the demo looks for it in PATH and where Debian keeps it."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    found = {**os.environ, "PYTHONPATH": str(SRC), "TMPDIR": str(temporary), "HOME": str(tmp_path / "home"), "DEMO_KIND": request.param}
    if request.param == "nginx":
        assert program("nginx")
    return found


def command(environment: dict[str, str], *words: str) -> list[str]:
    if environment["DEMO_KIND"] == "nginx":
        return [*COMMAND, "demo", *words]
    without = "import gatekey.cli.demo_servers as s; s.shutil.which = lambda *_, **__: None; " + COMMAND[2]
    return [COMMAND[0], "-c", without, "demo", *words]


def tell(environment: dict[str, str], folder: Path, *words: str) -> Answer:
    """Runs it in a process group of its own and makes sure that nobody of that group is left."""
    with subprocess.Popen(
        command(environment, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=environment, start_new_session=True
    ) as process:
        out, err = process.communicate(timeout=60)
    assert group_members(process.pid) == []
    return Answer(process.returncode, out, err.decode())


def test_the_story(environment: dict[str, str], tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    before = set(Path(tempfile.gettempdir()).iterdir())
    began = time.monotonic()
    answer = tell(environment, work)
    assert time.monotonic() - began < 10 * 3  # the figure is 10 s; a machine with other work gets three times that
    assert answer.code == 0, answer
    seconds = re.search(r"the door works: eager-client was let in, revoked and refused; .* \((\d+\.\d) s\)", answer.out)
    assert seconds, answer
    assert float(seconds[1]) < 10
    rest = answer.err
    for step, who, what in TOLD:
        line = re.search(rf"^ *{re.escape(step)} +{who} .*{re.escape(what)}.*$", rest, re.MULTILINE)
        assert line, (step, who, what, answer.err)
        rest = rest[line.end() :]
    assert answer.err.count("refused  (") == 3
    assert answer.err.count('200  "I see you as eager-client"') == 1
    assert answer.err.count('200  "I see you as patient-client"') == 2
    assert ("nginx" if environment["DEMO_KIND"] == "nginx" else "in Python") in answer.err
    assert "gatekey init" in answer.err  # and now for real
    assert list(work.iterdir()) == []
    assert list(Path(environment["TMPDIR"]).iterdir()) == []
    assert not (tmp_path / "home").exists()
    assert {path for path in set(Path(tempfile.gettempdir()).iterdir()) - before if "gatekey-demo" in path.name} == set()


def test_as_json(environment: dict[str, str], tmp_path: Path) -> None:
    answer = tell(environment, tmp_path, "--json")
    assert answer.err == ""
    told = answer.json
    assert [step["who"] for step in told["steps"]][-3:] == ["kitty-ca", "eager-client", "patient-client"]
    assert told["seconds"] < 10


def test_ctrl_c_leaves_nothing_behind(environment: dict[str, str], tmp_path: Path) -> None:
    with subprocess.Popen(
        command(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b"makes eager-client.key" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        process.wait(30)
    if process.returncode == 0:  # it was faster than the signal
        assert b"gatekey init" in rest
    else:
        assert process.returncode == 130
        assert b"gatekey: stopped" in rest
    wait_until(lambda: group_members(process.pid) == [], "everybody is gone")
    assert list(Path(environment["TMPDIR"]).iterdir()) == []


def test_a_folder_whose_name_no_configuration_would_take(environment: dict[str, str], tmp_path: Path) -> None:
    place = tmp_path / "a folder; 100%"
    answer = tell(environment, tmp_path, "--dir", str(place), "--quiet")
    assert answer.code == 0, answer
    assert not place.exists()


def test_keep(environment: dict[str, str], tmp_path: Path, program: Callable[[str], str]) -> None:
    """--keep leaves the server running until Ctrl-C, says how to see it in a browser, and what it says is true."""
    place = tmp_path / "demo"
    with subprocess.Popen(
        command(environment, "--dir", str(place), "--keep"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            said = ""
            for line in process.stderr:
                said += line.decode()
                if "pk12util" in said.splitlines()[-1]:
                    break
            port = re.search(r"https://localhost:(\d+) until you press Ctrl-C", said)
            assert port, said
            root = f"{place}/kitty-ca/authorities/servers-root.crt"
            assert f"Authorities > Import         {root}" in said
            passwords = dict(re.findall(r"/([a-z-]+)\.p12  password (\S+)", said))
            assert set(passwords) == {"patient-client", "eager-client"}

            def page(who: str) -> str:
                curl = [program("curl"), "-s", "--cacert", root, "--cert", f"{place}/{who}/{who}.chain.crt", "--key", f"{place}/{who}/{who}.key"]
                return subprocess.run([*curl, f"https://localhost:{port[1]}/"], capture_output=True, text=True).stdout

            for who, password in passwords.items():
                held = pkcs12.load_pkcs12((place / who / f"{who}.p12").read_bytes(), password.encode())
                assert held.key is not None
            assert "I see you as patient-client" in page("patient-client")
            # For a moment after a reload the old workers of nginx go on accepting connections.
            wait_until(lambda: "I see you as" not in page("eager-client"), "the door is shut on eager-client")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    assert process.returncode == 130
    wait_until(lambda: group_members(process.pid) == [], "everybody is gone")
    assert (place / "kitty-ca" / "ledger.db").exists()


def test_a_deep_folder(tmp_path: Path, program: Callable[[str], str]) -> None:
    """The path of a Unix socket has room for 107 bytes."""
    assert program("nginx")
    environment = {**os.environ, "PYTHONPATH": str(SRC), "DEMO_KIND": "nginx"}
    before = set(Path("/tmp").glob("gatekey-demo-*"))
    assert tell(environment, tmp_path, "--dir", str(tmp_path / ("deep" * 30))).code == 0
    assert list(tmp_path.iterdir()) == []
    assert set(Path("/tmp").glob("gatekey-demo-*")) <= before


def test_the_server_ends_with_us(tmp_path: Path, program: Callable[[str], str]) -> None:
    assert program("nginx")
    environment = {**os.environ, "PYTHONPATH": str(SRC), "TMPDIR": str(tmp_path), "DEMO_KIND": "nginx"}
    with subprocess.Popen(command(environment, "--keep"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True) as process:
        assert process.stderr is not None
        port = next(int(found[1]) for line in process.stderr if (found := re.search(rb"https://localhost:(\d+) until", line)))
        rest = b""
        while b"pk12util" not in rest:  # everything is said, and it waits
            rest = process.stderr.readline()
        process.terminate()
        process.communicate(timeout=30)

    def gone() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return False
        return True

    wait_until(gone, "nginx has ended")
