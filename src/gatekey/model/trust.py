"""How each system is told to trust a root, as data."""

from __future__ import annotations

from pathlib import PurePath


def steps(file: PurePath, subject: str) -> dict[str, str]:
    """System -> what to type or click there. `file`: where the root's certificate lies, in PEM; `subject`: its common name."""
    name = "".join(c if c.isalnum() else "-" for c in subject.lower()).strip("-")
    return {
        "Debian, Ubuntu": f"sudo cp '{file}' /usr/local/share/ca-certificates/{name}.crt\nsudo update-ca-certificates",
        "Fedora, RHEL": f"sudo cp '{file}' /etc/pki/ca-trust/source/anchors/{name}.crt\nsudo update-ca-trust",
        "macOS": f"sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain '{file}'",
        "Windows (as administrator)": f'certutil -addstore -f Root "{file.name}"',
        "Firefox (Linux, its own store)": "Settings > Privacy & Security > View Certificates > Authorities > Import; tick: trust to identify websites",
        "Chrome and Chromium on Linux": f"certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n '{subject}' -i '{file}'",
        "curl, for one call": f"curl --cacert '{file}' https://...",
    }
