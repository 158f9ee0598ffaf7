"""How a certificate gets into the place where a device looks for it: the steps for each system, as data. NAME stands for the person's login.

Steps on Windows, macOS, iOS, Android and ChromeOS follow the vendors' guides; those for Linux, Java and curl are run by the tests.
"""

from __future__ import annotations

from typing import NamedTuple

from .names import login_problem


class Step(NamedTuple):
    """One thing to do, in words; `command` is what to type for it, "" when there is nothing to type."""

    words: str
    command: str = ""


class Guide(NamedTuple):
    """The steps for one system. `ending`: of the file that they begin with; `make`: the command of the authority that makes it.

    `helper`: the text of a file that the steps need, called NAME with the ending `helper_ending`.
    """

    title: str
    ending: str
    make: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    helper_ending: str = ""
    helper: str = ""


def as_dict(target: str, guide: Guide, helper_name: str) -> dict[str, object]:
    """A guide as JSON has it."""
    return {
        "target": target,
        "title": guide.title,
        "made_with": guide.make,
        "steps": [{"words": step.words, "command": step.command or None} for step in guide.steps],
        "notes": list(guide.notes),
        "file": {"name": helper_name, "text": guide.helper} if guide.helper else None,
    }


_WRONG = (
    "If it says that the password is wrong although it is right, it is the form of the file: ask for the other one (--for modern instead of --for any, "
    "or the other way round)."
)
_AFTERWARDS = "Then delete the file: whoever has the file and its password has the certificate. For another device ask for another one."
_NOTHING = "If the site does not ask for a certificate, restart the browser: it looks for new ones only then, and remembers for as long if Cancel was pressed."
_SITE = "If the browser warns of the site itself, its root is not trusted on this device yet. On the authority, `gatekey trust` shows how that is done."
_CHOOSE = Step("Open the site, choose the certificate NAME in the question that comes up, and press OK.")
_ANY = "gatekey issue client NAME --device DEVICE"

#: The key is made in the TPM and never leaves it; what comes back from the authority is a certificate, no secret. KeyUsage 0x80 is digitalSignature.
_INF = """\
[Version]
Signature = "$Windows NT$"

[NewRequest]
Subject = "CN=NAME"
KeyAlgorithm = RSA
KeyLength = 2048
HashAlgorithm = SHA256
ProviderName = "Microsoft Platform Crypto Provider"
MachineKeySet = FALSE
Exportable = FALSE
RequestType = PKCS10
KeyUsage = 0x80

[EnhancedKeyUsageExtension]
OID = 1.3.6.1.5.5.7.3.2
"""

GUIDES = {
    "windows": Guide(
        "Windows, by hand: Edge, Chrome and Firefox",
        "p12",
        _ANY,
        (
            Step("Double-click NAME.p12."),
            Step("Store location: Current User. Press Next, and Next again."),
            Step("Type the password. Leave the boxes for strong protection and for an exportable key empty: the first makes Windows ask at every use."),
            Step("Leave it to Windows to choose the store. Press Next, Finish, OK."),
            Step("Close all windows of the browser and open it again."),
            _CHOOSE,
        ),
        (
            "With Local Machine instead of Current User, other users of the computer would see the certificate.",
            "Firefox reads the store of Windows by itself.",
            _WRONG,
            _NOTHING,
            _SITE,
            _AFTERWARDS,
        ),
    ),
    "windows-script": Guide(
        "Windows, from a command prompt or a script",
        "p12",
        _ANY,
        (
            Step(
                "Import it for the user who is signed in; certutil asks for the password. NoExport: the key cannot be copied out again; NoRoot: no root is "
                "installed.",
                'certutil -user -importpfx My "NAME.p12" NoExport,NoRoot',
            ),
            Step("See that it is there, with its private key.", 'certutil -user -store My "NAME"'),
            Step("Delete the file.", 'del "NAME.p12"'),
        ),
        (
            "Where nobody can be asked, certutil takes the password as `-p PASSWORD`. Whoever may list the processes of the computer can then read it.",
            "A browser that is open must be restarted.",
            _WRONG,
            _SITE,
        ),
    ),
    "windows-born": Guide(
        "Windows, with a key that is made in the computer's TPM and never leaves it",
        "crt",
        "gatekey issue client NAME --csr NAME.csr --device DEVICE",
        (
            Step(
                "On the computer, as the user who will use it: write the file NAME.inf, whose text stands below, and make key and request.",
                'certreq -new -user "NAME.inf" "NAME.csr"',
            ),
            Step("Send NAME.csr to the authority. It holds no secret."),
            Step(
                "On the authority: issue the certificate and send NAME.crt back. It is no secret either.",
                'gatekey issue client "NAME" --csr "NAME.csr" --device DEVICE',
            ),
            Step("On the computer again, as the same user: bring certificate and key together.", 'certreq -accept -user "NAME.crt"'),
            Step("Restart the browser."),
            _CHOOSE,
        ),
        (
            "There is no password and nothing to delete: the request is useless to others, and the key cannot be copied.",
            "Without a TPM certreq says that the provider is not there; `Microsoft Software Key Storage Provider` in NAME.inf makes the key in Windows itself.",
            "If -accept finds no chain to a trusted root: `certutil -user -addstore My NAME.crt`, then `certutil -user -repairstore My SERIAL`.",
            _SITE,
        ),
        "inf",
        _INF,
    ),
    "macos": Guide(
        "macOS: Safari, Chrome and Firefox",
        "p12",
        _ANY,
        (
            Step("Double-click NAME.p12. Keychain Access opens; choose the keychain `login`."),
            Step("Type the password of the file; the Mac may ask for your own password as well."),
            Step("Quit Chrome and open it again. Safari and Firefox need no restart."),
            Step("Open the site, choose the certificate NAME, and press Continue."),
            Step("When the Mac asks whether the browser may use the key: type your password and press Always Allow. With Allow it asks each time."),
        ),
        (
            'From a terminal: security import "NAME.p12" -f pkcs12 (without -f macOS guesses the form of the file, and wrongly).',
            "A profile (--for apple) does it too: double-click it, then System Settings > General > Device Management, or Privacy & Security > Profiles.",
            "If Safari keeps sending another certificate: Keychain Access > login > All Items, delete the identity preference of that site.",
            "macOS 14 and older open the form `any` only.",
            _WRONG,
            _SITE,
            _AFTERWARDS,
        ),
    ),
    "ios": Guide(
        "iPhone and iPad: Safari",
        "mobileconfig",
        "gatekey issue client NAME --device DEVICE --for apple",
        (
            Step("Bring NAME.mobileconfig to the device: open its link with Safari, or send it by AirDrop or Mail. Press Allow."),
            Step("Settings > Profile Downloaded, or Settings > General > VPN & Device Management."),
            Step("Press Install, type the passcode of the device, press Install twice more. It says `Not Signed`: that is right."),
            Step("Type the password of the certificate, press Next and Done."),
            Step("Open the site in Safari and choose the certificate."),
        ),
        (
            "Only Safari can use it: Chrome, Firefox and other apps on iPhones and iPads do not see installed certificates.",
            "The profile of a renewed certificate takes the place of this one when it is installed in the same way.",
            "If the device does not take it, ask for one with --key-type rsa-2048: Apple promises RSA only.",
            "If the site's own root was installed as a profile: Settings > General > About > Certificate Trust Settings, and switch it on.",
            "A web server that hands the file out must call it application/x-apple-aspen-config.",
            _AFTERWARDS,
        ),
    ),
    "android": Guide(
        "Android: Chrome",
        "p12",
        _ANY,
        (
            Step("Copy NAME.p12 to the device. It must have a screen lock."),
            Step("Settings > Security > Encryption & credentials > Install a certificate > VPN & app user certificate. The words differ from maker to maker."),
            Step("Choose NAME.p12, type its password, give it a name, press OK."),
            Step("Open the site in Chrome, choose the certificate, and press Select."),
        ),
        (
            "If Cancel was pressed once, Chrome remembers that for the site, also over restarts: Settings > Apps > Chrome > Storage > Clear data.",
            "Android 13 and older open the form `any` only.",
            _WRONG,
            _SITE,
            _AFTERWARDS,
        ),
    ),
    "firefox": Guide(
        "Firefox on Linux, with its own store",
        "p12",
        _ANY,
        (
            Step("Settings > Privacy & Security > Certificates > View Certificates > Your Certificates > Import."),
            Step("Choose NAME.p12, type its password, press OK."),
            _CHOOSE,
        ),
        (
            "On Windows and macOS, Firefox reads the system's store: take the steps for these.",
            "Thunderbird has the same window, and a store of its own.",
            "From a terminal, with Firefox closed: the steps for nss, with the folder of the profile (about:profiles) in the place of $HOME/.pki/nssdb.",
            _SITE,
            _AFTERWARDS,
        ),
    ),
    "chrome-linux": Guide(
        "Chrome and Chromium on Linux",
        "p12",
        _ANY,
        (
            Step("Open chrome://certificate-manager > Your certificates > Import."),
            Step("Choose NAME.p12, type its password, press OK. Or from a terminal:", 'pk12util -d "sql:$HOME/.pki/nssdb" -i "NAME.p12"'),
            _CHOOSE,
        ),
        (
            "If pk12util says that there is no such database, the steps for nss make it. It comes with libnss3-tools (Debian, Ubuntu) or nss-tools (Fedora).",
            "So that nobody is asked: a policy AutoSelectCertificateForUrls in /etc/opt/chrome/policies/managed (Debian: /etc/chromium/policies/managed).",
            "From a snap or flatpak, the browser has a home of its own with its own .pki/nssdb.",
            _NOTHING,
            _SITE,
            _AFTERWARDS,
        ),
    ),
    "chromeos": Guide(
        "ChromeOS",
        "p12",
        _ANY,
        (
            Step("Settings > Privacy and security > Security > Manage certificates > Your certificates > Import and bind."),
            Step("Choose NAME.p12, type its password, press OK."),
            _CHOOSE,
        ),
        (
            "Import and bind puts the key into the device's security chip. With Import alone it would lie in the user's folder.",
            _SITE,
            _AFTERWARDS,
        ),
    ),
    "java": Guide(
        "Java",
        "p12",
        _ANY,
        (
            Step("Java reads NAME.p12 as it is. See that it can; keytool asks for the password.", 'keytool -list -storetype PKCS12 -keystore "NAME.p12"'),
            Step(
                "To put it into a key store that is there already; keytool asks for both passwords.",
                'keytool -importkeystore -srcstoretype PKCS12 -srckeystore "NAME.p12" -deststoretype PKCS12 -destkeystore clients.p12',
            ),
            Step("Tell the program: javax.net.ssl.keyStore=NAME.p12, javax.net.ssl.keyStoreType=PKCS12, javax.net.ssl.keyStorePassword=..."),
        ),
        (
            "Give the password in a file of properties that only the program's user may read, not with -D on the command line, where every user sees it.",
            "Java 8 before update 301 and Java 11 before 11.0.12 open the form `any` only.",
            _SITE,
        ),
    ),
    "curl": Guide(
        "curl, and programs that take PEM",
        "pem",
        "gatekey issue client NAME --device DEVICE --for pem",
        (
            Step(
                "NAME.pem holds the key and the certificates as text, not encrypted: only its owner may be able to read it.",
                'chmod 600 "NAME.pem"',
            ),
            Step("Ask the site.", 'curl --cert "NAME.pem" https://SITE/'),
        ),
        (
            "For a site with a certificate of our own servers' authority: --cacert with the root from `gatekey trust`.",
            "Programs that want two files take NAME.key and NAME.chain.crt; Python's requests: cert=('NAME.chain.crt', 'NAME.key').",
            "Only here may keys be Ed25519 or ML-DSA, and only if the web server knows them.",
        ),
    ),
    "nss": Guide(
        "NSS databases: Chromium, Firefox and others on Linux, from a terminal",
        "p12",
        _ANY,
        (
            Step("Make the database, if there is none. No password of its own: programs that run for you could not open it.", 'mkdir -p "$HOME/.pki/nssdb"'),
            Step("", 'certutil -d "sql:$HOME/.pki/nssdb" -L >/dev/null 2>&1 || certutil -d "sql:$HOME/.pki/nssdb" -N --empty-password'),
            Step("Import the file; pk12util asks for its password.", 'pk12util -d "sql:$HOME/.pki/nssdb" -i "NAME.p12"'),
            Step("See that it is there: `u,u,u` stands behind a certificate that has its key.", 'certutil -d "sql:$HOME/.pki/nssdb" -L'),
            Step("Delete the file.", 'rm "NAME.p12"'),
        ),
        (
            "For a site of our own servers' authority, also its root: certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n NAME-OF-THE-ROOT -i ROOT.crt",
            "Both programs come with libnss3-tools (Debian, Ubuntu) or nss-tools (Fedora). Close the browser first.",
        ),
    ),
}


def stem_problem(name: str) -> str | None:
    """Why `name` cannot stand in these texts, or None: they quote it for shells, and a login is plain enough for that."""
    return login_problem(name)


def filled(guide: Guide, name: str, file: str = "") -> Guide:
    """The guide for one person: NAME becomes `name`, and NAME with the guide's ending the name of the file at hand."""
    import shlex

    def fill(text: str) -> str:
        # "NAME-OF-THE-ROOT" is somebody else's name.
        held = text.replace("NAME-OF-THE-ROOT", "\0")
        if file:
            held = held.replace(f"NAME.{guide.ending}", file)
        return held.replace("NAME", name).replace("\0", "NAME-OF-THE-ROOT")

    steps = tuple(Step(fill(step.words), fill(step.command)) for step in guide.steps)
    make = guide.make.replace("NAME", shlex.quote(name))
    return guide._replace(make=make, steps=steps, notes=tuple(map(fill, guide.notes)), helper=fill(guide.helper))
