"""How the authority is doing, as named checks with remedies: the same for /readyz and for the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import GatekeyError, Misconfigured
from ..model.instants import DAY, iso
from . import crl, ends
from . import jobs as job_rows
from .reconcile import manifest

if TYPE_CHECKING:
    from .authority import Authority

OK, WARN, FAIL = "ok", "warn", "fail"
#: A revocation that is in no CRL for longer than this is no matter of a moment any more (seconds): web servers with CRLs let somebody in who must stay out.
#: More than gathering and signing a list of a million entries twice.
LATE = 10
#: The same for the published folder, whose lists are written after the CRL (seconds): those of a million entries take a quarter of a minute.
FOLDER_LATE = 60
#: Below this much life of what is published somebody should look (seconds): the folder is written again every day, and what is new in it is good for thirty.
FOLDER_WARN = 20 * DAY


class Finding(NamedTuple):
    """What a check found. `state`: ok, warn (works, but somebody should look) or fail (not ready). `remedy`: what to do, or ""."""

    state: str
    message: str = ""
    remedy: str = ""


def worst(findings: list[Finding]) -> Finding:
    """One finding out of several: the worst one's state, and all that is to be said, each sentence once."""
    bad = sorted((one for one in findings if one.state != OK), key=lambda one: one.state != FAIL)
    if not bad:
        return Finding(OK)
    return Finding(bad[0].state, "; ".join(dict.fromkeys(one.message for one in bad)), "; ".join(dict.fromkeys(one.remedy for one in bad if one.remedy)))


def ledger(authority: Authority) -> Finding:
    """The ledger can be read."""
    authority.reads.newest_event()
    return Finding(OK)


def crls(authority: Authority) -> Finding:
    """Every CA has a CRL that holds all but the revocations of the last seconds, and has ten days to live: red long before anybody is locked out."""
    now = authority.now()
    return worst([_crl(authority, record.name, now) for record in authority.records()])


def _crl(authority: Authority, name: str, now: int) -> Finding:
    held = authority.reads.newest_crl(name)
    remedy = f"gatekey crl --authority {name}"
    if held is None:
        return Finding(FAIL, f"there is no CRL of {name}", remedy)
    left = held.next_update - now
    if left < crl.WARN:
        return Finding(FAIL, f"the CRL of {name} {f'expires in {left // DAY} days' if left > 0 else 'has expired'}", remedy)
    return _complete(f"the CRL of {name}", authority.reads.revoked_after(held.revocation, name), now, LATE, remedy)


def _complete(what: str, since: int | None, now: int, limit: int, remedy: str) -> Finding:
    """Whether something holds the newest revocation. `since`: when the first was that it does not hold."""
    if since is None:
        return Finding(OK)
    late = now - since
    words = f"{what} does not hold the newest revocation{f', and that for {late} seconds' if late > limit else ' yet'}"
    return Finding(FAIL if late > limit else WARN, words, remedy)


def publish(authority: Authority) -> Finding:
    """The published folder holds all but the revocations of the last minute, and is good for ten days more. Where none is configured, nothing can be wrong."""
    folder = authority.config.publish
    if folder is None:
        return Finding(OK)
    remedy = f"gatekey bundle --out {folder}"  # writes it, or says why it cannot be written
    held = manifest(folder)
    if held is None:
        return Finding(FAIL, f"there is no bundle in the published folder {folder}", remedy)
    now = authority.now()
    left = held.fresh_until - now
    words = f"the bundle in the published folder {folder} {f'runs out in {left // DAY} days' if left > 0 else 'has run out'}"
    if left < crl.WARN:
        return Finding(FAIL, words, remedy)
    if held.made_at > now + crl.BACKDATE:
        return Finding(FAIL, f"the bundle in the published folder {folder} is of a time to come: its CRLs are not valid yet", remedy)
    complete = _complete(f"the bundle in the published folder {folder}", authority.reads.revoked_after(held.number), now, FOLDER_LATE, remedy)
    return worst([complete, Finding(WARN, f"{words}: it is not written any more", remedy) if left < FOLDER_WARN else Finding(OK)])


def authorities(authority: Authority) -> Finding:
    """Every CA has its certificate, and lives longer than what it issues."""
    findings = []
    for side in ("people", "servers"):
        try:
            authority.need(side)
        except Misconfigured as problem:
            findings.append(Finding(FAIL, problem.message, problem.hint))
    # Red as early as for a CRL: a load balancer should not leave a service alone that still works.
    findings += [Finding(FAIL if one.left < crl.WARN else WARN, one.words, one.remedy) for one in ends.ending(authority)]
    return worst(findings)


def keys(authority: Authority) -> Finding:
    """The keys of the issuing CAs are here, open, and belong to their certificates; a root's may be away."""
    findings = []
    here = authority.keyring.labels()
    for record in authority.records():
        if record.name not in here:
            if record.role == "root":
                continue
            findings.append(Finding(WARN, f"the key of {record.name} is not here: nothing can be issued or revoked", "bring the key file back into keys/"))
            continue
        try:
            authority.signer(record.name)
        except Misconfigured as problem:
            # A root's key that came back may still have the passphrase of its time: whoever uses it will be told.
            state = FAIL if record.role != "root" or problem.code == "wrong-key" else WARN
            findings.append(Finding(state, problem.message, problem.hint))
    return worst(findings)


#: Name -> check. /readyz and `gatekey doctor` run all of them.
CHECKS: dict[str, Callable[[Authority], Finding]] = {"ledger": ledger, "authorities": authorities, "crl": crls, "publish": publish, "keys": keys}


def findings(authority: Authority) -> dict[str, Finding]:
    """What every check finds now. One that cannot even be run has failed."""
    found = {}
    for name, check in CHECKS.items():
        try:
            found[name] = check(authority)
        except GatekeyError as problem:
            found[name] = Finding(FAIL, problem.message, problem.hint)
    return found


def jobs(authority: Authority) -> list[tuple[str, int, int, str]]:
    """Every job that has something to do: name, when it is due, when it last ended (0: never), and how. Rows of what is configured no more stay behind."""
    config = authority.config
    idle = {"publish"} if config.publish is None else set()
    if not (config.text("mail.server") or config.text("webhook.url")):
        idle.add("reminders")
    return [row for row in job_rows.states(authority) if row[0] not in idle]


def as_dict(authority: Authority, found: dict[str, Finding]) -> dict[str, Any]:
    """Findings and jobs as JSON has them."""
    rows = jobs(authority)
    return {
        "ready": all(finding.state != FAIL for finding in found.values()),
        "checks": {name: finding._asdict() for name, finding in found.items()},
        "jobs": [{"name": name, "due_at": iso(due), "done_at": iso(done) if done else None, "outcome": outcome} for name, due, done, outcome in rows],
    }
