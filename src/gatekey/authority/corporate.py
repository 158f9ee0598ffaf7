"""A root that is not ours: our issuing CAs are certified by somebody else's root, either here and now with its key, or elsewhere from our requests.

Certificates and CRLs that were signed elsewhere are checked as strictly as those of strangers before the ledger takes them in.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import files
from ..errors import Conflict, NotFound, Reason, Refused
from ..model.instants import day
from ..model.names import Names
from ..model.plan import NameConstraints
from ..model.record import AuthorityRecord
from ..model.request import Request
from ..ports import Keyring, Signer
from ..x509 import signature as x509_signature
from ..x509.certificate import Certificate, read_certificate
from ..x509.crl import Crl, read_crl
from ..x509.csr import encode_csr
from ..x509.names import display
from ..x509.spki import read_spki
from . import crl as crls
from .authority import Say, silent
from .ceremony import Founding, write_files
from .issue import found_root

if TYPE_CHECKING:
    from .authority import Authority

#: What we make below a foreign root. `root` is that root, for both sides; what lies between is called `upper`, `upper-2`, ...
ROOT = "root"
ISSUING = (Founding("people", "issuing", "people", ROOT, "people"), Founding("servers", "issuing", "servers", ROOT, "servers"))


def make_requests(authority: Authority, key_type: str) -> dict[str, bytes]:
    """Keys for our issuing CAs, and their requests in DER by short name; to be signed elsewhere. The ledger waits for `install`."""
    made = {}
    for founding in ISSUING:
        signer = authority.keyring.make(founding.name, key_type)
        made[founding.name] = request_of(authority, founding, signer)
    return made


def request_of(authority: Authority, founding: Founding, signer: Signer) -> bytes:
    """The certificate request of one of our CAs."""
    return encode_csr(Names(f"{authority.config.name} {founding.title}"), signer.spki, signer.key_type, signer.sign)


def adopt(authority: Authority, root: Certificate, key: Signer, *, key_type: str, constraints: NameConstraints | None, say: Say = silent) -> None:
    """An existing root certifies our issuing CAs now. Its key is used for this alone and is not kept. Raises Refused with all reasons."""
    reasons = _unfit(authority, root, root)
    if key.spki != root.spki:
        reasons.append(Reason("key-mismatch", "the root's key does not belong to the root's certificate", "give --root-cert and --root-key of one root"))
    if root.path_length is not None and root.path_length < 1:
        reasons.append(Reason("unfit-authority", "the root's path length allows no authority below it"))
    if reasons:
        raise Refused.because(tuple(reasons))
    _take_in(authority, AuthorityRecord(ROOT, "root", "both", ROOT, root.serial, 0), root)
    own = authority.keyring
    authority.keyring = _WithRoot(own, key)
    try:
        crls.make(authority, ROOT)
        for founding in ISSUING:
            _found_below(authority, founding, key_type, constraints, say)
    finally:
        authority.keyring = own


def _found_below(authority: Authority, founding: Founding, key_type: str, constraints: NameConstraints | None, say: Say) -> None:
    signer = authority.keyring.make(founding.name, key_type)
    request = Request(
        profile=founding.name,
        names=Names(common_name=f"{authority.config.name} {founding.title}"),
        spki=signer.spki,
        holder=f"authority:{founding.name}",
        requester=authority.actor,
        door="ceremony",
        issuer=ROOT,
    )
    found_root(authority, request, AuthorityRecord(founding.name, "issuing", founding.side, ROOT, "", 0), constraints, say=say)
    crls.make(authority, founding.name)


class _WithRoot:
    """Our keyring with one more key in it, for the length of a ceremony."""

    def __init__(self, own: Keyring, root: Signer) -> None:
        self._own = own
        self._root = root

    def make(self, label: str, key_type: str) -> Signer:
        return self._own.make(label, key_type)

    def open(self, label: str) -> Signer:
        return self._root if label == ROOT else self._own.open(label)

    def labels(self) -> list[str]:
        return sorted({*self._own.labels(), ROOT})


def waiting(authority: Authority) -> list[str]:
    """Short names of our issuing CAs that have a key and no certificate yet."""
    have = {record.name for record in authority.records()}
    return [founding.name for founding in ISSUING if founding.name not in have and authority.has_key(founding.name)]


def requests(authority: Authority) -> dict[str, bytes]:
    """The certificate requests (PEM) of our CAs that wait for a root elsewhere to sign them. Raises NotFound when one is not where `init` has put it."""
    return {name: files.read(authority.config.home / "authorities" / f"{name}.csr", files.MAX_INPUT) for name in waiting(authority)}


def install(authority: Authority, certificates: Sequence[bytes], lists: Sequence[bytes]) -> list[str]:
    """Takes in what was signed elsewhere: certificates of our issuing CAs, the authorities above them up to their root, and those authorities' CRLs.

    All of it is looked at before any of it is taken. Says what it did. Raises Refused with all reasons, NotFound when nothing of it concerns us.
    """
    offered = list(dict.fromkeys(certificates))
    read = [read_certificate(der) for der in offered]
    ours = {founding.name: authority.keyring.open(founding.name).spki for founding in ISSUING if founding.name in waiting(authority)}
    chains = {name: _chain(authority, leaf, read) for name, spki in ours.items() for leaf in read if leaf.spki == spki}
    here = [record.name for record in authority.records() if record.role != "root" and authority.issuing(record.name).certificate.der in offered]
    if not chains and not lists and not here:
        names = ", ".join(ours) or "nothing"
        hint = f"waiting for a certificate: {names}; gatekey authority list"
        raise NotFound("not-ours", "none of these certificates is for a key of ours", hint=hint, waiting=list(ours))
    done = [f"{name} is here already" for name in here]
    for name, chain in chains.items():
        done += _install_chain(authority, name, chain)
    for der in lists:
        done.append(_install_crl(authority, read_crl(der)))
    write_files(authority)
    missing = [r.name for r in authority.records() if r.role == "root" and not authority.has_key(r.name) and crls.newest(authority, r.name) is None]
    done += [f"still needed: the CRL of {name}, or no web server will let anybody in: gatekey authority install FILE" for name in missing]
    return done


def _chain(authority: Authority, leaf: Certificate, offered: Sequence[Certificate]) -> list[Certificate]:
    """Leaf first, root last; every link checked. Raises Refused."""
    known = [authority.issuing(record.name).certificate for record in authority.records()]
    chain = [leaf]
    while not chain[-1].self_issued:
        above = next((c for c in (*offered, *known) if c.subject == chain[-1].issuer and c not in chain and _signed(c, chain[-1])), None)
        if above is None:
            raise Refused(
                "chain-incomplete",
                f"the certificate of {display(chain[-1].subject)} was signed by {display(chain[-1].issuer)}, which is not among the files",
                hint="give the certificates of all authorities above it, the root included",
            )
        chain.append(above)
    reasons = [reason for below, above in zip(chain, [*chain[1:], chain[-1]], strict=True) for reason in _unfit(authority, below, above)]
    for depth, authority_above in enumerate(chain[1:]):
        if authority_above.path_length is not None and authority_above.path_length < depth + (chain[0].ca is True):
            reasons.append(Reason("unfit-authority", f"the path length of {display(authority_above.subject)} does not allow {depth + 1} authorities below it"))
    if reasons:
        raise Refused.because(tuple(reasons))
    return chain


def _signed(above: Certificate, below: Certificate) -> bool:
    return x509_signature.verify(above.spki, below.algorithm, below.signature, below.tbs)


def _unfit(authority: Authority, certificate: Certificate, above: Certificate) -> list[Reason]:
    """Why a certificate from elsewhere cannot be that of an authority here."""
    now, name = authority.now(), display(certificate.subject)
    usage = certificate.key_usage
    found = []
    if not certificate.ca:
        found.append(Reason("unfit-authority", f"{name} is not a certificate of an authority (basicConstraints)"))
    if usage is not None and not {"keyCertSign", "cRLSign"} <= set(usage):
        found.append(Reason("unfit-authority", f"{name} may not sign both certificates and CRLs (keyUsage)"))
    if certificate.extended is not None:
        found.append(Reason("unfit-authority", f"{name} has an extended key usage, which would bind every certificate below it"))
    if not certificate.not_before <= now <= certificate.not_after:
        found.append(Reason("unfit-authority", f"{name} is valid from {day(certificate.not_before)} to {day(certificate.not_after)}, not now"))
    if not _signed(above, certificate):
        found.append(Reason("unfit-authority", f"the signature of {name} is not that of {display(above.subject)}"))
    return found


def _install_chain(authority: Authority, name: str, chain: list[Certificate]) -> list[str]:
    founding = next(one for one in ISSUING if one.name == name)
    parent = ROOT
    done = []
    above = list(reversed(chain[1:]))
    for depth, certificate in enumerate(above):
        short = ROOT if depth == 0 else "upper" if depth == 1 else f"upper-{depth}"
        held = next((r for r in authority.records() if r.name == short), None)
        if held is None:
            _take_in(authority, AuthorityRecord(short, "root", "both", parent if depth else ROOT, certificate.serial, 0), certificate)
            done.append(f"took in {short}: {display(certificate.subject)}")
        elif authority.issuing(short).certificate.der != certificate.der:
            there = display(authority.issuing(short).certificate.subject)
            raise Conflict("other-root", f"{name} hangs below {display(certificate.subject)}, but {short} is {there} already")
        parent = short
    _take_in(authority, AuthorityRecord(name, "issuing", founding.side, parent, chain[0].serial, 0), chain[0])
    crls.make(authority, name)
    return [*done, f"installed {name}: {display(chain[0].subject)}, until {day(chain[0].not_after)}"]


def _take_in(authority: Authority, record: AuthorityRecord, certificate: Certificate) -> None:
    public = read_spki(certificate.spki)
    row: dict[str, object] = {
        "profile": "foreign",
        "profile_sha256": "",
        "holder": f"authority:{record.name}",
        "device": "",
        "common_name": certificate.common_name,
        "alternatives": json.dumps([]),
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "spki_sha256": public.sha256,
        "key_type": public.label,
        "lineage": f"{record.parent}/{certificate.serial}",
        "renews": "",
        "requester": authority.actor,
        "door": "ceremony",
        "idempotency": None,
        "request_sha256": "",
    }
    now = authority.now()
    authority.ledger.install(record._replace(created_at=now), certificate.tbs, certificate.signature, certificate.der, row, now=now)
    authority.forget()


def _install_crl(authority: Authority, offered: Crl) -> str:
    now = authority.now()
    record = next((r for r in authority.records() if authority.issuing(r.name).certificate.subject == offered.issuer), None)
    if record is None:
        raise NotFound("not-ours", f"the CRL of {display(offered.issuer)} is not that of an authority here", hint="gatekey authority list")
    certificate = authority.issuing(record.name).certificate
    if authority.has_key(record.name):
        raise Conflict("own-crl", f"the CRLs of {record.name} are signed here", hint=f"gatekey crl --authority {record.name}")
    reasons = []
    if not x509_signature.verify(certificate.spki, offered.algorithm, offered.signature, offered.tbs):
        reasons.append(Reason("unfit-crl", f"the signature of the CRL is not that of {record.name}"))
    if offered.is_delta:
        reasons.append(Reason("unfit-crl", "it is a delta, which web servers misread; the full CRL is needed"))
    if offered.next_update is None or not offered.this_update <= now < offered.next_update:
        reasons.append(Reason("unfit-crl", "it is not good now: every web server that got it would refuse everybody"))
    held = crls.newest(authority, record.name)
    if held and offered.this_update < held.this_update:
        reasons.append(Reason("unfit-crl", "it is older than the one that is here"))
    if any(offered.find(int(r.serial, 16)) for r in authority.records() if r.parent == record.name):
        reasons.append(Reason("unfit-crl", "it revokes one of our own authorities: everything below it is refused from now on", "make a new authority"))
    if reasons:
        raise Refused.because(tuple(reasons))
    assert offered.next_update is not None  # noqa: S101  refused above
    authority.ledger.install_crl(
        record.name, offered.tbs, offered.signature, offered.this_update, offered.next_update, offered.count, now=now, actor=authority.actor
    )
    return f"took in the CRL of {record.name}: {offered.count} revoked, good until {day(offered.next_update)}"
