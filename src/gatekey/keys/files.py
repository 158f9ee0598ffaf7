"""A keyring that is a folder: `NAME.key` for each key, PEM of PKCS#8, encrypted under one passphrase, mode 0600.

Every file is an ordinary encrypted private key that `openssl pkey -in NAME.key` opens with the passphrase.

Changing the passphrase rewrites every file, and can be killed at any instant:

1. every key is opened with the old passphrase; a failure ends here, and nothing has changed;
2. `NAME.key.new`, encrypted under the new passphrase, is written beside each key and made durable;
3. the journal `.passphrase-change`, which lists them, is put in place by one rename and made durable: **from here on the new passphrase holds**;
4. each `NAME.key.new` is renamed over its `NAME.key`; then the journal is renamed to `.passphrase-changed.ID`, which stays until whoever keeps the books has
   written down that there was a change, once for each.

Whoever opens the folder next finishes what was begun, and needs no passphrase for it: with a journal, step 4 is done again (it may be done any number of
times); without one, files that end in `.new` are leftovers of a change that never held, and are removed. So all keys have one passphrase, the old or the
new, and never a mixture. A lock on `.lock` keeps two writers apart; readers take it only when they see a journal.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .. import files
from ..errors import Conflict, Malformed, Misconfigured, NotFound
from ..x509 import pkcs8
from .material import PrivateKey, from_pkcs8, make

if TYPE_CHECKING:
    from ..ports import Entropy

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SUFFIX, _NEW, _JOURNAL, _LOCK = ".key", ".key.new", ".passphrase-change", ".lock"
#: What `files` leaves behind when it is killed between writing and naming.
#: A change that holds and of which nobody has said yet that it is in the books. In its journal, and there, a line `by WORDS` says who made it.
_CHANGED, _BY = ".passphrase-changed.", "by "
_UNFINISHED = r"\.([a-z0-9-]+\.key(\.new)?|\.passphrase-change)\.[0-9]+(-[0-9]+)?\.new"


class FileKeyring:
    """A `ports.Keyring` in a folder. `passphrase` is asked at most once, when it is needed; None means that keys are stored unencrypted.

    `iterations` is that of PBKDF2-HMAC-SHA256 for keys written from now on. The folder is made (0700) with its first key.
    """

    def __init__(self, folder: Path, passphrase: Callable[[], bytes] | None, entropy: Entropy, iterations: int = 200_000) -> None:
        self._folder = folder
        self._ask = passphrase
        self._entropy = entropy
        self._iterations = iterations
        self._secret: bytes | None = None
        self._salt: bytes | None = None
        self._derived: dict[tuple[str, bytes, bytes, int, int], bytes] = {}
        self._opened: dict[str, tuple[tuple[int, ...], PrivateKey]] = {}

    def labels(self) -> list[str]:
        """The names of all keys here, sorted; an absent folder has none."""
        self._finish_change()
        with _in_words(self._folder):
            return self._names(_SUFFIX) if self._folder.exists() else []

    def make(self, label: str, key_type: str) -> PrivateKey:
        """A new key, durable before this returns. Raises Conflict("key-exists"); Malformed("bad-label"); Refused for an unknown type."""
        self._refuse_existing(label)
        key = make(key_type)
        self._store(label, key)
        return key

    def open(self, label: str) -> PrivateKey:
        """The key called `label`.

        Raises NotFound("no-such-key"); Misconfigured "wrong-passphrase", "passphrase-needed", "key-file-exposed" (others may read the file) or "bad-key-file".
        """
        self._finish_change()
        stamp = self._stamp(label)
        opened = self._opened.get(label)
        if opened and stamp and opened[0] == stamp:
            return opened[1]
        plain = self._read(label)
        try:
            key = from_pkcs8(plain, own=True)
        except Malformed as problem:
            raise _unusable(self._path(label), label, problem) from None
        if stamp:
            self._opened[label] = stamp, key
        return key

    def _stamp(self, label: str) -> tuple[int, ...]:
        """What changes when a key's file is replaced, moved away and back, or shown to others; () when it is not there. A service signs all day."""
        try:
            found = os.stat(self._path(label))
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_mode, found.st_uid

    def change_passphrase(self, new: bytes | None, *, by: str = "") -> list[str]:
        """Encrypts every key under `new` (None: stores them unencrypted) and returns their labels. All or none, also when killed; see the module's head.

        `changes` tells of it, and of `by`, until `noted` is called.
        """
        with self._locked():
            self._settle()
            labels = self._names(_SUFFIX)
            plain = {label: self._read(label) for label in labels}
            old = self._secret, self._salt, self._ask
            self._secret, self._ask = new, None if new is None else lambda: new
            self._salt = self._entropy.bytes(16)
            try:
                for label in labels:
                    files.replace(self._path(label, _NEW), self._protect(plain[label]), files.PRIVATE)
                self._commit_change(labels, by)
            except BaseException:
                self._secret, self._salt, self._ask = old
                raise
            self._settle()
        return labels

    def changes(self) -> list[tuple[str, str]]:
        """Changes of the passphrase that hold and were not `noted`: their ids, and who made them."""
        if not self._folder.exists():
            return []
        self._finish_change()
        found = []
        with _in_words(self._folder):
            for path in sorted(path for path in self._folder.iterdir() if path.name.startswith(_CHANGED)):
                with contextlib.suppress(FileNotFoundError):  # another process has noted it
                    lines = path.read_text().splitlines()
                    found.append((path.name.removeprefix(_CHANGED), next((line.removeprefix(_BY) for line in lines if line.startswith(_BY)), "")))
        return found

    def noted(self, change: str) -> None:
        """A change is in the books."""
        with _in_words(self._folder):
            (self._folder / f"{_CHANGED}{change}").unlink(missing_ok=True)
            self._sync_folder()

    def _refuse_existing(self, label: str) -> None:
        """Refuses where there is a file, or even a dangling link, of that name."""
        path = self._path(label)
        if os.path.lexists(path):
            message = f"there is a key called {label!r} already: {path}"
            raise Conflict("key-exists", message, hint="keys are never overwritten; choose another name", label=label)

    def _store(self, label: str, key: PrivateKey) -> None:
        if self._ask is not None:
            self._secret_asked_once()  # a person may think about it for a while, and nobody should have to wait for that
        with self._locked():
            self._settle()
            self._refuse_existing(label)  # again: only now nobody else can come in between
            files.create(self._path(label), self._protect(key.pkcs8()), files.PRIVATE)

    def _read(self, label: str) -> bytes:
        """Plain PKCS#8 of the key called `label`."""
        path = self._path(label)
        data = _read_private(path, label)
        encrypted = b"ENCRYPTED" in data
        try:
            return pkcs8.unlock(data, self._passphrase(label) if encrypted else None, derive=self._derive)
        except Malformed as problem:
            if problem.code == "wrong-passphrase":
                raise Misconfigured(
                    "wrong-passphrase",
                    f"the passphrase does not open the key {label!r} in {path}",
                    hint="give the passphrase of this authority, as it was set by init or by the last passphrase change",
                    label=label,
                ) from None
            raise _unusable(path, label, problem) from None

    def _passphrase(self, label: str) -> bytes:
        if self._secret is None and self._ask is None:
            raise Misconfigured(
                "passphrase-needed",
                f"the key {label!r} is encrypted, and no passphrase is at hand",
                hint="name a file with --passphrase-file, GATEKEY_PASSPHRASE_FILE or passphrase-file in the configuration",
                label=label,
            )
        return self._secret_asked_once()

    def _secret_asked_once(self) -> bytes:
        if self._secret is None and self._ask is not None:
            self._secret = self._ask()
        if not self._secret:
            raise Misconfigured("empty-passphrase", "the passphrase is empty", hint="keys without a passphrase need --unencrypted-keys")
        return self._secret

    def _protect(self, plain: bytes) -> bytes:
        """The content of a key file."""
        if self._ask is None:
            return pkcs8.to_pem(plain)
        secret = self._secret_asked_once()
        if self._salt is None:
            self._salt = self._salt_in_use() or self._entropy.bytes(16)
        sealed = pkcs8.encrypt(plain, secret, salt=self._salt, iv=self._entropy.bytes(16), iterations=self._iterations, derive=self._derive)
        return pkcs8.to_pem(sealed)

    def _salt_in_use(self) -> bytes | None:
        """The salt of a key that was opened already. One passphrase needs one salt; the same for all keys means that a process derives it only once."""
        return next((salt for _, _, salt, _, _ in self._derived if len(salt) >= 16), None)

    def _derive(self, hash_name: str, password: bytes, salt: bytes, iterations: int, size: int) -> bytes:
        """PBKDF2 that remembers: 40 ms for the first key of a process, nothing for the others. The library's own takes half of `hashlib`'s time."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

        asked = (hash_name, password, salt, iterations, size)
        if asked not in self._derived:
            algorithm: hashes.HashAlgorithm = getattr(hashes, hash_name.upper())()  # names of `pbe.PRFS`
            self._derived[asked] = PBKDF2HMAC(algorithm, size, salt, iterations).derive(password)
        return self._derived[asked]

    def _path(self, label: str, suffix: str = _SUFFIX) -> Path:
        if not _LABEL.fullmatch(label):
            raise Malformed("bad-label", f"{label!r} cannot be the name of a key; lower-case letters, digits and inner hyphens can", label=label)
        return self._folder / (label + suffix)

    def _names(self, suffix: str) -> list[str]:
        """Labels that have a file with this suffix, sorted."""
        return sorted(stem for path in self._folder.iterdir() if path.name.endswith(suffix) and _LABEL.fullmatch(stem := path.name[: -len(suffix)]))

    def _sync_folder(self) -> None:
        """Makes names durable: after this, a renamed file is still there when the power fails."""
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among the writers of this folder, which is made if need be. Waits."""
        import fcntl

        with _in_words(self._folder):
            if not self._folder.is_dir():
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _commit_change(self, labels: list[str], by: str) -> None:
        """Step 3: a crash before the journal has its name leaves the old passphrase, a crash after it the new one."""
        journal = self._folder / _JOURNAL
        try:
            files.replace(journal, "".join(f"{line}\n" for line in (*labels, f"{_BY}{by}")).encode(), files.PRIVATE)
        except BaseException:
            journal.unlink(missing_ok=True)  # we are about to say that it failed, so it must not hold
            raise

    def _finish_change(self) -> None:
        """Finishes a change of passphrase that was interrupted after its journal stood. Costs one look when there is none."""
        if os.path.lexists(self._folder / _JOURNAL):
            with self._locked():
                self._settle()

    def _settle(self) -> None:
        """Rolls a committed change forward, sweeps an uncommitted one away. Needs the lock; may be repeated."""
        with _in_words(self._folder):
            journal = self._folder / _JOURNAL
            if journal.exists():
                for label in journal.read_text().splitlines():
                    if label.startswith(_BY):
                        continue
                    with contextlib.suppress(FileNotFoundError):  # renamed already
                        self._path(label, _NEW).rename(self._path(label))
                self._sync_folder()
                journal.rename(self._folder / f"{_CHANGED}{self._entropy.bytes(8).hex()}")
                self._sync_folder()
            for path in self._folder.iterdir():
                if path.name.endswith(_NEW) or re.fullmatch(_UNFINISHED, path.name):
                    path.unlink(missing_ok=True)


def _unusable(path: Path, label: str, problem: Malformed) -> Misconfigured:
    return Misconfigured("bad-key-file", f"{path} holds no usable key: {problem.message}", hint="restore the file from a backup", label=label)


def _read_private(path: Path, label: str) -> bytes:
    """The file's bytes, once it is sure that nobody but its owner may read or write it."""
    with _in_words(path):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            message = f"there is no key called {label!r}: {path} does not exist"
            raise NotFound("no-such-key", message, hint="if it is kept elsewhere, bring it back for this", label=label) from None
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise Misconfigured("bad-key-file", f"{path} is no ordinary file", label=label)
            if found.st_mode & 0o077:
                raise Misconfigured(
                    "key-file-exposed",
                    f"{path} has mode {stat.S_IMODE(found.st_mode):04o}: others than its owner may use it",
                    hint=f"chmod 600 {path}",
                    label=label,
                    mode=f"{stat.S_IMODE(found.st_mode):04o}",
                )
            return os.read(handle, pkcs8.MOST_BYTES + 1)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Turns what the file system refuses into a sentence."""
    try:
        yield
    except OSError as problem:
        raise files.explain(problem, problem.filename or path) from problem
