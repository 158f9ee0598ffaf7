"""What every test may ask for: the programs that judge us, and a rule that nothing is skipped where everything must be proved."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator

import pytest
from hypothesis import settings

#: For an evening's search: script/test -k properties --hypothesis-profile deep; for script/test --fast: brief. In CI Hypothesis takes its own profile, which
#: draws the same cases each time.
settings.register_profile("deep", max_examples=5000, deadline=None)
settings.register_profile("brief", max_examples=20, deadline=None)
settings.register_profile("unhurried", deadline=None)
if "CI" not in os.environ:
    settings.load_profile("unhurried")

NO_SKIPS = os.environ.get("GATEKEY_NO_SKIPS") == "1"

#: Debian keeps servers where an ordinary user's PATH does not look; easy-rsa keeps its script out of every PATH.
ELSEWHERE = ("/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/share/easy-rsa", "/usr/lib/apache2")

#: The Debian package of a program, where the name differs.
PACKAGES = {
    "pk12util": "libnss3-tools",
    "certutil": "libnss3-tools",
    "certtool": "gnutls-bin",
    "ocsptool": "gnutls-bin",
    "gnutls-cli": "gnutls-bin",
    "keytool": "default-jre-headless",
    "java": "default-jre-headless",
    "easyrsa": "easy-rsa",
    "cfssl": "golang-cfssl",
    "apache2ctl": "apache2",
    "ip": "iproute2",
    "ps": "procps",
    "systemd-analyze": "systemd",
    "promtool": "prometheus",
}


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """`program("nginx")` is the path of that program. A judge that is missing fails the test with a sentence; it never skips it."""

    def find(name: str) -> str:
        path = shutil.which(name) or shutil.which(name, path=os.pathsep.join(ELSEWHERE))
        if path is None:
            pytest.fail(f"{name} is not installed, and this test needs it as a judge: apt install {PACKAGES.get(name, name)}", pytrace=False)
        return path

    return find


@pytest.fixture(autouse=True)
def no_home_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test ever finds the authority or the passphrase of the person who runs it."""
    for name in ("GATEKEY_HOME", "GATEKEY_PASSPHRASE_FILE", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.getbasetemp() / "data"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With GATEKEY_NO_SKIPS=1 (script/test, CI) a skip is a failure: what did not run is not proved."""
    report = yield
    if NO_SKIPS and report.skipped:  # an expected failure is one too: what is known to be wrong is mended
        report.outcome = "failed"
        report.longrepr = f"skipped, and GATEKEY_NO_SKIPS=1 forbids that: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself while it is collected."""
    report = yield
    if NO_SKIPS and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, and GATEKEY_NO_SKIPS=1 forbids that: {report.longrepr}"
    return report
