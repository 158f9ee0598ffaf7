"""Would we let this certificate in, and why not: paths to an anchor are looked for (RFC 4158) and judged (RFC 5280 6), and every failure is told in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..errors import Malformed, Refused
from ..model.instants import iso
from . import names, oids, policies, revocation, signature
from .certificate import Certificate
from .constraints import Subtrees, canonical
from .crl import Crl
from .policies import PolicyGraph, Rules

#: Certificates in a path, the anchor included; signatures and candidates of one validation. Hundreds of issuers with one name are an attack, not a PKI.
MOST_STEPS = 16
MOST_SIGNATURES = 200
MOST_CANDIDATES = 2000
MOST_PATHS = 40
_MOST_NESTING = 3

CHECKS = ("path", "dates", "usage", "revocation")
PURPOSES = {"client": "clientAuth", "server": "serverAuth"}

#: Critical extensions that are understood here; any other one refuses the path (RFC 5280 4.2).
_UNDERSTOOD = frozenset(
    (
        oids.AUTHORITY_KEY_ID,
        oids.SUBJECT_KEY_ID,
        oids.KEY_USAGE,
        oids.EXTENDED_KEY_USAGE,
        oids.BASIC_CONSTRAINTS,
        oids.SUBJECT_ALT_NAME,
        oids.ISSUER_ALT_NAME,
        oids.NAME_CONSTRAINTS,
        oids.CERTIFICATE_POLICIES,
        oids.POLICY_MAPPINGS,
        oids.POLICY_CONSTRAINTS,
        oids.INHIBIT_ANY_POLICY,
        oids.CRL_DISTRIBUTION_POINTS,
        oids.FRESHEST_CRL,
        oids.NO_REV_AVAIL,
    )
)


class Finding(NamedTuple):
    """One thing that is wrong. `check` is one of `CHECKS`, `subject` the certificate it is about, `message` the sentence, `facts` its numbers."""

    check: str
    code: str
    subject: str
    message: str
    facts: dict[str, Any] = {}  # noqa: RUF012  a NamedTuple default is never mutated


class Verdict(NamedTuple):
    """`path` runs from the certificate to the anchor, or as far as it could be followed.

    `checked` names the checks that were made; the others were not asked for, or could not be made without a path. `policies` are the acceptable certificate
    policies, dotted.
    """

    path: tuple[Certificate, ...]
    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    policies: frozenset[str] = frozenset()

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def failed(self) -> tuple[str, ...]:
        """The checks that found something, in the order of `CHECKS`."""
        found = {finding.check for finding in self.findings}
        return tuple(check for check in CHECKS if check in found)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        checks = {check: "failed" if check in self.failed else "passed" if check in self.checked else "not-checked" for check in CHECKS}
        return {
            "ok": self.ok,
            "path": [display(certificate) for certificate in self.path],
            "checks": checks,
            "findings": [finding._asdict() for finding in self.findings],
        }


def validate(
    leaf: Certificate,
    pool: Sequence[Certificate],
    anchors: Sequence[Certificate],
    *,
    at: int,
    purpose: str | None,
    crls: Sequence[Crl] | None,
    rules: Rules = Rules(),  # noqa: B008  an immutable value
    legacy: bool = False,
) -> Verdict:
    """Whether `leaf` is good at the instant `at` (POSIX seconds) for `purpose` ("client", "server", a dotted extended usage, or None for any).

    `pool` may hold any certificates, in any order; `anchors` are trusted as they are, within their own dates, lengths and name constraints. Without `crls`
    (None) revocation is not looked at; with some, every certificate below the anchor must be shown not to be revoked. `legacy` accepts SHA-1 and DSA.
    Of several paths the first good one counts, otherwise the one with least against it. Never raises: what cannot be judged is a finding.
    """
    return _Validation(pool, anchors, at, crls, legacy).judge(leaf, purpose, rules)


class _Validation:
    """What one call of `validate` shares: who is there, and how much work is left."""

    def __init__(self, pool: Sequence[Certificate], anchors: Sequence[Certificate], at: int, crls: Sequence[Crl] | None, legacy: bool) -> None:
        self.at, self.crls, self.legacy = at, crls, legacy
        self._anchors = {anchor.der for anchor in anchors}
        self._by_subject: dict[object, list[Certificate]] = {}
        seen: set[bytes] = set()
        for certificate in (*anchors, *pool):
            if certificate.der not in seen:
                seen.add(certificate.der)
                self._by_subject.setdefault(canonical(certificate.subject), []).append(certificate)
        self._signatures: dict[tuple[bytes, bytes], str] = {}
        self._candidates = 0
        self._signers: list[bytes] = []
        self._trusted: dict[tuple[bytes, bytes], str] = {}

    def judge(self, leaf: Certificate, purpose: str | None, rules: Rules, only_anchor: bytes | None = None) -> Verdict:
        """The best verdict over all paths."""
        best: Verdict | None = None
        dead: list[tuple[tuple[Certificate, ...], Finding]] = []
        try:
            for count, path in enumerate(self._paths((leaf,), dead)):
                if only_anchor is not None and path[-1].der != only_anchor:
                    continue
                verdict = self._judge_path(path, purpose, rules)
                if verdict.ok:
                    return verdict
                if best is None or _weight(verdict) < _weight(best):
                    best = verdict
                if count >= MOST_PATHS:
                    raise Refused("too-complex", f"more than {MOST_PATHS} paths were tried")
        except Refused as problem:
            finding = Finding("path", "too-complex", display(leaf), f"it was given up: {problem.message}")
            return best._replace(findings=(*best.findings, finding)) if best else Verdict((leaf,), (finding,), ("path",))
        return best or self._without_path(leaf, purpose, dead)

    def _without_path(self, leaf: Certificate, purpose: str | None, dead: list[tuple[tuple[Certificate, ...], Finding]]) -> Verdict:
        """No path reached an anchor: the longest attempt is shown, with what can be said of the certificate itself."""
        nowhere = (leaf,), Finding("path", "no-path", display(leaf), "no path leads from it to a trusted root")
        path, finding = max(dead, key=lambda end: len(end[0]), default=nowhere)
        findings = (finding, *_dates(leaf, self.at), *(_usage((leaf,), purpose) if purpose else ()))
        return Verdict(path, findings, ("path", "dates", "usage") if purpose else ("path", "dates"))

    # Looking for paths

    def _paths(self, path: tuple[Certificate, ...], dead: list[tuple[tuple[Certificate, ...], Finding]]) -> Iterator[tuple[Certificate, ...]]:
        """All paths from `path` up to an anchor, the likeliest first; where it goes no further, the reason is put into `dead`."""
        last = path[-1]
        if last.der in self._anchors:
            yield path
            return
        name = display(last)
        issuers = [one for one in self._issuers_of(last) if not any(_same(one, other) for other in path)]
        if not issuers:
            if last.self_issued and len(path) == 1:
                message = "it is signed by itself and is not one of the trusted roots"
            else:
                message = f"its issuer {names.display(last.issuer)} is not known here"
            dead.append((path, Finding("path", "no-issuer", name, message, {"issuer": names.display(last.issuer)})))
        for issuer in issuers:
            if len(path) >= MOST_STEPS:
                dead.append((path, Finding("path", "too-long", name, f"the path is longer than {MOST_STEPS} certificates")))
                return
            if problem := self._signature(last, issuer):
                dead.append((path, Finding("path", "bad-signature", name, problem, {"issuer": display(issuer)})))
            else:
                yield from self._paths((*path, issuer), dead)

    def _issuers_of(self, certificate: Certificate) -> list[Certificate]:
        """Certificates with the name of the issuer: first those whose key identifier fits, among them anchors and those in their dates."""
        found = self._by_subject.get(canonical(certificate.issuer), [])
        self._candidates += len(found)
        if self._candidates > MOST_CANDIDATES:
            raise Refused("too-complex", f"more than {MOST_CANDIDATES} possible issuers were looked at")
        wanted = certificate.authority_key_id

        def rank(issuer: Certificate) -> tuple[bool, bool, bool]:
            fits = wanted is None or issuer.key_id is None or wanted == issuer.key_id
            return not fits, issuer.der not in self._anchors, not issuer.not_before <= self.at <= issuer.not_after

        return sorted(found, key=rank)

    def _signature(self, certificate: Certificate, issuer: Certificate) -> str:
        """Whether the issuer's key signed the certificate: "" or why not."""
        asked = certificate.der, issuer.spki
        if asked not in self._signatures:
            if len(self._signatures) >= MOST_SIGNATURES:
                raise Refused("too-complex", f"more than {MOST_SIGNATURES} signatures would have to be checked")
            self._signatures[asked] = self._check_signature(certificate, issuer)
        return self._signatures[asked]

    def _check_signature(self, certificate: Certificate, issuer: Certificate) -> str:
        if not signature.supported(certificate.algorithm, legacy=self.legacy):
            return f"it is signed with {signature.describe(certificate.algorithm)}, which is not accepted"
        if signature.verify(issuer.spki, certificate.algorithm, certificate.signature, certificate.tbs, legacy=self.legacy):
            return ""
        return f"its signature was not made by the key of {display(issuer)}"

    # Judging one path

    def _judge_path(self, path: tuple[Certificate, ...], purpose: str | None, rules: Rules) -> Verdict:
        findings = [finding for certificate in path for finding in _dates(certificate, self.at)]
        problems, accepted = _walk(path, rules)
        findings += problems
        checked = ["path", "dates"]
        if purpose:
            findings += _usage(path, purpose)
            checked.append("usage")
        if self.crls is not None:
            findings += self._revocation(path)
            checked.append("revocation")
        findings.sort(key=lambda finding: CHECKS.index(finding.check))
        return Verdict(path, tuple(findings), tuple(checked), accepted)

    def _revocation(self, path: tuple[Certificate, ...]) -> Iterator[Finding]:
        """One finding for each certificate below the anchor that is revoked, or not known not to be."""
        for certificate in path[:-1]:
            if certificate is path[0] and not certificate.ca and certificate.extension(oids.NO_REV_AVAIL):
                continue  # short-lived on purpose (RFC 9608)
            found = revocation.status(certificate, self.crls or (), at=self.at, trusted=lambda crl: self._crl_trusted(crl, path))
            if found.state == "good":
                continue
            name = display(certificate)
            if found.entry:
                facts = {"serial": certificate.serial, "revoked_at": iso(found.entry.at), "reason": found.entry.reason}
                yield Finding("revocation", "on-hold" if found.entry.reason == "certificate-hold" else "revoked", name, found.message, facts)
            else:
                message = f"whether it is revoked cannot be told: {found.message}"
                yield Finding("revocation", "revocation-unknown", name, message, {"serial": certificate.serial})

    def _crl_trusted(self, crl: Crl, path: tuple[Certificate, ...]) -> str:
        """Whether somebody signed this CRL who leads to the same anchor as `path` (RFC 5280 6.3.3 f): "" or why not."""
        asked = crl.der, path[-1].der
        if asked in self._trusted:
            return self._trusted[asked]
        answer = self._find_signer(crl, path)
        if not self._signers:  # inside the judgement of another signer an answer may hang on that one
            self._trusted[asked] = answer
        return answer

    def _find_signer(self, crl: Crl, path: tuple[Certificate, ...]) -> str:
        why = f"who signed the CRL of {names.display(crl.issuer)} is not known here"
        above = path[1:]
        others = [one for one in self._by_subject.get(canonical(crl.issuer), []) if one not in above]
        wanted = crl.authority_key_id
        others.sort(key=lambda one: wanted is not None and one.key_id is not None and one.key_id != wanted)
        for signer in (*above, *others[:MOST_STEPS]):
            if canonical(signer.subject) != canonical(crl.issuer):
                continue
            problem = revocation.signed_by(crl, signer, legacy=self.legacy)
            if not problem and signer not in above:
                problem = self._signer_problem(signer, path[-1])
            if not problem:
                return ""
            why = problem
        return why

    def _signer_problem(self, signer: Certificate, anchor: Certificate) -> str:
        """Whether a CRL signer beside the path has a good path of its own to the same anchor."""
        name = display(signer)
        if signer.der in self._signers:
            return revocation.CIRCULAR
        if len(self._signers) >= _MOST_NESTING:
            return f"the CRL signer {name} hangs on too many others"
        self._signers.append(signer.der)
        try:
            verdict = self.judge(signer, None, Rules(), only_anchor=anchor.der)
        finally:
            self._signers.pop()
        return "" if verdict.ok else f"the CRL signer {name} is not trusted: {verdict.findings[0].message}"


def display(certificate: Certificate) -> str:
    """A certificate's subject for people; where it is empty, its alternative names or its serial."""
    general = certificate.names
    return names.display(certificate.subject) or ", ".join((*general.dns, *general.ips, *general.emails)) or f"serial {certificate.serial}"


def _same(one: Certificate, other: Certificate) -> bool:
    """The same holder with the same key: to pass it twice is a loop (RFC 4158 2.4.2)."""
    return one.der == other.der or (one.spki == other.spki and one.subject == other.subject and one.names == other.names)


def _weight(verdict: Verdict) -> tuple[bool, int, int]:
    """Less is better: what is wrong with the path itself weighs more than a date."""
    return "path" in verdict.failed, len(verdict.failed), len(verdict.findings)


def _dates(certificate: Certificate, at: int) -> Iterator[Finding]:
    name = display(certificate)
    if at < certificate.not_before:
        message = f"it is not valid before {iso(certificate.not_before)}"
        yield Finding("dates", "not-yet-valid", name, message, {"not_before": iso(certificate.not_before), "at": iso(at)})
    if at > certificate.not_after:
        message = f"it has expired on {iso(certificate.not_after)}"
        yield Finding("dates", "expired", name, message, {"not_after": iso(certificate.not_after), "at": iso(at)})


def _walk(path: tuple[Certificate, ...], rules: Rules) -> tuple[list[Finding], frozenset[str]]:
    """RFC 5280 6.1.2 to 6.1.5 from below the anchor down to the target, without signatures, dates and revocation. Findings, and the accepted policies."""
    anchor, steps = path[-1], path[-2::-1]
    findings: list[Finding] = []
    graph = PolicyGraph(rules, len(steps))
    subtrees = Subtrees()
    room = len(steps)  # max_path_length
    if steps:
        room = _enter_issuer(anchor, room + 1, subtrees, findings, anchor=True)
    for depth, certificate in enumerate(steps):
        last = depth == len(steps) - 1
        name = display(certificate)
        if (last or not certificate.self_issued) and (problem := subtrees.problem(certificate)):
            findings.append(Finding("path", "name-constraints", name, problem))
        try:
            said = policies.read(certificate)
        except Malformed as problem_read:
            findings.append(Finding("path", "bad-policies", name, problem_read.message))
            return findings, frozenset()
        graph.enter(said, self_issued=certificate.self_issued, last=last)
        if unknown := [one.oid for one in certificate.extensions if one.critical and one.oid not in _UNDERSTOOD]:
            message = f"it has critical extensions that are not understood: {', '.join(unknown)}"
            findings.append(Finding("path", "unknown-critical", name, message, {"oids": unknown}))
        if last:
            graph.leave(said)
        else:
            graph.prepare(said, self_issued=certificate.self_issued)
            room = _enter_issuer(certificate, room, subtrees, findings)
    if graph.problem:
        findings.append(Finding("path", "policies", display(path[0]), graph.problem))
    return findings, graph.accepted()


def _enter_issuer(issuer: Certificate, room: int, subtrees: Subtrees, findings: list[Finding], *, anchor: bool = False) -> int:
    """RFC 5280 6.1.4 g and k to n for a certificate that signed the next one: how many non-self-issued ones may still follow."""
    name = display(issuer)
    if not issuer.ca and not (anchor and issuer.version == 1):  # an anchor of version 1 was made a CA by whoever trusts it
        findings.append(Finding("path", "not-a-ca", name, "it is no CA, yet it signed the next certificate"))
    if issuer.key_usage is not None and "keyCertSign" not in issuer.key_usage:
        findings.append(Finding("path", "no-cert-sign", name, "its key usage does not allow it to sign certificates"))
    if not issuer.self_issued:
        if room == 0:
            findings.append(Finding("path", "path-length", name, "an issuer above it allows no further CA below itself (path length)"))
        room = max(room - 1, 0)
    if issuer.path_length is not None:
        room = min(room, issuer.path_length)
    if issuer.constraints:
        subtrees.add(issuer.constraints)
    return room


def _usage(path: tuple[Certificate, ...], purpose: str | None) -> Iterator[Finding]:
    """Whether the certificate may be used so, and whether its issuers allow it (their extended key usages nest, as web servers and browsers see it)."""
    if not purpose:
        return
    wanted = PURPOSES.get(purpose, purpose)
    leaf, name = path[0], display(path[0])
    role = {"client": "a client", "server": "a server"}.get(purpose, wanted)
    if leaf.extended is not None and wanted not in leaf.extended:
        message = f"it is not for {role}: its extended key usage is {', '.join(leaf.extended)}"
        yield Finding("usage", "extended-usage", name, message, {"found": list(leaf.extended), "wanted": wanted})
    allowed = {"client": ("digitalSignature",), "server": ("digitalSignature", "keyEncipherment", "keyAgreement")}.get(purpose, ())
    if allowed and leaf.key_usage is not None and not set(allowed) & set(leaf.key_usage):
        found = ", ".join(leaf.key_usage) or "nothing"
        message = f"it cannot act as {role}: its key usage is {found}, needed is {' or '.join(allowed)}"
        yield Finding("usage", "key-usage", name, message, {"found": list(leaf.key_usage), "wanted": list(allowed)})
    for issuer in path[1:]:
        if issuer.extended is not None and wanted not in issuer.extended and "anyExtendedKeyUsage" not in issuer.extended:
            message = f"as an issuer it is not for {wanted}: its extended key usage is {', '.join(issuer.extended)}"
            yield Finding("usage", "issuer-usage", display(issuer), message, {"found": list(issuer.extended), "wanted": wanted})


def describe(verdict: Verdict) -> list[str]:
    """The verdict in sentences: one for each check, and below it what was found."""
    lines: list[str] = []
    chain = " <- ".join(display(certificate) for certificate in reversed(verdict.path))
    for check in CHECKS:
        found = [finding for finding in verdict.findings if finding.check == check]
        state = "failed" if found else "passed" if check in verdict.checked else "not checked"
        lines.append(f"{check}: {state}" + (f" ({chain})" if check == "path" else ""))
        lines += [f"  {finding.subject}: {finding.message}" for finding in found]
    return lines
