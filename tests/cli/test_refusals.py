"""Every refusal in its own words: command line, exit code, sentence, and that nothing was changed, in the home or in the folder."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from kit import administrator, town
from kit.administrator import Administrator


class Row(NamedTuple):
    """`line` is typed after `gatekey`; `{ann}` and the like stand for serials. Each of `said` must be heard."""

    line: str
    said: tuple[str, ...]
    code: int = 1
    stdin: bytes = b""


def row(line: str, *said: str, code: int = 1, stdin: bytes = b"") -> Row:
    return Row(line, said, code, stdin)


FILES = [
    row("issue client kim --csr ann.key", "ann.key holds a private key, not a certificate request", "send the request (NAME.csr), never the key"),
    row("issue client kim --csr ann.crt", "ann.crt holds a certificate, not a certificate request"),
    row("issue client kim --csr ann.p12", "ann.p12 holds a PKCS#12 file, not a certificate request"),
    row("issue client kim --csr people.crl", "people.crl holds a CRL, not a certificate request"),
    row("issue client kim --csr README.txt", "this is text of an unknown kind; what can be read is a certificate, a request, a CRL, a key or a PKCS#12 file"),
    row("issue client kim --csr empty.csr", "empty.csr is empty"),
    row("request kim --key empty.csr", "empty.csr is empty"),
    row("show empty.csr", "empty.csr is empty"),
    row("show ann.key --pem", "ann.key holds a private key, which is not printed", "--pem is for: certificate, csr, crl, public-key"),
    row("show ann.p12 --pem", "ann.p12 holds a PKCS#12 file, which is not printed"),
    row("issue client kim --csr page.csr", "page.csr: this is a web page, perhaps an error or a sign-in page", "open the address in a browser and look"),
    row("issue client kim --csr photo.csr", "this is a PNG picture"),
    row("issue client kim --csr ssh", "this is an OpenSSH private key", "ssh-keygen -p -m PKCS8"),
    row("issue client kim --csr cut.csr", "the block CERTIFICATE REQUEST has no END line; the file may be cut"),
    row("issue client kim --csr big.csr", "big.csr is larger than the 1024 KiB that are read here"),
    row("issue client kim --csr taken", "taken is a folder, not a file"),
    row("issue client kim --csr nothing.csr", "there is no nothing.csr"),
    row("issue client kim --csr -", "stdin is empty"),
    row("issue client kim --csr -", "this is text of an unknown kind", stdin=b"hello\n"),
    row("issue client kim --csr -", "stdin holds more than the 1024 KiB that are read here", stdin=b"A" * (2 << 20)),
    row("issue client kim --csr forged.csr", "the request in forged.csr is not signed by its own key", "make the request again"),
    row("issue client kim --csr two.csr", "two.csr: there are 2 requests in it, and nobody can say which is meant", "give one at a time"),
    row("issue server kim.example --csr forged.csr", "the request in forged.csr is not signed by its own key"),
    row("sign forged.csr --profile client", "the request in forged.csr is not signed by its own key"),
    row("sign ann.key --profile client", "ann.key holds a private key, not a certificate request"),
    row("renew ann --csr ann.key --out new", "ann.key holds a private key, not a certificate request"),
    row("renew ann --key ann.crt --out new", "ann.crt holds a certificate, not a private key", "give NAME.key"),
    row("renew ann --key sealed.key --out new", "sealed.key is encrypted and nothing gives its password", "say --key-password-file FILE", code=3),
    row("request kim --key sealed.key", "sealed.key is encrypted and nothing gives its password", "say --key-password-file FILE", code=3),
    row("p12 ann.crt --key sealed.key --out new.p12", "sealed.key is encrypted and nothing gives its password", "say --key-password-file FILE", code=3),
    row("request kim --key sealed.key --key-password-file wrong.pw", "passphrase"),
    row("request kim --key sealed.key --key-password-file open.pw", "others may read the passphrase file open.pw", code=3),
    row("request kim --key ann.crt", "ann.crt holds a certificate, not a private key"),
    row("request kim --key nothing.key", "there is no nothing.key"),
    row("p12 ann.key --key ann.key --out new.p12", "ann.key holds a private key, not a certificate", "give NAME.crt"),
    row("p12 ann.crt --key bob.key --out new.p12", "the key in bob.key does not belong to the certificate in ann.crt"),
    row("p12 ann.crt --key ann.crt --out new.p12", "ann.crt holds a certificate, not a private key"),
    row("p12 nothing.crt --key ann.key --out new.p12", "there is no file nothing.crt", "gatekey show nothing --pem > nothing.crt"),
    row("p12 ann --key ann.key --out new.p12", "there is no file ann", "CERT is a file", "gatekey show ann --pem > ann.crt"),
    row("p12 cut.crt --key ann.key --out new.p12", "the block CERTIFICATE has no END line; the file may be cut"),
    row("show ann.p12 --password-file wrong.pw", "the password does not open this PKCS#12", "check the password"),
    row("show ann.p12 --password-file open.pw", "others may read the passphrase file open.pw", "chmod 600 open.pw", code=3),
    row("show ann.p12 --password-file empty.pw", "the first line of empty.pw is empty", code=3),
    row("show ann.p12 --password-file nothing.pw", "there is no nothing.pw"),
    row("show cut.p12", "this begins like DER but is cut"),
    row("show README.txt", "this is text of an unknown kind"),
    row("verify ann.key", "ann.key holds a private key, not a certificate"),
    row("verify bob.csr", "bob.csr holds a certificate request, not a certificate"),
    row("verify nothing.crt", "there is no nothing.crt"),
    row("verify ann.crt --at yesterday", "'yesterday' is not a time", "write 2026-11-23 or 2026-11-23T"),
]

TARGETS = [
    row("issue client kim --out taken", "taken/kim.key exists already", "choose another --out, move the file away, or say --force"),
    row("issue client kim --csr bob.csr --out taken", "taken/kim.crt exists already"),
    row("issue client kim --out missing/../taken", "there is no missing/.."),
    row("issue client kim --password-file ann.pw", "ann.pw exists already", "a password is never written over another; choose another --password-file"),
    row("issue client kim --force --password-file ann.pw", "ann.pw exists already"),
    row("issue client kim --out README.txt", "is a file", code=2),
    row("issue client kim --out README.txt/deeper", "README.txt is not a folder"),
    row(f"issue client kim --out {'x' * 300}", "is a longer name than this disk takes"),
    row("issue server app.example", "app.example.key exists already"),
    row("issue server APP.example", "app.example.key exists already"),
    row("renew ann", "ann.crt exists already"),
    row("renew ann --new-key", "ann.crt exists already"),
    row("sign shop.example.csr --profile server --out ann.crt", "ann.crt exists already"),
    row("sign shop.example.csr --profile server --out README.txt/x.crt", "README.txt is not a folder"),
    row("request bob", "bob.key exists already"),
    row("request kim --out README.txt/x", "README.txt is not a folder"),
    row("p12 ann.crt --key ann.key --out ann.p12", "ann.p12 exists already"),
    row("p12 ann.crt --key ann.key --out new.p12 --password-file ann.pw", "ann.pw exists already"),
    row("authority export people --out ann.crt", "ann.crt exists already"),
    row("authority export --out README.txt/x", "README.txt is not a folder"),
    row("crl --out README.txt/x.crl", "README.txt is not a folder"),
    row("crl --out taken", "is a directory", code=2),
    row("crl --out ''", "is a folder, not a file"),
    row("token add gus --scope read --out README.txt/x", "README.txt is not a folder"),
    row("bundle --out README.txt", "is a file", code=2),
    row("bundle --out README.txt/x", "README.txt is not a folder"),
    # root may write there by the permissions, and still nothing can be made
    row("bundle --out /proc/b", "/proc", " cannot be ", "choose another place", code=3),
    row("issue client kim --out /proc/b", "/proc", " cannot be ", "choose another place", code=3),
    row("demo --dir taken", "taken is not empty", "say a new or empty folder with --dir"),
]

KEYS = [
    row("issue client kim --csr rsa1024.csr", "the RSA key has 1024 bits; 2048 are the least", "make a new key, such as"),
    row("issue client kim --csr exponent3.csr", "the RSA exponent is 3; an odd one from 65537 to 4294967296 is needed"),
    row("issue client kim --csr fermat.csr", "the key is weak: its two primes are so close together that Fermat's method finds them (CVE-2022-26320)"),
    row("issue client kim --csr p224.csr", "P-224", "make a new key"),
    row("issue client kim --csr fay.csr", "was reported as compromised and is never certified again", "make a new key"),
    row("issue client fay --csr fay.csr --out new", "was reported as compromised and is never certified again"),
    row("sign fay.csr --profile client --out new.crt", "was reported as compromised and is never certified again"),
    row("renew eve-phone/eve.crt --key fay.key --out new", "was reported as compromised and is never certified again"),
    row("issue server kim.example --csr fay.csr", "was reported as compromised and is never certified again"),
    row("issue client kim --csr crook.csr", "the key is that of the authority people, which certifies nobody else"),
    row("issue server kim.example --csr crook.csr", "the key is that of the authority people, which certifies nobody else"),
    row("issue client kim --csr bob.csr", "the key is in a certificate of bob; a key has one holder"),
    row("issue server bob.example --csr bob.csr", "the key is in a certificate of bob"),
    row("renew ann --csr bob.csr --out new", "the key is in a certificate of bob"),
    row(
        "issue client kim --key-type ed25519",
        "ed25519 keys cannot be used by browsers and key stores, so none is written for 'any'", "take a P-256 or RSA key, or --for pem",
    ),
    row("issue client kim --key-type ed25519 --for modern", "so none is written for 'modern'"),
    row("issue client kim --key-type rsa-1024", "'rsa-1024' is not one of", code=2),
]

NAMES = [
    row("issue client ''", "the login is empty"),
    row(
        "issue client Jörg", "'Jörg' has characters beyond ASCII; a login is letters, digits and the characters . _ @ - and space",
        "the display name may be in any script: gatekey people set LOGIN --name",
    ),
    row("people add Jörg", "'Jörg' has characters beyond ASCII", "the display name (--name) may be in any script"),
    row("people set ann --group zoö", "'zoö' has characters beyond ASCII; a group or device is letters, digits and the characters . _ @ - and space\n"),
    row("people set ann --device 'Lap top/ü'", "'Lap top/ü' has characters beyond ASCII; a group or device is letters, digits"),
    row("issue client a/b", "'a/b' has '/'; a login is letters, digits and the characters . _ @ - and space"),
    row("issue client 'a  b'", "'a  b' begins or ends with a space or has two in a row"),
    row("issue client ' a'", "begins or ends with a space"),
    row(f"issue client {'a' * 65}", "is longer than the 64 characters of a login"),
    row("issue client -- -kim", "'-kim' begins with a hyphen"),
    row("issue client kim --email kim", "'kim' is not an e-mail address"),
    row("issue client kim --email jörg@example.com", "'jörg@example.com' has characters beyond ASCII, which an rfc822Name cannot carry"),
    row(
        "issue client kim --device 'lap/top' --group 'a;b'", "refused, for 2 reasons:", "'a;b' has ';'; a group or device is letters",
        "'lap/top' has '/'; a group or device is letters",
    ),
    row("issue client kim --email ann@example.com", "ann@example.com belongs to 'ann' already", "one e-mail, one person"),
    row("issue client kim --email ANN@example.com", "belongs to 'ann' already"),
    row("issue client app.example --out new", "'app.example' is a server already, not a person", "choose another name"),
    row("issue server ann --out new", "'ann' is a person already, not a server", "choose another name"),
    row("issue client authority:people", "has ':'"),
    row("issue server 'bücher.example'", "'bücher.example' has characters beyond ASCII; give it in its xn-- form: xn--bcher-kva.example"),
    row("issue server '*.example'", "'*.example' has a wildcard directly under a top-level name"),
    row("issue server 'a*.kim.example'", "has a wildcard that is not the whole left-most label"),
    row("issue server a_b.example", "'a_b.example' has the label 'a_b'; a label is letters, digits and inner hyphens"),
    row("issue server kim..example", "'kim..example' has an empty label"),
    row("issue server 1.2.3", "'1.2.3' ends in a number and would be read as an address"),
    row("issue server xn--a.example", "has the label 'xn--a', which is not a valid xn-- form"),
    row("issue server ab--c.example", "hyphens in third and fourth place"),
    row(f"issue server {'a' * 64}.example", "has a label longer than 63 characters"),
    row(f"issue server {'.'.join(['a' * 60] * 5)}.example", "is longer than the 253 characters of a host name"),
    row("issue server kim.example --ip 1.2.3.4.5", "'1.2.3.4.5' is not an IP address", "write 192.0.2.7 or 2001:db8::7"),
    row(
        "issue server a_b.example c_d.example --ip x --days 500", "refused, for 4 reasons:", "the label 'a_b'", "the label 'c_d'", "'x' is not an IP address",
        "500 days are asked for; the profile server allows 397 days",
    ),
    row("issue server " + " ".join(f"h{number}.example" for number in range(101)), "101 alternative names are asked for; 100 are the most of any request"),
    row("sign umlaut.csr --profile client", "'Jörg' has characters beyond ASCII"),
    row("sign nameless.csr --profile client", "the login is empty"),
    row("sign nameless.csr --profile server", "no host or address is asked for; a server needs at least one"),
    row("sign two-mails.csr --profile client", "2 alternative names are asked for; the profile client allows 1"),
    row(
        "sign other-mail.csr --profile client",
        "ann has the e-mail ann@example.com, not ann@elsewhere.example", "gatekey people set ann --email ann@elsewhere.example",
    ),
    row("sign wildcard.csr --profile server", "'*.example' has a wildcard directly under a top-level name"),
    row("sign many.csr --profile server", "there are more than 100 names"),
    row("sign shop.example.csr --profile client", "the host 'shop.example' is not among what the profile client gives: no host at all"),
    row("request 'a b/c'", "has '/'; a login is letters"),
    row("request bob carl", "2 names were given; a person has one (for hosts say --server)"),
    row("request kim --email nonsense", "'nonsense' is not an e-mail address"),
    row("request --server kim.example a_b.example", "the label 'a_b'"),
    row("request --server kim.example --email kim@example.com", "--email is for people, not for servers"),
]

PROFILES = [
    row("sign shop.example.csr --profile servr", "there is no profile 'servr'; known are client,", "did you mean 'server'?"),
    row("sign shop.example.csr --profile klient", "there is no profile 'klient'", "did you mean 'client'?"),
    row("sign shop.example.csr --profile zzz", "there is no profile 'zzz'; known are client"),
    row("sign shop.example.csr --profile ../../etc/passwd", "there is no profile"),
    row("sign bob.csr --profile people --out new.crt", "the profile people cannot be had by way of cli; its ways are ceremony"),
    row("sign bob.csr --profile people-root --out new.crt", "the profile people-root cannot be had by way of cli"),
    row("sign bob.csr --profile root --out new.crt", "the profile root cannot be had by way of cli"),
    row("sign bob.csr --profile ocsp-responder --out new.crt", "the profile ocsp-responder cannot be had by way of cli; its ways are internal"),
    row("sign bob.csr --profile probe --out new.crt", "the profile probe cannot be had by way of cli"),
    row("sign bob.csr", "Missing option '--profile'", code=2),
]

DATES = [
    row("issue client kim --days 0", "0 days are asked for; 1 is the least"),
    row("issue client kim --days -5", "-5 days are asked for; 1 is the least"),
    row(
        "issue client kim --days 3650",
        "3650 days are asked for, which is after the end of the authority people on", "ask for 3649 days or fewer, or for none: then it is cut",
    ),
    row("issue client kim --days 3651", "refused, for 2 reasons:", "the profile client allows 3650 days", "which is after the end of the authority people"),
    row(f"issue client kim --days {10**12}", f"{10**12} days are asked for"),
    row("issue client kim --days many", "'many' is not a valid integer", code=2),
    row("issue server kim.example --days 398", "398 days are asked for; the profile server allows 397 days", "ask for 397 days or fewer"),
    row("renew ann --days 4000 --out new", "the profile client allows 3650 days"),
    row("sign shop.example.csr --profile server --days 398", "the profile server allows 397 days"),
]

PEOPLE = [
    row(
        "issue client ann --device laptop --out new",
        "ann has a live certificate for the device 'laptop' already: {ann}", "renew it with `gatekey renew {ann}`",
    ),
    row("issue client ANN --device laptop --out new", "ann has a live certificate for the device 'laptop' already: {ann}"),
    row("issue client bob --out new", "bob has a live certificate already: {bob}", "renew it with `gatekey renew {bob}`, or name another device"),
    row("sign bob.csr --profile client --out new.crt", "bob has a live certificate already: {bob}"),
    row(
        "issue client ann --email other@example.com --device phone --out new",
        "ann has the e-mail ann@example.com, not other@example.com", "gatekey people set ann --email other@example.com",
    ),
    row("issue client dora --out new", "dora has left"),
    row("leave dora --yes", "dora has left already", "gatekey people show dora"),
    row("leave nobody --yes", "nobody is called 'nobody'", "gatekey people list"),
    row("leave ann", "nothing was done", "gatekey leave ann --yes takes all of it away", "{ann}  ann  laptop"),
    row("people add ann", "the login 'ann' exists already", "gatekey people show"),
    row("people add ANN", "the login 'ann' exists already"),
    row("people add kim --email ann@example.com", "ann@example.com belongs to 'ann' already"),
    row("people add 'k/m' --email x --group 'a,b'", "refused, for 3 reasons:", "'k/m' has '/'", "'x' is not an e-mail address", "'a,b' has ','"),
    row("people set nobody --name x", "nobody is called 'nobody'"),
    row("people set ann --no-group nerds", "ann is not in nerds", "she is in: staff"),
    row("people set ann --no-device phone", "ann has no device phone", "she has: laptop"),
    row("people set ann --no-device laptop", "laptop has a live certificate", "revoke it first"),
    row("people set ann --email gus@example.com", "gus@example.com belongs to 'gus' already"),
    row("people set ann --back", "ann has not left"),
    row("people set ann --name 'a\nb'", "the display name is longer than 200 characters or has control characters"),
    row("people show nobody", "nobody is called 'nobody'"),
    row("people show authority:people", "nobody is called 'authority:people'"),
]

REFS = [
    row("revoke nobody", "no certificate answers to 'nobody'", "gatekey list; a REF is a serial, a fingerprint, a login, an e-mail or a certificate file"),
    row("revoke nobody@example.com", "no certificate answers to 'nobody@example.com'"),
    row("revoke gus", "no certificate answers to 'gus'"),
    row("revoke eve", "'eve' can mean 2 certificates", "say which, by its serial:", "{eve-phone}  eve  phone", "{eve-tablet}  eve  tablet"),
    row("hold eve", "'eve' can mean 2 certificates"),
    row("renew eve", "'eve' can mean 2 certificates", "{eve-phone}  eve  phone"),
    row("show eve --pem", "'eve' can mean 2 certificates", "{eve-phone}"),
    row("revoke 00112233445566778899AABBCCDDEEFF", "no certificate answers to '00112233445566778899AABBCCDDEEFF'"),
    row("revoke ''", "no certificate answers to ''"),
    row("revoke ./nothing.crt", "there is no nothing.crt"),
    row("revoke ann.key", "there is no certificate in ann.key", "give NAME.crt"),
    row("revoke foreign.crt", "the certificate in foreign.crt (ann) was not issued here"),
    row("show nobody", "nothing answers to 'nobody'"),
    row("revoke carl", "{carl} is revoked already (superseded)", "its reason stays", "gatekey revoke {carl} --reason key-compromise"),
    row("hold carl", "{carl} is revoked already (superseded)"),
    row("hold bob", "{bob} is held already (certificate-hold)", "gatekey unhold {bob} gives it back", "gatekey revoke {bob} takes it away for good"),
    row("revoke fay --reason key-compromise", "is revoked already (key-compromise)", "this is for good"),
    row("unhold carl", "{carl} is not held; it is revoked for good"),
    row("unhold ann", "{ann} is not held; it is in force"),
    row("unhold dora", "dora has left"),
    row("revoke ann --reason certificate-hold", "'certificate-hold' is not one of", code=2),
    row("revoke ann --reason remove-from-crl", "'remove-from-crl' is not one of", code=2),
    row(
        "renew carl --out new",
        "carl ({carl}) is revoked (superseded) and cannot be renewed", "issue a new one with a new key: gatekey issue client carl --device laptop\n",
    ),
    row("renew bob --out new", "bob ({bob}) is held and cannot be renewed", "gatekey unhold {bob}"),
    row("renew dora --out new", "cannot be renewed"),
    row("revoke {people}", "{people} is the certificate of the authority people", "an authority is not revoked like a leaf"),
    row("renew {people} --out new", "is an authority", "authorities are not renewed like leaves"),
    row("renew {people-root} --out new", "is an authority"),
]

THE_REST = [
    row("init 'Another'", "an authority lives in {home} already; it was not touched", "say another place with --home"),
    row("init 'Another' --unencrypted-keys --flat", "it was not touched"),
    row("--home taken init X --unencrypted-keys", "taken is not empty", "say an empty or new folder with --home"),
    row("--home README.txt init X --unencrypted-keys", "README.txt is not a folder"),
    row("--home new init X", "the authority's keys need a passphrase and nothing gives it", "--passphrase-file FILE (first line, mode 0600)", code=3),
    row("--home new init X --passphrase-file open.pw", "others may read the passphrase file open.pw", "chmod 600 open.pw", code=3),
    row("--home new init X --passphrase-file empty.pw", "the first line of empty.pw is empty", code=3),
    row("--home new init X --passphrase-file nothing.pw", "there is no nothing.pw"),
    row("--home new init X --passphrase-file short.pw", "the passphrase has 9 characters; 12 or more are needed"),
    row("passphrase change --new-passphrase-file short.pw", "the passphrase has 9 characters; 12 or more are needed"),
    row("--home new init X --unencrypted-keys --admin 'b ö'", "--admin takes a login"),
    row("--home new init X --unencrypted-keys --admin ann", "ann.key exists already", "the files of --admin ann are written here: move what is there away"),
    row("--home new init X --unencrypted-keys --passphrase-file ann.pw", "exclude each other", code=2),
    row("--home new init '' --unencrypted-keys", "the common name is empty"),
    row(f"--home new init {'x' * 60} --unencrypted-keys", "is too long: with what is added it has more than 64 characters"),
    row("--home new init X --unencrypted-keys --days 0", "0 days are asked for; 1 is the least"),
    row("--home new init X --unencrypted-keys --days 40000", "the profile people-root allows 36500 days"),
    row("--home new init X --unencrypted-keys --key-type dsa", "'dsa' is not one of", code=2),
    row(
        "--home new init X --unencrypted-keys --url ftp://x --permit-domain 'a b' --permit-ip 1.2.3", "refused, for 3 reasons:",
        "'ftp://x' is not an http:// URL", "'a b' has the label 'a b'", "'1.2.3' is not a block of addresses",
    ),
    row("--home new init X --unencrypted-keys --url http://user:secret@x/", "the URL has a user name or password in it"),
    row("--home nowhere list", "there is no authority in nowhere", "gatekey init NAME, or say where it lives with --home or GATEKEY_HOME", code=3),
    row("--home nowhere issue client ann --out new", "there is no authority in nowhere", code=3),
    row("authority show peple", "there is no authority called 'peple'", "there are: people-root, people, servers-root, servers"),
    row("authority export peple --out new.crt", "there is no authority called 'peple'"),
    row("authority export --der --out new.der", "--der holds one certificate", code=2),
    row("crl --authority peple", "there is no authority called 'peple'"),
    row("list --holder nobody", "nobody is called 'nobody'"),
    row("passphrase change", "nothing gives the new passphrase", code=3),
    row("passphrase change --new-passphrase-file open.pw", "others may read the passphrase file open.pw", code=3),
]

USAGE = [
    row("", "Usage: gatekey", code=2),
    row("issue", "Usage: gatekey issue", code=2),
    row("lst", "there is no gatekey lst; did you mean list?", "gatekey --help says how it is used", code=2),
    row("frobnicate", "there is no gatekey frobnicate; there are demo, init,", code=2),
    row("issue cliet", "there is no gatekey issue cliet; did you mean client?", code=2),
    row("people ad", "there is no gatekey people ad; did you mean add?", code=2),
    row("issue client", "Missing argument 'NAME'", "gatekey issue client --help says how it is used", code=2),
    row("issue server", "Missing argument", code=2),
    row("list --frob", "No such option", code=2),
    row("list --status foo", "'foo' is not one of 'valid', 'held', 'revoked', 'expired', 'not-yet-valid', 'abandoned'", code=2),
    row("list --expiring x", "'x' is not a valid integer", code=2),
    row("list --expiring -1", "-1 is not in the range", code=2),
    row("bundle", "say where: --out DIR", code=2),
    row("p12 ann.crt", "Missing option '--key'", code=2),
    row("p12 ann.crt --key ann.key --for rc2", "'rc2' is not one of", code=2),
    row("issue client kim --csr bob.csr --for modern", "with --csr the key is not here, so there is no PKCS#12", code=2),
    row("issue client kim --csr bob.csr --password-file new.pw", "with --csr the key is not here", code=2),
    row("renew ann --new-key --key ann.key --out new", "--new-key, --key and --csr exclude each other", code=2),
    row("renew ann --key ann.key --csr bob.csr --out new", "--new-key, --key and --csr exclude each other", code=2),
    row("webserver nginx --site app.example --install conf.d --folder /srv/gatekey", "--folder goes with what is printed", code=2),
    row("webserver nginx --site app.example --install conf.d --running dump", "--running goes with what is printed", code=2),
    row("renew ann --key-type p384 --out new", "--key-type goes with --new-key", code=2),
    row("renew ann --key ann.key --key-type p384 --out new", "--key-type goes with --new-key", code=2),
    row("renew ann --for modern --out new", "--for goes with --new-key or --key", code=2),
    row("renew ann --for pem --password-file new.pw --out new", "--for and --password-file go with --new-key or --key", code=2),
    row("renew ann --new-key --for pem --password-file new.pw --out new", "--password-file goes with a file that has a password", code=2),
    row("renew ann --new-key --key-password-file sealed.pw --out new", "--key-password-file goes with --key", code=2),
    row("renew app.example --new-key --for any --out new", "--for goes with people: app.example is a server", code=2),
    row("issue client kim --for pem --password-file new.pw", "--password-file goes with a file that has a password", code=2),
    row("issue client kim --csr bob.csr --key-type p256", "with --csr the key is not here", code=2),
    row("issue server kim.example --csr bob.csr --key-type p384", "--key-type goes with a key that is made here", code=2),
    row("p12 ann.crt --key ann.key --for pem --password-file new.pw --out new.pem", "--password-file goes with a file that has a password", code=2),
    row("p12 ann.crt --key ann.key --device ipad --out new.p12", "--device goes with --for apple", code=2),
    row("request kim --key ann.key --key-type p384", "--key-type goes with a key that is made here", code=2),
    row("request kim --key-password-file sealed.pw", "--key-password-file goes with --key", code=2),
    row("--home new init X --unencrypted-keys --root-key-password-file sealed.pw", "--root-key-password-file goes with --root-key", code=2),
    row("issue client kim --password-file kim.p12", "--password-file names kim.p12, which is one of the files that are made here", code=2),
    row("issue client kim --password-file ./kim.key", "which is one of the files that are made here", code=2),
    row("p12 ann.crt --key ann.key --out new.p12 --password-file new.p12", "which is one of the files that are made here", code=2),
    row("--home new init X --unencrypted-keys --permit-ip 10.0.0.0/8", "--permit-ip goes with --permit-domain", code=2),
    row("issue client kim --out -", "these are files and do not go to stdout", code=2),
    row("bundle --out -", "these are files and do not go to stdout", code=2),
    row("request kim --out -", "these are files and do not go to stdout", code=2),
    row("p12 ann.crt --key ann.key --out -", "these are files and do not go to stdout", code=2),
    row("completion tcsh", "'tcsh' is not one of", code=2),
]

ALL = [*FILES, *TARGETS, *KEYS, *NAMES, *PROFILES, *DATES, *PEOPLE, *REFS, *THE_REST, *USAGE]


class Town:
    """The home and folder that no row may change, and the words that stand for its serials. `print`: everything in it as it was seen last."""

    def __init__(self, admin: Administrator, words: dict[str, str]) -> None:
        self.admin = admin
        self.words = words
        self.print = admin.print()

    def changed(self) -> bool:
        before, self.print = self.print, self.admin.print()
        return self.print != before


@pytest.fixture(scope="module")
def built(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Town:
    place = tmp_path_factory.mktemp("town")
    folder = place / "work"
    folder.mkdir()
    admin = Administrator(administrator.copied(template, place / "home"), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        town.build(admin)
        words = {ref: admin.serial(f"{ref}/eve.crt" if ref.startswith("eve-") else ref) for ref in ("ann", "bob", "carl", "dora", "eve-phone", "eve-tablet")}
        words |= {account["name"]: account["serial"] for account in admin("authority", "list", "--json").json}
    return Town(admin, {**words, "home": str(admin.home)})


def filled(text: str, built: Town) -> str:
    """`text` with the serials for the words that stand for them."""
    for word, serial in built.words.items():
        text = text.replace(f"{{{word}}}", serial)
    return text


@pytest.mark.parametrize("refused", ALL, ids=[refused.line[:70] for refused in ALL])
def test_refused_in_words_and_nothing_changed(refused: Row, built: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built.admin.folder)
    monkeypatch.setenv("GATEKEY_DEBUG", "1")
    words = [filled(word, built) for word in shlex.split(refused.line)]
    home = [] if words[:1] == ["--home"] else ["--home", str(built.admin.home)]
    answer = administrator.typed(*home, *words, stdin=refused.stdin) if words else administrator.typed()

    heard = answer.err
    assert answer.code == refused.code, heard
    for sentence in refused.said:
        assert filled(sentence, built) in heard, heard
    assert "Traceback" not in heard
    assert "fault in Gatekey" not in heard
    assert answer.stdout == b""
    assert not built.changed()


@pytest.mark.parametrize("refused", [one for one in ALL if one.code in (1, 3) and not one.line.startswith("--home")][::7], ids=lambda one: one.line[:60])
def test_the_same_as_json(refused: Row, built: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built.admin.folder)
    words = [filled(word, built) for word in shlex.split(refused.line)]
    answer = administrator.typed("--home", built.admin.home, "--json", *words, stdin=refused.stdin)
    told = json.loads(answer.err.splitlines()[-1])["error"]
    assert set(told) == {"code", "message", "hint", "reasons"}
    assert told["message"]
    assert answer.code == refused.code
