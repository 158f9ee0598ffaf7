"""Ann and Bob with their certificates, the bundle folder that knows them, and what web servers say about them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from gatekey.model import bundle
from kit.pki import Leaf, Pki, make_pki

ISSUER = "CN=kitty-ca people"
FAR = 4_102_444_800  # 2100


class House:
    """A PKI, Ann and Bob in it, and a bundle folder."""

    def __init__(self, folder: Path) -> None:
        self.pki: Pki = make_pki()
        self.ann: Leaf = self.pki.client("ann")
        self.bob: Leaf = self.pki.client("bob")
        self.bundle = folder / "bundle"
        self.bundle.mkdir()
        self.denied: list[bundle.Denied] = []
        self.known = [
            self.person(self.ann, name="Änn Öberg", groups=("staff", "büro 2"), device="laptop"),
            self.person(self.bob, name="Bob", groups=(), device="phone"),
        ]
        self.write()

    def person(self, leaf: Leaf, *, name: str = "", groups: tuple[str, ...] = (), device: str = "", not_after: int = FAR) -> bundle.Known:
        return bundle.Known(ISSUER, "people", leaf.serial, leaf.fingerprint, leaf.name, name, f"{leaf.name}@example.com", groups, device, not_after)

    def write(self) -> None:
        """Publishes `known` and `denied`, each file by one rename."""
        texts = bundle.texts(self.denied, self.known, [ISSUER], 1)
        for name in ("people.json", "revoked.lst", "issuers.lst"):
            fresh = self.bundle / f".{name}.new"
            fresh.write_text(texts[name])
            fresh.replace(self.bundle / name)

    def revoke(self, leaf: Leaf) -> None:
        self.denied.append(bundle.Denied(ISSUER, leaf.serial))
        self.known = [known for known in self.known if known.serial != leaf.serial]
        self.write()


def escaped_pem(leaf: Leaf) -> str:
    """As nginx's $ssl_client_escaped_cert prints it."""
    return quote(leaf.certificate_pem.decode(), safe="-")


def nginx_says(leaf: Leaf) -> dict[str, str]:
    """The headers that nginx sets for a client that the people map does not know."""
    return {"X-Client-Verify": "SUCCESS", "X-Client-Serial": leaf.serial, "X-Client-Issuer": ISSUER, "X-Client-Cert": escaped_pem(leaf)}
