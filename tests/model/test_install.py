"""The steps for each system: every system is there, names are filled in, and what is to be typed is well formed."""

from __future__ import annotations

import re
import shlex

import pytest

from gatekey.model.install import GUIDES, Guide, filled, stem_problem

TARGETS = (
    "windows", "windows-script", "windows-born", "macos", "ios", "android", "firefox", "chrome-linux", "chromeos", "java", "curl", "nss",
)  # fmt: skip
#: Programs that may stand at the beginning of a command. certutil is two programs: Microsoft's and that of NSS.
PROGRAMS = {"certutil", "certreq", "pk12util", "keytool", "curl", "gatekey", "mkdir", "chmod", "rm", "del"}
#: Options of Microsoft's and Apple's programs, which do not run here, as their documentation has them.
OPTIONS = {
    "certutil": {"-user", "-importpfx", "-store", "-addstore", "-repairstore", "-p"},
    "certreq": {"-new", "-user", "-accept"},
    "security": {"-f"},
}

every = pytest.mark.parametrize("target", TARGETS)


def commands(guide: Guide) -> list[str]:
    return [step.command for step in guide.steps if step.command]


def test_every_system_is_there() -> None:
    assert tuple(GUIDES) == TARGETS


@every
def test_texts(target: str) -> None:
    guide = GUIDES[target]
    assert guide.title
    assert len(guide.steps) >= 2
    assert any("NAME" in step.words + step.command for step in guide.steps)
    for text in (*(step.words for step in guide.steps), *guide.notes):
        assert text == text.strip()
        assert text == "" or text[-1] in ".:" or text.endswith((")", "ROOT.crt", "'NAME.key').", "process.")), text
    assert bool(guide.helper) == bool(guide.helper_ending)


@every
def test_commands_are_well_formed(target: str) -> None:
    for command in commands(GUIDES[target]):
        words = shlex.split(command)
        assert words[0] in PROGRAMS, command
        assert command.count('"') % 2 == 0
        if target.startswith("windows") and words[0] in OPTIONS:
            assert {word for word in words if re.fullmatch(r"-[a-z]+", word)} <= OPTIONS[words[0]], command
    for quoted in re.findall(r"`([a-z]+ -[^`]*)`", " ".join(GUIDES[target].notes)):
        words = shlex.split(quoted)
        assert {word for word in words if re.fullmatch(r"-[a-z]+", word)} <= OPTIONS[words[0]], quoted


@every
def test_names_are_filled_in(target: str) -> None:
    guide = filled(GUIDES[target], "ann")
    texts = [guide.make, guide.helper, *guide.notes, *(step.words + step.command for step in guide.steps)]
    left = [text for text in texts if re.search(r"\bNAME\b(?!-OF)", text)]
    assert left == []
    assert any("ann" in text for text in texts)
    assert guide.title == GUIDES[target].title


def test_another_file_name() -> None:
    guide = filled(GUIDES["java"], "ann", "handed-over.pfx")
    assert commands(guide)[0] == 'keytool -list -storetype PKCS12 -keystore "handed-over.pfx"'


def test_a_name_with_a_space_stays_one_word() -> None:
    for guide in GUIDES.values():
        made = filled(guide, "ann miller")
        assert "ann miller" in shlex.split(made.make)
        for command in commands(made):
            if "ann miller" in command:
                assert any(word.startswith("ann miller") for word in shlex.split(command)), command


@pytest.mark.parametrize("name", ["a$b", "a`b", 'a"b', "a;b", "a'b", "a\nb", "a%b", "", "żółw", "-rf", "a&b", "a|b", "a\\b"])
def test_names_that_a_shell_would_read_otherwise(name: str) -> None:
    assert stem_problem(name)


def test_the_request_of_windows() -> None:
    """What certreq reads: a key that cannot be exported, digitalSignature, clientAuth, and the login alone as the subject."""
    text = filled(GUIDES["windows-born"], "ann").helper
    assert 'Subject = "CN=ann"\n' in text
    assert 'ProviderName = "Microsoft Platform Crypto Provider"\n' in text
    assert "Exportable = FALSE\n" in text
    assert "KeyUsage = 0x80\n" in text
    assert "OID = 1.3.6.1.5.5.7.3.2\n" in text
    assert [line for line in text.splitlines() if line.startswith("[")] == ["[Version]", "[NewRequest]", "[EnhancedKeyUsageExtension]"]


def test_no_password_stands_in_a_command() -> None:
    for guide in GUIDES.values():
        assert not any("PASSWORD" in command for command in commands(guide))
