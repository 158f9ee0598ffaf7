"""`gatekey issue client` as a whole process, durable record included, beside programs that do the same with less care. All take turns in one run.

    PYTHONPATH=src python bench/issue.py [--rounds 30] [--instructions] [--check]

Each line: median CPU and wall time of one person's key, certificate and PKCS#12, and their ratio to a bare Python program that imports `cryptography`, makes
the three and records nothing. `--instructions` counts instructions with valgrind, which does not mind what else the machine does. `--check` ends with 1 when
gatekey takes more than 1.5 of the bare program, is not faster than easy-rsa, or `--help` takes more than 100 ms of CPU.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PASSPHRASE = "a passphrase that stands in a file"
PASSWORD = "k7dmp-wq3xz-r9fht-2vbnc"
BARE, GATEKEY, EASYRSA = "bare cryptography program", "gatekey issue client", "easy-rsa build-client-full + export-p12"
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
MOST_RATIO, MOST_HELP_MS = 1.5, 100.0
ELSEWHERE = os.pathsep.join(["/usr/sbin", "/usr/share/easy-rsa"])

Command = Sequence[str | Path]


class Runner(NamedTuple):
    """Somebody who makes key, certificate and PKCS#12 for a name, by one command or several. `notes`: what it does less or more."""

    name: str
    commands: Callable[[str], list[Command]]
    notes: str = ""


class Cost(NamedTuple):
    """Seconds of one whole run."""

    cpu: float
    wall: float


def environment() -> dict[str, str]:
    """What everybody gets: .pyc files may be written and read, and nothing of the user's own."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "LD_LIBRARY_PATH")}
    return {**kept, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'bench'}", "PYTHONHASHSEED": "0", "RANDFILE": "/dev/null"}


def found(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path=ELSEWHERE)


def run(*command: str | Path, cwd: Path | None = None, stdin: str = "", **env: str) -> str:
    """One command of the preparations; it must succeed."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, env={**environment(), **env}, input=stdin, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def timed(commands: list[Command], env: dict[str, str]) -> Cost:
    """CPU (with all children) and wall time of commands, one after the other."""
    cpu, start = 0.0, time.perf_counter()
    for command in commands:
        with open(os.devnull, "r+b") as null, tempfile.TemporaryFile() as said:
            process = subprocess.Popen(list(map(str, command)), env=env, stdin=null, stdout=null, stderr=said)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{said.read().decode(errors='replace')[-2000:]}")
        cpu += usage.ru_utime + usage.ru_stime
    return Cost(cpu, time.perf_counter() - start)


def instructions(commands: list[Command], env: dict[str, str]) -> int:
    """Instructions of commands as valgrind counts them, with all children."""
    total = 0
    for command in commands:
        words = ["valgrind", "--tool=callgrind", "--trace-children=yes", "--callgrind-out-file=/dev/null", *map(str, command)]
        done = subprocess.run(words, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        total += sum(int(count) for count in re.findall(r"Collected : (\d+)", done.stderr))
    return total


# Those who take part. Each prepares an authority with a P-256 key in a folder of its own.


def bare(folder: Path, *, encrypted: bool) -> Runner:
    folder.mkdir()
    key = folder / "ca.key"
    run("openssl", "req", "-x509", *NEW_KEY, "-keyout", key, "-out", folder / "ca.crt", "-subj", "/CN=Bench people", "-days", "3650")
    if encrypted:  # with the derivation that gatekey uses, so that both do the same work on the key
        sealing = ["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256", "-iter", "200000", "-passout", f"pass:{PASSPHRASE}"]
        key.write_text(run("openssl", "pkcs8", "-topk8", "-in", key, *sealing))
    word = PASSPHRASE if encrypted else ""
    name = f"{BARE}, encrypted key" if encrypted else BARE
    return Runner(name, lambda person: [[sys.executable, "-c", "import bare; bare.main()", folder, person, word]], "records nothing")


def gatekey_command(*words: str | Path) -> Command:
    return [sys.executable, "-c", "from gatekey.cli import main; main()", *words]


def gatekey(folder: Path, *, encrypted: bool) -> Runner:
    folder.mkdir()
    secret = folder / "passphrase"
    secret.touch(0o600)
    secret.write_text(PASSPHRASE + "\n")
    keys: Command = ["--passphrase-file", secret] if encrypted else ["--unencrypted-keys"]
    run(*gatekey_command("init", "Bench", "--home", folder / "home", *keys))
    more: Command = ["--passphrase-file", secret] if encrypted else []

    def commands(person: str) -> list[Command]:
        words: Command = ["issue", "client", person, "--email", f"{person}@example.com", "--home", folder / "home", "--out", folder / "out", "--quiet", *more]
        return [gatekey_command(*words)]

    return Runner(f"{GATEKEY}, encrypted key" if encrypted else GATEKEY, commands, "durable record, audit log, policy, lint, chain file")


OPENSSL_CONFIG = """
[ca]
default_ca = people
[people]
dir = {folder}
database = $dir/index.txt
new_certs_dir = $dir/certs
rand_serial = yes
private_key = $dir/ca.key
certificate = $dir/ca.crt
default_md = sha256
default_days = 365
policy = any
x509_extensions = client
copy_extensions = none
email_in_dn = no
unique_subject = no
[any]
commonName = supplied
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[req]
distinguished_name = dn
[dn]
"""
EXPORT = ["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1", "-iter", "2048", "-passout", f"pass:{PASSWORD}"]


def openssl(folder: Path) -> Runner:
    for path in (folder, folder / "certs", folder / "out"):
        path.mkdir()
    (folder / "index.txt").touch()
    config = folder / "openssl.cnf"
    config.write_text(OPENSSL_CONFIG.format(folder=folder))
    new_key: Command = [*NEW_KEY, "-config", config]
    extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "subjectKeyIdentifier=hash"]
    ca: Command = ["-keyout", folder / "ca.key", "-out", folder / "ca.crt", "-subj", "/CN=Bench people", "-days", "3650", *extensions]
    run("openssl", "req", "-x509", *new_key, *ca)

    def commands(person: str) -> list[Command]:
        key, csr, crt, p12 = (folder / "out" / f"{person}.{ending}" for ending in ("key", "csr", "crt", "p12"))
        return [
            ["openssl", "req", "-new", *new_key, "-keyout", key, "-out", csr, "-subj", f"/CN={person}"],
            ["openssl", "ca", "-batch", "-notext", "-config", config, "-in", csr, "-out", crt],
            ["openssl", "pkcs12", "-export", "-inkey", key, "-in", crt, "-certfile", folder / "ca.crt", "-out", p12, *EXPORT],
        ]

    return Runner("openssl req + ca + pkcs12", commands, "index.txt without fsync, no SAN, no policy")


def easyrsa(folder: Path) -> Runner:
    folder.mkdir()
    program = str(found("easyrsa"))
    env = {"EASYRSA_BATCH": "1", "EASYRSA_PKI": str(folder / "pki"), "EASYRSA_ALGO": "ec", "EASYRSA_CURVE": "prime256v1"}
    run(program, "init-pki", cwd=folder, **env)
    run(program, "build-ca", "nopass", cwd=folder, EASYRSA_REQ_CN="Bench people", **env)
    words = ["env", *(f"{name}={value}" for name, value in env.items()), f"EASYRSA_PASSOUT=pass:{PASSWORD}", program]

    def commands(person: str) -> list[Command]:
        return [[*words, "build-client-full", person, "nopass"], [*words, "export-p12", person]]

    return Runner(EASYRSA, commands, "index.txt without fsync, no SAN, no policy; AES PKCS#12")


def cfssl(folder: Path) -> Runner:
    folder.mkdir()
    wish = {"CN": "Bench people", "key": {"algo": "ecdsa", "size": 256}}
    made = json.loads(run("cfssl", "genkey", "-initca", "-loglevel", "5", "-", stdin=json.dumps(wish)))
    for name in ("cert", "key"):
        (folder / f"ca.{name}").write_text(made[name])
    usages = {"usages": ["digital signature", "client auth"], "expiry": "8760h"}
    (folder / "config.json").write_text(json.dumps({"signing": {"profiles": {"client": usages}}}))
    # cfssl answers in JSON; taking it apart is not counted.
    script = (
        'printf \'{"CN":"%s","key":{"algo":"ecdsa","size":256}}\' "$1"'
        ' | cfssl gencert -loglevel 5 -ca "$2/ca.cert" -ca-key "$2/ca.key" -config "$2/config.json" -profile client - > "$2/$1.json"'
        ' && openssl pkcs12 -export -nokeys -in "$2/ca.cert" -out "$2/$1.p12" "${@:3}"'
    )

    def commands(person: str) -> list[Command]:
        return [["bash", "-c", script, "cfssl", person, folder, *EXPORT]]

    return Runner("cfssl gencert + openssl pkcs12", commands, "records nothing; the PKCS#12 without the key")


def mkcert(folder: Path) -> Runner:
    folder.mkdir()
    run("mkcert", "-ecdsa", "-client", "first", CAROOT=str(folder), cwd=folder)
    words = ["env", f"CAROOT={folder}", "mkcert", "-ecdsa", "-client"]

    def commands(person: str) -> list[Command]:
        mail = f"{person}@example.com"
        return [
            [*words, "-cert-file", folder / f"{person}.crt", "-key-file", folder / f"{person}.key", mail],
            [*words, "-pkcs12", "-p12-file", folder / f"{person}.p12", mail],
        ]

    return Runner("mkcert -client, then -pkcs12", commands, "records nothing; RSA-3072 CA")


def step(folder: Path) -> Runner:
    folder.mkdir()
    plain = ["--no-password", "--insecure", "--force"]
    run("step", "certificate", "create", "Bench people", "ca.crt", "ca.key", "--profile", "root-ca", *plain, cwd=folder)
    (folder / "password").write_text(PASSWORD)

    def commands(person: str) -> list[Command]:
        key, crt = folder / f"{person}.key", folder / f"{person}.crt"
        ca: Command = ["--ca", folder / "ca.crt", "--ca-key", folder / "ca.key"]
        return [
            ["step", "certificate", "create", person, crt, key, "--profile", "leaf", *ca, *plain],
            ["step", "certificate", "p12", folder / f"{person}.p12", crt, key, "--password-file", folder / "password", "--force"],
        ]

    return Runner("step certificate create + p12", commands, "records nothing")


PEERS = {"openssl": openssl, "easyrsa": easyrsa, "cfssl": cfssl, "mkcert": mkcert, "step": step}


def taking_part(folder: Path) -> tuple[list[Runner], list[str]]:
    runners = [bare(folder / "bare", encrypted=False), gatekey(folder / "gatekey", encrypted=False)]
    runners += [bare(folder / "bare-encrypted", encrypted=True), gatekey(folder / "gatekey-encrypted", encrypted=True)]
    runners += [make(folder / program) for program, make in PEERS.items() if found(program)]
    return runners, [program for program in PEERS if not found(program)]


def measure(runners: list[Runner], rounds: int) -> dict[str, Cost]:
    """Medians. Everybody runs once in each round, and each round begins with another one."""
    costs: dict[str, list[Cost]] = {runner.name: [] for runner in runners}
    env = environment()
    for number in range(-1, rounds):
        start = number % len(runners)
        for runner in (*runners[start:], *runners[:start]):
            cost = timed(runner.commands(f"p{number + 1}"), env)
            if number >= 0:  # the first round warms the caches and writes the .pyc files
                costs[runner.name].append(cost)
    return {name: Cost(statistics.median(one.cpu for one in found), statistics.median(one.wall for one in found)) for name, found in costs.items()}


def of_help(rounds: int) -> float:
    """Median CPU milliseconds of `gatekey --help`."""
    command = [gatekey_command("--help")]
    return statistics.median(timed(command, environment()).cpu for _ in range(rounds)) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description="gatekey issue client beside others")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--instructions", action="store_true", help="count instructions too (valgrind; a minute or two)")
    parser.add_argument("--check", action="store_true", help="end with 1 when a limit is passed")
    chosen = parser.parse_args()
    compileall.compile_dir(ROOT / "src", quiet=1)
    compileall.compile_dir(ROOT / "bench", quiet=1)
    with tempfile.TemporaryDirectory(prefix="gatekey-bench-") as name:
        runners, missing = taking_part(Path(name))
        costs = measure(runners, chosen.rounds)
        help_ms = of_help(chosen.rounds)
        counts = {}
        if chosen.instructions:
            counts = {runner.name: instructions(runner.commands("counted"), environment()) for runner in runners[:2]} if found("valgrind") else {}
    base = costs[BARE]
    print(f"{'':42}{'CPU ms':>8}{'ratio':>7}{'wall ms':>9}{'ratio':>7}   {chosen.rounds} rounds, medians")
    for runner in runners:
        cost = costs[runner.name]
        print(f"{runner.name:42}{cost.cpu * 1000:8.1f}{cost.cpu / base.cpu:7.2f}{cost.wall * 1000:9.1f}{cost.wall / base.wall:7.2f}   {runner.notes}")
    for program in missing:
        print(f"{program:42}{'MISSING':>8}   not installed")
    encrypted = costs[f"{GATEKEY}, encrypted key"].cpu / costs[f"{BARE}, encrypted key"].cpu
    print(f"\n{GATEKEY}, encrypted key, beside the bare program with such a key: {encrypted:.2f}")
    print(f"gatekey --help: {help_ms:.0f} ms CPU (limit {MOST_HELP_MS:.0f})")
    if chosen.instructions:
        told = [f"{count / 1e6:.0f} M for {name}" for name, count in counts.items()]
        print(f"instructions: {', '.join(told)}; ratio {counts[GATEKEY] / counts[BARE]:.3f}" if counts else "instructions: MISSING, valgrind is not installed")
    ratio = counts[GATEKEY] / counts[BARE] if counts else costs[GATEKEY].cpu / base.cpu
    wrong = [f"{GATEKEY} takes {ratio:.2f} of the bare program"] if ratio > MOST_RATIO else []
    wrong += ["easy-rsa is faster"] if EASYRSA in costs and costs[EASYRSA].wall < costs[GATEKEY].wall else []
    wrong += [f"--help takes {help_ms:.0f} ms"] if help_ms > MOST_HELP_MS else []
    for line in wrong:
        print(f"beyond the limit: {line}")
    return 1 if chosen.check and wrong else 0


if __name__ == "__main__":
    sys.exit(main())
