"""A folder as the authority publishes it, made with `kit.pki` so that every part of it can be wrong in one thing.

    town = Published(tmp_path / "published")     # ann, bob and carl have certificates; nobody is revoked
    town.revoke(town.bob); town.publish()        # the next revocation number, switched as a whole
    town.publish(town.contents(crls=...))        # other bytes, with a manifest that fits them
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from gatekey import files
from gatekey.model import bundle
from gatekey.model.instants import iso
from gatekey.x509.names import rfc2253
from kit.pki import Leaf, Pki, make_pki

DAY = 86400


class Published:
    """What `gatekey revoke` and `gatekey bundle` leave behind in the folder that agents watch."""

    def __init__(self, folder: Path, pki: Pki | None = None) -> None:
        self.folder = folder
        self.pki = pki or make_pki()
        self.ann, self.bob, self.carl = (self.pki.client(login) for login in ("ann", "bob", "carl"))
        self.denied: list[Leaf] = []
        self.number = 0
        self.made_at = int(time.time())

    @property
    def issuer_dn(self) -> str:
        return rfc2253(self.pki.issuing.certificate.subject.public_bytes())

    def revoke(self, *leaves: Leaf) -> None:
        self.denied += leaves
        self.pki.revoke(*leaves)
        self.number += len(leaves)

    def contents(self, *, chain: bytes | None = None, crls: bytes | None = None, **manifest: Any) -> dict[str, bytes]:
        """All files as they should be now, with another chain or other CRLs; `manifest`: fields that it shall have."""
        denied = [bundle.Denied(self.issuer_dn, leaf.serial) for leaf in self.denied]
        people = [leaf for leaf in (self.ann, self.bob, self.carl) if leaf not in self.denied]
        known = [
            bundle.Known(
                self.issuer_dn, "people", leaf.serial, leaf.fingerprint, leaf.name, 'Ä; "B" $x', f"{leaf.name}@example.com", ("staff", "a, b"), "laptop"
            )
            for leaf in people
        ]
        ders = [ca.certificate.public_bytes(Encoding.DER) for ca in self.pki.authorities]
        made = {
            "people-chain.pem": self.pki.chain_pem if chain is None else chain,
            "all.crl.pem": self.pki.crls() if crls is None else crls,
            **{name: text.encode() for name, text in bundle.texts(denied, known, [self.issuer_dn], self.made_at, ders).items()},
        }
        return with_manifest(made, **{"number": self.number, "made_at": self.made_at, **manifest})

    def publish(self, contents: Mapping[str, bytes] | None = None, **changes: Any) -> dict[str, bytes]:
        """Switches the folder to these files (or to `contents(**changes)`), as the authority does it."""
        made = dict(self.contents(**changes) if contents is None else contents)
        files.switch(self.folder, made, hashlib.sha256(made["manifest.json"]).hexdigest()[:16])
        return made


def with_manifest(contents: Mapping[str, bytes], *, number: int, made_at: int, **changes: Any) -> dict[str, bytes]:
    """The files with a manifest that lists them as they are."""
    made = {name: data for name, data in contents.items() if name != "manifest.json"}
    said = json.loads(bundle.manifest(number, made_at, made_at + 30 * DAY, made)) | changes
    assert said["made_at"] == iso(made_at) or "made_at" in changes
    return {**made, "manifest.json": json.dumps(said).encode()}


def changed(contents: Mapping[str, bytes], **files_: bytes | None) -> dict[str, bytes]:
    """The same bundle with other bytes in some files (`people_map=`; None takes one out) and a manifest that fits."""
    names = {name.replace("-", "_").replace(".", "_"): name for name in contents}
    made = dict(contents)
    for key, data in files_.items():
        if data is None:
            del made[names[key]]
        else:
            made[names[key]] = data
    said = json.loads(contents["manifest.json"])
    from gatekey.model.instants import parse_instant

    return with_manifest(made, number=said["number"], made_at=parse_instant(said["made_at"]))


def current(folder: Path) -> dict[str, bytes]:
    """What a web server would read in a folder now: every file that is not hidden, and that is there."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".") and path.is_file()} if folder.is_dir() else {}
