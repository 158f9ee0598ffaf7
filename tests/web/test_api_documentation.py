"""The curl examples of docs/api.md, typed as they stand there against a real service."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from gatekey.api import Authority
from gatekey.authority import access
from gatekey.x509 import pem
from kit.desk import cast
from kit.service import COMMAND, serving

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
#: What must be among the lines that each block prints, in the order of the page.
SAID = (
    ("olga", "issue"), ("token",), (), (), (), (), ("earlier",), ("held", "valid"), ("revoked (affiliation-changed)",), ("true", "true", "app.example"),
    ("people.json", "304"), ("gatekey-app.example.conf", "nginx -t"), ("update-ca-certificates", "ann"),
    ("1 ", "olga may not do this"), ("login: is missing; 'logn': is not known; did you mean login?",),
)  # fmt: skip


def test_the_examples_run(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()

    def prepare(authority: Authority) -> None:
        core = authority._core
        key, der = cast(core)["olga"]
        issuing = pem.encode("CERTIFICATE", core.issuing("people").certificate.der)
        for name, data in (("olga.key", pem.encode("PRIVATE KEY", key.pkcs8())), ("olga.chain.crt", pem.encode("CERTIFICATE", der) + issuing)):
            (folder / name).write_bytes(data)
        (folder / "servers-root.crt").write_bytes(authority.servers_root)
        (folder / "token").write_text(access.make_token(core, "olga", ["read"])[1])
        access.set_roles(core, "olga", add=["proxy"])  # for the last examples

    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == len(SAID)
    program = tmp_path / "bin" / "gatekey"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {COMMAND[0]} -c "{COMMAND[2]}" "$@"\n')
    program.chmod(0o755)
    with serving(tmp_path, {"service": {"workers": 1}}, prepare=prepare) as service:
        script = "set -eu -o pipefail\n" + "\necho '--- next'\n".join(blocks).replace(":8443/", f":{service.private}/")
        environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.split("--- next\n")
    for block, lines, wanted in zip(blocks, told, SAID, strict=True):
        assert [one for one in wanted if one not in lines] == [], block + lines
    names = ("bob.p12", "bob.password", "app.example.key", "app.example.chain.crt", "device/ann.chain.crt", "bundle.zip")
    assert [name for name in names if not (folder / name).stat().st_size] == []
    opened = subprocess.run(
        ["openssl", "pkcs12", "-in", "bob.p12", "-passin", "file:bob.password", "-nokeys", "-clcerts"], cwd=folder, capture_output=True, text=True
    )
    assert "CN = bob" in opened.stdout
