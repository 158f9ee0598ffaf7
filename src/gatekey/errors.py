"""One family of errors. Every refusal carries a code, a sentence, a hint and its facts as fields.

    GatekeyError
     +- Refused        the rules say no (exit 1)
     +- Malformed      outside bytes or words that cannot be read (exit 1)
     +- NotFound       nothing answers to that name (exit 1)
     +- Conflict       it exists already, or two things answer to one name (exit 1)
     +- Misconfigured  the home, its configuration or its permissions are wrong (exit 3)
     +- Unavailable    try again later: locked, full, unreachable (exit 4)
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple


class Reason(NamedTuple):
    """One reason for a refusal: `code` for programs, `message` and `hint` for people, `facts` for both."""

    code: str
    message: str
    hint: str = ""
    facts: dict[str, Any] = {}  # noqa: RUF012  a NamedTuple default is never mutated


class GatekeyError(Exception):
    """Base of everything that Gatekey refuses in words. Never raised itself.

    `code` is one of `CODES`; `message` says what was found and what is allowed; `hint` says what to do next.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, message: str, *, hint: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.facts = facts


class Refused(GatekeyError):
    """The rules say no. `reasons` holds every reason at once, not only the first."""

    def __init__(self, code: str, message: str, *, hint: str = "", reasons: tuple[Reason, ...] = (), **facts: Any) -> None:
        super().__init__(code, message, hint=hint, **facts)
        self.reasons = reasons or (Reason(code, message, hint, facts),)

    @classmethod
    def because(cls, reasons: tuple[Reason, ...]) -> Refused:
        """One refusal out of one or more reasons; its code is that of the first."""
        first = reasons[0]
        return cls(first.code, "; ".join(r.message for r in reasons), hint=first.hint, reasons=reasons)


class Malformed(GatekeyError):
    """Outside bytes or words that cannot be read."""


class NotFound(GatekeyError):
    """Nothing answers to that name."""


class Conflict(GatekeyError):
    """It exists already, or several things answer to one name."""


class Misconfigured(GatekeyError):
    """The home, its configuration or its permissions are wrong; a person must mend them."""

    exit_code = 3


class Unavailable(GatekeyError):
    """Not now: locked, full or unreachable. Trying again may help."""

    exit_code = 4


#: Every code that may appear in `GatekeyError.code` or `Reason.code`, with its meaning. docs/reference/errors.md lists them all; a test compares.
CODES: dict[str, str] = {
    "bad-der": "the bytes are not strict DER (X.690), or are longer or deeper than the limits allow",
    "bad-certificate": "the bytes are no certificate that can be read (RFC 5280 4.1), or one beyond the limits",
    "bad-csr": "the bytes are no certificate signing request that can be read (RFC 2986), or one beyond the limits",
    "bad-crl": "the bytes are no certificate revocation list that can be read (RFC 5280 5.1), or one beyond the limits",
    "bad-ocsp-request": "the bytes are no OCSP request that can be read (RFC 6960 4.1.1), or one beyond the limits",
    "bad-key": "the bytes are no public key that can be taken, or its type is unknown",
    "bad-name": "a distinguished name or a list of general names cannot be read, or is beyond the limits",
    "bad-pem": "the text is no well-formed PEM (RFC 7468)",
    "empty-file": "the file is empty",
    "unknown-file": "the file is none of the kinds that are understood here; the message says what it looks like",
    "bad-issuer-name": "an issuer's distinguished name is not in the form of RFC 2253 in ASCII",
    "bad-site": "a site's host, upstream, address, path or group cannot be written into a web server's configuration",
    "no-page": "there is nothing at that address of the service",
    "listen": "the service cannot listen where it is told to",
    "no-extra": "a package of an extra is not installed",
    "service-certificate": "the certificate files of the service cannot be used",
    "internal": "something went wrong in the service; its log says what",
    "check-not-allowed": "the configuration does not name this site among those that the service may knock at",
    "no-guide": "there are no steps for a system of that name",
    "too-many-requests": "more requests than one address may make in a second, or more keys and certificates than are made soon",
    "ending": "the process of the service that was asked ends; another one answers, or will",
    "too-large": "the body of a request is larger than is read",
    "too-slow": "a request did not come in time",
    "large-head": "the head of a request is larger than is read",
    "not-http": "what was sent is not HTTP/1.1 as RFC 9112 has it",
    "not-implemented": "HTTP has it, or may have it, and this service does not",
    "too-many-connections": "the address has as many connections as one may have",
    "precondition-failed": "the file is another one than the conditions of the request ask for",
    "method-not-allowed": "the address does not answer this method",
    "checker-refused": "the web server's own checker does not take the configuration; nothing was changed",
    "no-checker": "the web server is not on this machine, so its configuration cannot be tested here",
    "server-cannot": "that web server cannot hold what is asked of it",
    "bad-nginx-dump": "what nginx printed of its configuration cannot be understood",
    "bad-profile": "a profile's file has mistakes; all of them are listed",
    "no-profile": "there is no profile of that name",
    "wrong-profile": "the profile is not for certificates of that kind",
    "profile-issuer": "the profile names an issuer that does not issue such certificates here",
    "profile-exists": "there is a profile of that name already; it is not replaced without --force",
    "profile-built-in": "a profile of one's own would take the place of a built-in one; it does not without --force",
    "not-a-key": "the bytes are no private key",
    "bad-private-key": "a private key is damaged, or its parts do not belong together",
    "unsupported-key": "a private key of a kind that is not accepted",
    "unknown-key-type": "there is no type of key of that name, or none of that size is made here",
    "passphrase-needed": "a private key is encrypted and no passphrase is at hand",
    "wrong-passphrase": "the passphrase does not open a private key",
    "empty-passphrase": "an empty passphrase was given where keys are to be encrypted",
    "unsupported-encryption": "something is encrypted in a way that is not supported",
    "bad-encryption": "the parameters of an encryption are wrong or beyond the limits",
    "bad-pkcs12": "the bytes are no PKCS#12, or it is cut or damaged",
    "wrong-password": "the password does not open a PKCS#12",
    "bad-password": "a password that not every reader of PKCS#12 would take",
    "no-identity": "a PKCS#12 does not hold exactly one private key with its certificate",
    "unknown-target": "there is no form of PKCS#12 of that name",
    "key-not-for-target": "browsers and key stores do not take keys of that type",
    "bad-label": "a key cannot have that name",
    "key-exists": "there is a key of that name already; keys are never overwritten",
    "no-such-key": "there is no key of that name",
    "key-file-exposed": "others than its owner may use a key file",
    "bad-key-file": "a key file is damaged or no ordinary file",
    "disk-full": "there is no room left to write",
    "disk-error": "the disk or the file system refuses to read or write",
    "unwritable": "a file or folder cannot be written or read by this user",
    "store-locked": "another process has held the ledger for too long; nothing was changed, and trying again helps",
    "store-readonly": "the ledger or its folder cannot be written by this user",
    "store-io": "the disk of the ledger reports an error",
    "certificate-in-flight": "a certificate for the same holder and device is being made, or an interrupted run was making one less than two minutes ago",
    "idempotency-in-use": "the same request is being answered at this moment",
    "renew-revoked": "the certificate to be renewed was taken away",
    "release-lost": "the signature came too late: the record was closed meanwhile, and nothing was issued",
    "door-not-allowed": "the profile cannot be asked for by this way",
    "holder-left": "the person has left",
    "name-reserved": "the service uses this name for itself; nobody else is called so",
    "service-stays": "the holder is the service itself, or has its certificate, and cannot leave",
    "issuer-expired": "the certificate of the authority has ended or is about to",
    "issuer-not-yet": "the certificate of the authority does not begin yet, or the clock of this machine is behind",
    "no-issuer": "only an authority may be self-signed",
    "path-too-long": "the authority may not have another authority below it (RFC 5280 4.2.1.9)",
    "key-unknown": "the key is of a kind that is not known",
    "key-not-allowed": "the profile does not take this kind of key",
    "key-too-small": "the RSA key has fewer than 2048 bits",
    "key-too-large": "the RSA key has more than 8192 bits",
    "key-exponent": "the RSA exponent is even, below 65537 or above 2^32",
    "key-weak": "an attack on the key is known",
    "key-compromised": "the key was reported as compromised and is never certified again",
    "key-of-authority": "the key is an authority's own",
    "key-of-another": "the key is in a certificate of somebody else",
    "proof-missing": "possession of the private key was not shown",
    "name-missing": "a server needs a host or an address",
    "names-too-many": "more names are asked for than the profile, or any request, may have",
    "name-twice": "a name is asked for more than once",
    "bad-login": "the login has wrong characters, or is empty or too long",
    "bad-common-name": "the common name is empty, too long, does not print or is not among a server's names",
    "not-the-holder": "the common name is not the holder's login",
    "bad-host": "a host name is not well formed, is not in xn-- form or has a wildcard that is not allowed",
    "bad-address": "an IP address is not well formed or not in its shortest form",
    "bad-email": "an e-mail address is not well formed",
    "name-not-allowed": "the profile does not give this name",
    "outside-constraints": "the name is outside the name constraints of the authority",
    "dates-twice": "days and a last date are both asked for",
    "days-too-few": "the validity that is asked for is less than a day",
    "days-too-many": "the validity that is asked for is longer than the profile allows",
    "beyond-issuer": "the validity that is asked for ends after the authority's own",
    "device-has-one": "the person has a live certificate for this device already",
    "bad-block-list": "the block list of compromised keys is there but cannot be used",
    "identity-look-alike": "a request header looks like one that carries an identity, and is not",
    "identity-doubled": "a request header that carries an identity stands there twice, or one has a certificate and another says that there is none",
    "identity-malformed": "a request header that carries an identity cannot be read",
    "identity-contradiction": "the parts of a request name different clients",
    "identity-nobody": "no verified client stands behind a request",
    "identity-expired": "the client's certificate is not valid at this time",
    "identity-denied": "the client's certificate was revoked or is held",
    "identity-trust": "who may speak for others is not named, or not in a way that can be used",
    "identity-source": "there is no such source of identities",
    "identity-bundle": "people.json or the deny list cannot be read",
    "identity-absent": "the identity middleware is not in front of the app",
    "too-complex": "a certificate's path, names or policies would take more work than is allowed",
    "no-answer": "a server closed the connection without a byte of an answer",
    "bad-answer": "a server's answer is not HTTP/1, or its head is beyond the limits",
    "bad-url": "the URL is not one that can be used here",
    "bad-identity": "a test certificate cannot be used for a handshake: it and its key do not belong together, or the key is encrypted",
    "check-budget": "a check of a site used up its connections or its time",
    "site-unreachable": "nothing answers where the site should be",
    "site-without-tls": "what answers where the site should be does not speak TLS",
    "unknown-check": "there is no check of that number or name",
    "bad-time": "the words are not a point in time",
    "bad-span": "the words are not a span of time",
    "bad-decision": "a web server's question to the decision endpoint cannot be read",
    "bad-role": "a role that there is not",
    "bad-scope": "a scope that there is not, or a token without scope or with a wrong life",
    "scope-beyond-role": "a token would be allowed more than its holder",
    "last-administrator": "nobody would be administrator any more",
    "no-token": "no token in force has that name",
    "sign-in": "nobody has signed in: a client certificate with a role, or a token, is needed",
    "forbidden": "who has signed in may not do this",
    "fetch-forbidden": "an address that must not be called: not public, or not http or https",
    "fetch-no-address": "a name that has no address",
    "fetch-failed": "a server that was called does not answer",
    "fetch-too-large": "a server that was called answers with too much",
    "mail-insecure": "a password for the mail server would cross the network in the clear",
    "mail-failed": "the mail server cannot be reached, or takes no messages now",
    "mail-deferred": "the mail server does not take this message or its recipient for now",
    "mail-refused": "the mail server does not take this message or its recipient, and says that it never will",
    "webhook-failed": "the webhook's receiver cannot take events now",
    "webhook-refused": "the webhook's receiver does not take this event",
    "reminders-failed": "some reminders could not be sent; they are tried again",
    "no-agent-config": "the agent's configuration is not there",
    "bad-fingerprint": "the words are no SHA-256 fingerprint",
    "no-agent-status": "no agent has written its status yet",
    "agent-cannot": "the agent cannot do what is asked of it on this system",
    "bundle-missing": "no bundle is published where the agent looks, or the place cannot be reached",
    "bundle-damaged": "a published bundle is not whole: a file is missing, cut, altered or still being copied",
    "bundle-foreign": "a published bundle has a root that is none of those the agent keeps to",
    "bundle-older": "a published bundle is older than the one in force: it is played back, or the authority was set back",
    "bundle-chain": "the authorities of a published bundle do not lead to a root in it, or none of them is in force",
    "bundle-list": "a deny list or list of people in a published bundle has lines that cannot stand there",
    "crl-missing": "a published bundle lacks the CRL of one of its authorities",
    "crl-double": "a published bundle has two CRLs of one authority",
    "crl-foreign": "a published bundle has a CRL of somebody who is none of its authorities",
    "crl-signature": "the signature of a CRL does not hold",
    "crl-delta": "a CRL is a delta, which web servers take for the full list",
    "crl-partial": "a CRL speaks only for a part of the certificates, or lacks what RFC 5280 asks for",
    "crl-expired": "a CRL has run out",
    "crl-not-yet": "a CRL is not valid yet",
    "server-refuses": "the web server's own checker does not take its configuration with the new files",
    "server-reload": "the web server could not be told to read its files again",
    "server-command": "a command of the web server cannot be started or does not end in time",
    "server-runtime": "HAProxy does not change its running list",
    "mail-config": "mail is half configured",
    "webhook-config": "the webhook is half configured",
    "bad-request": "the body, query or headers of a request to the API are not what its description says; all mistakes are listed",
    "wrong-kind": "a file or text holds something else than what is needed; the message says what",
    "bad-proof": "a certificate request is not signed by its own key",
    "signature-not-accepted": "a certificate request is signed in a way that is not accepted, such as with SHA-1",
    "several-requests": "a file holds more than one certificate request",
    "wrong-media-type": "the API takes JSON only, and the request does not say that it is",
    "cross-site": "a browser asks on behalf of another site's page",
    "no-route": "the API has nothing at this path",
    "above-caller": "the holder may do more than who asks, so only an administrator may act in that name",
    "idempotency-reused": "an idempotency key was used before, for another request",
    "check-running": "the ledger is being looked through already",
    "no-file": "the bundle has no file of that name",
    "bad-agent-call": "what an agent asks or reports cannot be read, or is not for it",
    "bad-report": "an agent reports a revocation that has not happened",
    "renew-early": "a certificate is renewed by its agent only when two thirds of its life are over",
    "no-bundle": "the service has no bundle for agents yet",
    "service-unreachable": "the service cannot be reached by the agent, or does not answer as it should",
    "service-refuses": "the service does not answer this agent: its certificate or its role",
    "agent-certificate": "the agent's own certificate cannot be used: missing, readable by others, expired, or not belonging to its key",
    "server-probe": "the probe after a reload did not succeed",
    "config-mistake": "a configuration file has mistakes; all of them are listed",
    "config-unreadable": "a configuration file cannot be read",
    "config-toml": "a configuration file is not TOML",
    "no-home": "there is no authority in the place that was named, or in the default one",
    "home-exists": "an authority lives there already",
    "home-not-empty": "the place for a new authority is not empty",
    "home-busy": "another process is making an authority in the same place",
    "not-a-file": "a folder stands where a file is meant",
    "not-a-folder": "something else stands where a folder is meant",
    "file-exists": "a file of that name exists and is not overwritten",
    "dir-not-empty": "a folder that must be empty is not",
    "name-too-long": "the name of a file is longer than the disk takes",
    "no-key": "the private key was never here",
    "no-passphrase": "the keys need a passphrase and nothing gives it",
    "passphrase-empty": "the first line of a passphrase file is empty",
    "passphrase-exposed": "others than its owner may read a passphrase file",
    "passphrase-short": "a new passphrase has fewer than 12 characters",
    "passphrase-differs": "the new passphrase was not typed twice alike",
    "no-password": "a file is encrypted and nothing gives its password",
    "authority-waiting": "an authority waits for its certificate, which a root elsewhere has to sign",
    "no-authority": "there is no authority of that name",
    "usage": "the command line is not one that there is: a verb, an option or a value is wrong, or they do not go together",
    "wrong-key": "the key that is kept for an authority is not the key of its certificate",
    "key-not-here": "the private key of an authority is not in its folder",
    "key-mismatch": "a key and a certificate do not belong together",
    "holder-kind": "the name belongs to a holder of another kind",
    "other-email": "the person has another e-mail address",
    "no-holder": "nobody has that login or e-mail address",
    "login-taken": "the login exists already, perhaps in other letters, or is somebody's e-mail address",
    "email-taken": "the e-mail address belongs to somebody else, or is somebody else's login",
    "bad-word": "a group, a device or a display name has characters that it may not have",
    "no-group": "the person is not in that group",
    "no-device": "the person has no such device",
    "device-in-use": "the device has a live certificate",
    "not-left": "the person has not left",
    "not-confirmed": "a step that takes certificates away was not confirmed",
    "lint": "what was about to be signed has a fault; nothing was recorded",
    "ambiguous": "several certificates answer to that name, or two people; they are listed",
    "no-certificate": "no certificate answers to that name",
    "not-ours": "a certificate was not issued by this authority",
    "certificate-exists": "the person got a certificate for this device a moment ago",
    "serial-used": "the serial number exists already",
    "renew-authority": "an authority is not renewed like a leaf",
    "bad-reason": "there is no such reason for a revocation, or it has a verb of its own",
    "already-revoked": "the certificate is revoked or held already",
    "not-held": "the certificate is not on hold",
    "revoke-authority": "the certificate is an authority's, which is not revoked like a leaf",
    "crl-needs-key": "a CRL must be signed, and its authority's key is not here",
    "crl-overtaken": "another process made a CRL of the same authority at the same moment",
    "own-crl": "the CRL of an authority whose key is here is signed here, not taken in",
    "unfit-authority": "a certificate cannot be that of one of our authorities",
    "unfit-crl": "a CRL cannot be that of our root",
    "other-root": "certificates that belong together come from different roots",
    "chain-incomplete": "a certificate between ours and the root is missing",
    "authority-exists": "the authority has its certificate already",
    "trust-install": "the root could not be put into this machine's store",
    "not-printed": "something with a private key in it, or in a form that is no text, is not printed",
    "binary-to-terminal": "bytes that are no text would go to a terminal",
    "demo-failed": "the demo did not end as it should",
    "demo-server": "the demo's web server did not start",
    "no-ledger": "there is no ledger in the home",
    "store-damaged": "the ledger's file is damaged",
    "store-error": "the ledger's database reports an error",
    "store-newer": "the ledger was written by a newer Gatekey",
    "bad-ip": "a block of IP addresses is not well formed",
}
