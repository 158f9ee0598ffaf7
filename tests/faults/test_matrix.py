"""Every write fails twice: it did not happen, and it happened but the answer was lost; and the process is killed right before it and right after it.

Afterwards, each time: the next verb heals what is half done, the ledger is whole, nothing that was handed out is unknown, no revocation is untold, no file is
torn, and whoever types the verb again gets what was asked for, or a sentence. Long because it is one table.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gatekey.authority import access, answers, jobs, requests, seen
from gatekey.authority.authority import Authority
from gatekey.authority.issue import issue
from gatekey.authority.revoke import follow, revoke
from gatekey.errors import GatekeyError
from gatekey.keys import material
from gatekey.ports import SystemClock
from gatekey.store import schema
from gatekey.store.admission import LEASE
from kit import administrator, faults
from kit.administrator import Administrator, Answer, typed
from kit.corp import Corp
from kit.faults import Fault

#: What stands where a transaction was killed: before its commit nothing of it, after its commit all of it, and then this. docs/durability.md has the same rows.
TRANSACTIONS = {
    "create schema": "a folder that no verb takes for an authority",
    "upgrade schema": "a newer ledger",
    "record certificates": "a draft without a signature; closed once its lease is over",
    "release certificates": "a certificate that the ledger knows, whoever waited for it; the same idempotency key gives it",
    "abandon drafts": "closed drafts; the next verb signs the CRL that holds them",
    "revoke": "a revocation that the web servers have not heard of; a service signs the CRL and publishes within a second, otherwise the next verb does",
    "unhold": "the same",
    "leave": "the same",
    "record CRL": "a CRL without a signature, which nobody sees; its number is not used again",
    "release CRL": "a CRL that is complete and not published yet; the next verb does it",
    "mend": "rows that say what the log says; `store check --repair` signs the CRL that follows",
    "install authority": "an authority from elsewhere; the same verb again takes in the rest",
    "install CRL": "a CRL from elsewhere",
    "audit note": "a note",
    "add holder": "a person",
    "change holder": "a changed person",
    "set roles": "other roles",
    "add token": "a token that nobody has; take it away and make another",
    "revoke token": "a token that is worth nothing",
    "note token use": "a note",
    "keep answer": "a deed with its answer, given again to the same key",
    "claim answer": "a key that is free once the process that has claimed it is known to be gone, or its lease is over",
    "give up answer": "a free key",
    "finish answer": "an answer, given again to the same key",
    "free job": "a lease that anybody may take",
    "claim job": "a job that is anybody's once its lease is over",
    "finish job": "a job that is due later",
    "note message": "a message that counts as sent: once too few rather than twice",
    "unsend message": "a message that may be sent",
    "sweep": "fewer rows",
    "note seen": "a note",
    "note takeover": "a note",
}
#: Writes that fail in silence: nobody asked for them, and nothing depends on them.
SILENT = {"note takeover"}

#: Writes of `files` by call site. Each is durable when it returns, and leaves a hidden file or folder at most when it is killed.
FILES = {
    "app.py _build create",
    "app.py _build folder",
    "app.py _staging folder",
    "app.py change_passphrase replace",
    "authority/bundle.py publish switch",
    "authority/profiles.py add commit",
    "authority/profiles.py add stage",
    "cli/authority.py export put",
    "authority/ceremony.py write_files create",
    "cli/deliver.py hand_over put",
    "cli/deliver.py hand_over_password put",
    "cli/deliver.py write_certificate put",
    "cli/issue.py _complete commit",
    "cli/issue.py _complete stage",
    "cli/publish.py crl put",
    "cli/request.py request put",
    "cli/token.py add put",
    "keys/files.py FileKeyring._commit_change replace",
    "keys/files.py FileKeyring._store create",
    "keys/files.py FileKeyring.change_passphrase replace",
}

#: The same, where nothing of an authority is at stake, and why they are not made to fail here.
ELSEWHERE = {
    "cli/demo.py Story._client_certificate create": "a throw-away story",
    "cli/demo.py Story._client_certificate folder": "a throw-away story",
    "cli/demo.py Story._mallory create": "a throw-away story",
    "cli/demo.py Story._mallory folder": "a throw-away story",
    "cli/demo.py Story._request create": "a throw-away story",
    "cli/demo.py Story._server_certificate folder": "a throw-away story",
    "cli/publish.py _install create": "a copy of a root certificate in the system's store",
    "webserver/agent.py Agent._bring switch": "a copy of the bundle on another machine, which the next round brings again",
    "webserver/agent_status.py write replace": "what the agent says of itself, written again at the next round",
    "webserver/agent.py _take_over switch": "the same",
    "webserver/agent_network.py Own.renew_if_due replace": "the agent's own certificate, asked for again under the same key at the next round",
    "webserver/install.py _Change.write replace": "a web server's configuration, rehearsed and taken back by its own code",
    "webserver/install.py install switch": "a copy of the bundle beside a web server's configuration",
}


class Scenario(NamedTuple):
    """One verb. `prepare`: command lines before it; `act`: a command line, or what it is in Python; `later`: seconds between the two.

    `newer`: between the two a newer Gatekey was installed, whose ledger takes one more step.
    """

    act: str | Callable[[Administrator], object]
    prepare: tuple[str | Callable[[Administrator], object], ...] = ()
    later: int = 0
    newer: bool = False


#: What it mends was done by somebody else: no other verb heals it.
MENDS = "store check --repair"
ANN = "issue client ann --email ann@kitty.example --device laptop --password-file ann.password"


def _with(do: Callable[[Authority], object]) -> Callable[[Administrator], object]:
    """A verb that is typed by nobody: what the service asks of the authority."""

    def act(admin: Administrator) -> object:
        with admin.open() as authority:
            return do(authority)

    return act


def _draft(authority: Authority) -> None:
    """Somebody was killed between record and release, of a certificate and of a CRL."""
    with contextlib.suppress(GatekeyError), faults.watching(Fault(1, happened=False)):
        issue(authority, *requests.client(authority, "zoe", material.make("p256").spki))
    with contextlib.suppress(GatekeyError), faults.watching(Fault(1, happened=False)):
        follow(authority, {"people"})


def _answered(authority: Authority) -> object:
    return answers.once(authority, "key", "digest", lambda: answers.Kept(200, "done"), apart=True)


def _kept_with_its_deed(authority: Authority) -> object:
    def revoked() -> answers.Kept:
        (record,) = authority.reads.by_holder("ann")
        return answers.Kept(200, revoke(authority, record.id)[0].id.serial)

    return answers.once(authority, "key", "digest", revoked)


def _given_up(authority: Authority) -> object:
    def fail() -> answers.Kept:
        raise RuntimeError

    with contextlib.suppress(RuntimeError):
        answers.once(authority, "key", "digest", fail, apart=True)
    return None


def _freed(authority: Authority) -> None:
    jobs.claim(authority, "crl-refresh", 300)
    jobs.free(authority, "crl-refresh", lambda _: False)


def _job(authority: Authority) -> None:
    if jobs.claim(authority, "a job", 60):
        jobs.finish(authority, "a job", 3600, "done")


def _message(authority: Authority) -> None:
    if fresh := jobs.note_messages(authority, [("reminder", "ann")]):
        jobs.unsent(authority, fresh)


def _sight(authority: Authority) -> None:
    found = seen.Seen(authority)
    found.note("people", "AB", "app.kitty.example")
    found.write()


def _an_entry_damaged(admin: Administrator) -> None:
    admin.sql("UPDATE certificate SET entry = x'3000' WHERE holder = 'ann'")


def _a_token(admin: Administrator) -> None:
    with admin.open() as authority:
        access.set_roles(authority, "ann", add=["operator"])
        _, secret = access.make_token(authority, "ann", ["read"])
    (admin.folder / "token").write_text(secret)


def _token_used(admin: Administrator) -> None:
    with admin.open() as authority:
        access.caller_of_token(authority, (admin.folder / "token").read_text())


def _token_revoked(admin: Administrator) -> None:
    with admin.open() as authority:
        for token in access.tokens(authority, "ann"):
            access.revoke_token(authority, token.id)


SCENARIOS = {
    "issue client": Scenario(ANN),
    "issue client --for pem": Scenario("issue client ann --for pem"),
    "issue client --for apple": Scenario("issue client ann --for apple --password-file ann.password"),
    "issue client --csr": Scenario("issue client ann --csr ann.csr", ("request ann",)),
    "issue server": Scenario("issue server app.kitty.example 10.0.0.7 --force"),
    "sign": Scenario("sign printer.csr --profile device --force", ("request printer",)),
    "renew": Scenario("renew ann --out again --force", (ANN,)),
    "renew --new-key": Scenario("renew ann --new-key --out again --force", (ANN,)),
    "request": Scenario("request ann --force"),
    "p12": Scenario("p12 ann.crt --key ann.key --for modern --out modern.p12 --password-file modern.password", (ANN,)),
    "revoke": Scenario("revoke ann", (ANN,)),
    "revoke key-compromise": Scenario("revoke ann --reason key-compromise", (ANN, "renew ann --out again")),
    "hold": Scenario("hold ann", (ANN,)),
    "unhold": Scenario("unhold ann", (ANN, "hold ann")),
    "leave": Scenario("leave ann --yes", (ANN, "issue client ann --device phone --out phone")),
    "people add": Scenario("people add bob --email bob@kitty.example --group staff"),
    "people set": Scenario("people set ann --group staff --name Änn", (ANN,)),
    "crl": Scenario("crl --out people.crl", (ANN, "revoke ann")),
    "bundle": Scenario("bundle --out bundle", (ANN, "bundle --out bundle")),
    "authority export": Scenario("authority export --out authorities.pem --force"),
    "passphrase change": Scenario("passphrase change --new-passphrase-file passphrase"),
    "profile add": Scenario("profile add visitor.toml --force"),
    "token add": Scenario("token add ann --scope read --out token", (ANN, _a_token, lambda admin: (admin.folder / "token").unlink())),
    "token revoke": Scenario(_token_revoked, (ANN, _a_token)),
    "a token is used": Scenario(_token_used, (ANN, _a_token)),
    "roles": Scenario(_with(lambda authority: access.set_roles(authority, "ann", add=["auditor"])), (ANN,)),
    "after an interruption": Scenario("people add bob", (_with(_draft),), later=LEASE + 1),
    "a newer program": Scenario("people add bob", newer=True),
    "store check --repair": Scenario(MENDS, (ANN, "revoke ann", _an_entry_damaged)),
    "an answer": Scenario(_with(_answered)),
    "an answer with its deed": Scenario(_with(_kept_with_its_deed), (ANN,)),
    "an answer that fails": Scenario(_with(_given_up)),
    "a job": Scenario(_with(_job)),
    "a job whose process is gone": Scenario(_with(_freed)),
    "a message": Scenario(_with(_message)),
    "a sight": Scenario(_with(_sight), (ANN,)),
    "a sweep": Scenario(_with(lambda authority: jobs.sweep(authority, keep=86400))),
}
#: Verbs that found an authority, or bring one in from elsewhere; they have a home of their own each.
FOUNDINGS = {
    "init": "init Kitty --unencrypted-keys",
    "init --flat": "init Kitty --unencrypted-keys --flat",
    "init inside the home": "init Kitty --unencrypted-keys --flat",
    "init --root-csr": "init Kitty --unencrypted-keys --root-csr",
    "init --root-cert": "init Kitty --unencrypted-keys --root-cert root.crt --root-key root.key",
    "authority install": "authority install people.crt servers.crt root.crt root.crl",
}
BOTH_WAYS = pytest.mark.parametrize("happened", [False, True], ids=["did not happen", "answer lost"])


class Place(NamedTuple):
    """A folder with everything in it: home, the folder where verbs are typed, and the folder that is published into."""

    root: Path

    @property
    def admin(self) -> Administrator:
        return Administrator(self.root / "home", self.root / "work")

    def copy(self, to: Path) -> Place:
        return Place(Path(shutil.copytree(self.root, to, symlinks=True)))


def run(admin: Administrator, act: str | Callable[[Administrator], object], monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Types a command line, or does what it is in Python; then its exit code is that of its refusal."""
    monkeypatch.chdir(admin.folder)
    passphrase = admin.folder / "passphrase"
    if not passphrase.exists():
        passphrase.touch(0o600)
        passphrase.write_text(f"{administrator.PASSPHRASE}\n")
    monkeypatch.setenv("GATEKEY_PASSPHRASE_FILE", str(passphrase))
    if isinstance(act, str):
        answer = typed("--home", admin.home, *act.split())
        assert "fault in Gatekey itself" not in answer.err
        return answer
    try:
        act(admin)
    except GatekeyError as refused:
        return Answer(refused.exit_code, b"", refused.message)
    return Answer(0, b"", "")


def prepared(scenario: Scenario, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path / "prepared")
    (place.root / "work").mkdir(parents=True)
    administrator.copied(template, place.root / "home")
    with (place.root / "home" / "gatekey.toml").open("a") as file:
        file.write('\npublish = "../published"\n')
    (place.root / "work" / "visitor.toml").write_text('[profile.visitor]\nabout = "A visitor"\nusage = ["client-auth"]\nvalidity = "1d"\nkeys = ["p256"]\n')
    for step in ("bundle --out ../published", *scenario.prepare):
        answer = run(place.admin, step, monkeypatch)
        assert answer.code == 0, f"{step}: {answer.err}"
    shift(monkeypatch, scenario.later)
    if scenario.newer:
        monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, ("CREATE TABLE of_a_later_time (word TEXT)",)))
    return place


def shift(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """From now on it is so much later."""
    if seconds:
        before = SystemClock.now
        monkeypatch.setattr(SystemClock, "now", lambda self: before(self) + seconds)


def survives(place: Place, act: str | Callable[[Administrator], object], monkeypatch: pytest.MonkeyPatch, *, tidy: bool) -> None:
    """Everything that was promised holds. `tidy`: the process lived on, so that it had to sweep up behind it as well."""
    admin = place.admin
    assert faults.torn(place.root) == []
    assert faults.known(admin.home, place.root / "work") == []
    if tidy:
        left = [path.name for path in place.root.rglob(".*") if path.name.endswith(".new") or ".new-" in path.name or path.name.startswith(".gatekey-init")]
        assert left == []
    if act == MENDS:
        run(admin, act, monkeypatch)
    faults.heal(admin.home)
    with monkeypatch.context() as patch:
        shift(patch, LEASE + 1)
        again = run(admin, act, patch)
        assert again.code in (0, 1), again.err
        assert run(admin, "store check", patch).out == "the ledger is whole\n"
        if isinstance(act, str) and act.startswith(("issue client", "renew")) and again.code:
            # Somebody was killed after the certificate was there: what the refusal says leads on.
            with admin.open() as authority:
                assert [record.common_name for record in authority.reads.by_holder("ann")]
            assert run(admin, "renew ann --new-key --out way-out", patch).code == 0
            assert run(admin, "store check", patch).code == 0


def seen_by(scenario: Scenario, place: Place, to: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all writes of a verb that meets no trouble."""
    copy = place.copy(to)
    with faults.watching() as watch:
        answer = run(copy.admin, scenario.act, monkeypatch)
    assert answer.code == 0, answer.err
    return [write.name for write in watch.seen]


@pytest.mark.slow
@BOTH_WAYS
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_write_that_fails(name: str, happened: bool, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = SCENARIOS[name]
    place = prepared(scenario, template, tmp_path, monkeypatch)
    names = seen_by(scenario, place, tmp_path / "dry", monkeypatch)
    assert names
    for at, write in enumerate(names):
        copy = place.copy(tmp_path / f"{at}")
        with faults.watching(Fault(at, happened)) as watch:
            answer = run(copy.admin, scenario.act, monkeypatch)
        assert watch.failed, f"{write} was not reached"
        heard = answer.err or (scenario.act == MENDS and answer.out)
        assert (heard and (answer.code or "warning" in answer.err)) or write in SILENT, f"{write} failed, and nobody heard of it"
        # The key of a certificate that was issued is never thrown away; and who loses the answer of `stage` does not know what to sweep up.
        keeps = write == "cli/issue.py _complete commit" or (happened and (write.endswith(" stage") or write == "release certificates"))
        survives(copy, scenario.act, monkeypatch, tidy=not keeps)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_before_and_after_each_write(name: str, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = SCENARIOS[name]
    place = prepared(scenario, template, tmp_path, monkeypatch)
    with faults.watching(snapshots=(place.root, tmp_path / "snapshots")) as watch:
        assert run(place.admin, scenario.act, monkeypatch).code == 0
    for write in watch.seen:
        for left in (write.before, write.after):
            assert left is not None
            survives(Place(left), scenario.act, monkeypatch, tidy=False)


@pytest.fixture(scope="session")
def corp(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]) -> Corp:
    """A company with a root of its own, made with openssl."""
    return Corp(tmp_path_factory.mktemp("corp") / "corp", program("openssl"))


def ground(name: str, corp: Corp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Where an authority is to be founded, or waits for what a root elsewhere has signed."""
    place = Place(tmp_path / "ground")
    work = place.root / "work"
    work.mkdir(parents=True)
    if name == "init inside the home":
        (place.root / "home").mkdir()
        monkeypatch.setattr("os.path.ismount", lambda path: path.name == "home")
    if name == "init --root-cert":
        corp.copy(work)
    if name == "authority install":
        assert run(place.admin, FOUNDINGS["init --root-csr"], monkeypatch).code == 0
        corp.certify(place.root / "home" / "authorities", work)
    return place


def founded(place: Place, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was left there: the same verb again, or what it says to do, ends in an authority that is whole."""
    assert faults.torn(place.root / "work", place.root / "home") == []
    shift(monkeypatch, LEASE + 1)
    if name == "authority install":
        assert run(place.admin, FOUNDINGS[name], monkeypatch).code in (0, 1)
        # Whatever was taken in before is known; what the second try had to say no to was here already.
        run(place.admin, "store check --repair", monkeypatch)
    else:
        again = run(place.admin, FOUNDINGS[name], monkeypatch)
        assert again.code in (0, 1), again.err
        assert again.code == 0 or "an authority lives in" in again.err
    assert [path.name for path in place.root.rglob(".gatekey-init-*") if any(path.iterdir())] == []
    if name != "init --root-csr":
        faults.heal(place.root / "home")
    with place.admin.open() as authority:
        assert sorted(file.stem for file in place.root.glob("home/authorities/*.crt")) == sorted(record.name for record in authority.records())


@pytest.mark.slow
@BOTH_WAYS
@pytest.mark.parametrize("name", FOUNDINGS)
def test_a_founding_that_fails(name: str, happened: bool, corp: Corp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ground(name, corp, tmp_path, monkeypatch)
    names = seen_by(Scenario(FOUNDINGS[name]), place, tmp_path / "dry", monkeypatch)
    for at, write in enumerate(names):
        copy = place.copy(tmp_path / f"{at}")
        with monkeypatch.context() as patch:
            with faults.watching(Fault(at, happened)):
                answer = run(copy.admin, FOUNDINGS[name], patch)
            assert answer.code == 4, f"{write}: {answer.err}"
            if name.startswith("init"):
                assert [path for path in copy.root.glob("home/*") if not path.name.startswith(".")] == [], f"{write} left something behind"
            founded(copy, name, patch)
        shutil.rmtree(copy.root)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUNDINGS)
def test_a_founding_that_is_killed(name: str, corp: Corp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ground(name, corp, tmp_path, monkeypatch)
    with faults.watching(snapshots=(place.root, tmp_path / "snapshots")) as watch:
        assert run(place.admin, FOUNDINGS[name], monkeypatch).code == 0
    for write in watch.seen:
        for left in (write.before, write.after):
            assert left is not None
            with monkeypatch.context() as patch:
                founded(Place(left), name, patch)
            shutil.rmtree(left)


def test_the_table_is_the_source() -> None:
    """Whoever adds a write gives it a row here and in docs/durability.md, and a scenario that makes it fail."""
    transactions, calls = faults.writes_in_source()
    assert sorted(transactions) == sorted(TRANSACTIONS)
    assert sorted(calls) == sorted(FILES | set(ELSEWHERE))


@pytest.mark.slow
def test_every_write_of_the_table_is_made_to_fail(template: Path, corp: Corp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    met: set[str] = set()
    for number, scenario in enumerate(SCENARIOS.values()):
        with monkeypatch.context() as patch:
            place = prepared(scenario, template, tmp_path / f"{number}", patch)
            met |= set(seen_by(scenario, place, tmp_path / f"{number}-dry", patch))
    for name, act in FOUNDINGS.items():
        with monkeypatch.context() as patch:
            place = ground(name, corp, tmp_path / name, patch)
            met |= set(seen_by(Scenario(act), place, tmp_path / f"{name}-dry", patch))
    assert FILES | set(TRANSACTIONS) == met


@BOTH_WAYS
@pytest.mark.parametrize("at", range(2))
def test_asking_again_with_the_same_key(at: int, happened: bool, template: Path, tmp_path: Path) -> None:
    """A lost answer is harmless: the same idempotency key gives the same certificate, and there is never a second one."""
    home = administrator.copied(template, tmp_path / "home")
    spki = material.make("p256").spki

    def ask(authority: Authority) -> bytes:
        return issue(authority, *requests.client(authority, "ann", spki, idempotency="the same"), alone=True).der

    with faults.opened(home) as authority, faults.watching(Fault(at, happened)), pytest.raises(GatekeyError) as caught:
        ask(authority)
    assert caught.value.exit_code == 4
    released, on_record = at == 1 and happened, at == 1 or happened
    with faults.opened(home) as authority:
        if on_record and not released:
            with pytest.raises(GatekeyError, match="being answered"):
                ask(authority)
        first = ask(authority) if released else b""
    with faults.opened(home, seconds=LEASE + 1) as authority:
        later = ask(authority)
        assert later == ask(authority)
        assert not released or later == first
        assert len(authority.reads.by_holder("ann")) == 1
    faults.heal(home)


def test_the_way_out_that_is_documented(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the certificate was released and before its files were there: its key lies hidden beside its place, and everything can be had again."""
    place = prepared(Scenario(ANN), template, tmp_path, monkeypatch)
    with faults.watching(snapshots=(place.root, tmp_path / "snapshots")) as watch:
        assert run(place.admin, ANN, monkeypatch).code == 0
    left = next(write.after for write in watch.seen if write.name == "release certificates")
    assert left is not None
    admin = Place(left).admin
    (hidden,) = admin.folder.glob(".ann.key.*.new")
    serial = run(admin, "list --json", monkeypatch).json[0]["serial"]
    hidden.rename(admin.folder / "ann.key")
    (admin.folder / "ann.crt").write_bytes(run(admin, f"show {serial} --pem", monkeypatch).stdout)
    assert run(admin, "p12 ann.crt --key ann.key --password-file ann.password", monkeypatch).code == 0
    assert (admin.folder / "ann.p12").exists()
    faults.heal(admin.home)


def test_the_documentation_has_the_same_rows() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "durability.md").read_text(encoding="utf-8")
    rows = dict(_rows(page))
    assert rows == TRANSACTIONS


def _rows(page: str) -> Iterator[tuple[str, str]]:
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 2 and cells[0].startswith("`") and cells[0].strip("`") in TRANSACTIONS:
            yield cells[0].strip("`"), cells[1]
