"""What is a host, an address, an e-mail, a login; and the words for what is not."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.model.names import Names, common_name_problem, covers, email_problem, file_stem, host_problem, ip_address, login_problem

LONG_LABEL = "a" * 64
GOOD_HOSTS = (
    "a",
    "localhost",
    "picture-server",
    "example.com",
    "*.example.com",
    "xn--bcher-kva.example",
    "1a.example",
    "a-b--c.example",
    "a" * 63 + ".example",
    "3com.com",
)
BAD_HOSTS = (
    ("", "a host name is empty"),
    ("Example.com", "has upper-case letters"),
    ("bücher.example", "give it in its xn-- form: xn--bcher-kva.example"),
    ("*", "wildcard"),
    ("*.com", "a wildcard directly under a top-level name"),
    ("a.*.example.com", "a wildcard that is not the whole left-most label"),
    ("w*.example.com", "a wildcard that is not the whole left-most label"),
    ("*.*.example.com", "a wildcard that is not the whole left-most label"),
    ("example.com.", "ends with a dot"),
    (".example.com", "has an empty label"),
    ("a..b", "has an empty label"),
    ("-a.example", "the label '-a'"),
    ("a-.example", "the label 'a-'"),
    ("a_b.example", "the label 'a_b'"),
    ("a b", "the label 'a b'"),
    ("a/b", "the label 'a/b'"),
    ("a\x00b", "the label"),
    (f"{LONG_LABEL}.example", "a label longer than 63 characters"),
    (".".join(["a" * 60] * 5), "longer than the 253 characters"),
    ("ab--c.example", "which only xn-- may have"),
    ("xn--a.example", "not a valid xn-- form"),
    ("xn--.example", "the label 'xn--'"),
    ("10.0.0.1", "ends in a number and would be read as an address"),
    ("a.1", "ends in a number"),
)


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_good_hosts(host: str) -> None:
    assert host_problem(host) is None


@pytest.mark.parametrize(("host", "said"), BAD_HOSTS)
def test_bad_hosts_in_words(host: str, said: str) -> None:
    problem = host_problem(host)
    assert problem is not None
    assert said in problem


def test_a_wildcard_may_be_refused() -> None:
    assert "which is not allowed here" in (host_problem("*.example.com", wildcard=False) or "")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("[2001:db8:0::7]", "2001:db8::7"),
        ("::ffff:192.0.2.7", "::ffff:c000:207"),
        ("192.0.2.07", None),
        ("192.0.2", None),
        ("192.0.2.256", None),
        ("fe80::1%eth0", None),
        ("abc", None),
        ("face", None),
        ("example.com", None),
        ("", None),
        ("[192.0.2.7", None),
    ],
)
def test_addresses(text: str, address: str | None) -> None:
    assert ip_address(text) == address


@pytest.mark.parametrize("email", ["ann@example.com", "a.b+c@example.com", "O'Hara@example.com", "a@b", "a" * 64 + "@example.com"])
def test_good_mailboxes(email: str) -> None:
    assert email_problem(email) is None


@pytest.mark.parametrize(
    ("email", "said"),
    [
        ("ann", "is not an e-mail address"),
        ("@example.com", "is not an e-mail address"),
        ("", "is not an e-mail address"),
        ("änn@example.com", "beyond ASCII"),
        ("a b@example.com", "characters before the @"),
        (".a@example.com", "characters before the @"),
        ("a..b@example.com", "characters before the @"),
        ('"a"@example.com', "characters before the @"),
        ("a@b@example.com", "characters before the @"),
        ("ann@", "a host name is empty"),
        ("ann@exa_mple.com", "the label 'exa_mple'"),
        ("ann@*.example.com", "a wildcard, which is not allowed here"),
        ("ann@10.0.0.1", "ends in a number"),
        ("a" * 65 + "@example.com", "longer than an e-mail address may be"),
        ("a@b\r\nBcc: c", "the label"),
    ],
)
def test_bad_mailboxes_in_words(email: str, said: str) -> None:
    problem = email_problem(email)
    assert problem is not None
    assert said in problem


@pytest.mark.parametrize("login", ["ann", "Ann Miller", "ann.miller@example.com", "a", "x_1-2", "a" * 64])
def test_good_logins(login: str) -> None:
    assert login_problem(login) is None


@pytest.mark.parametrize(
    ("login", "said"),
    [
        ("", "is empty"),
        ("änn", "beyond ASCII"),
        ("a/b", "has '/'"),
        ("a=b,c+d", "has '+,='"),
        ('a"b', "has '\"'"),
        ("a\nb", "has '\\n'"),
        (" ann", "begins or ends with a space"),
        ("a  b", "two in a row"),
        ("-ann", "begins with a hyphen"),
        ("a" * 65, "longer than the 64 characters"),
    ],
)
def test_bad_logins_in_words(login: str, said: str) -> None:
    problem = login_problem(login)
    assert problem is not None
    assert said in problem


def test_common_names() -> None:
    assert common_name_problem("kitty-ca people root") is None
    assert common_name_problem("Kätzchen-CA") is None
    assert "empty" in (common_name_problem("") or "")
    assert "longer than 64" in (common_name_problem("x" * 65) or "")
    assert "control characters" in (common_name_problem("a\x00b") or "")
    assert "outer spaces" in (common_name_problem(" a") or "")


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("*", "anything", True),
        ("example.com", "example.com", True),
        ("example.com", "EXAMPLE.com", True),
        ("example.com", "a.example.com", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "b.a.example.com", True),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "badexample.com", False),
        ("*.example.com", ".example.com", False),
        ("*@example.com", "ann@example.com", True),
        ("*@example.com", "ann@a.example.com", False),
        ("*@example.com", "ann@example.com@evil.com", False),
        ("*@example.com", "example.com", False),
        ("*@example.com", "@example.com", False),
        ("*@example.com", "a@b@example.com", False),
        ("ann@example.com", "ann@example.com", True),
    ],
)
def test_patterns(pattern: str, name: str, covered: bool) -> None:
    assert covers(pattern, name) == covered


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("*.example.com", "_wildcard.example.com"),
        ("2001:db8::7", "2001-db8--7"),
        ("../x", "..-x"),
        ("..", "__"),
        ("a\\b\0", "a-b-"),
        ("Ann Miller", "Ann Miller"),
    ],
)
def test_file_stems(name: str, stem: str) -> None:
    assert file_stem(name) == stem


@given(st.text(max_size=80))
def test_a_file_stem_stays_in_its_folder(name: str) -> None:
    stem = file_stem(name)
    assert not set(stem) & set("/\\\0")
    assert stem not in (".", "..")


@given(st.text(max_size=300), st.booleans())
def test_every_text_is_judged(text: str, wildcard: bool) -> None:
    for problem in (host_problem(text, wildcard=wildcard), email_problem(text), login_problem(text), common_name_problem(text)):
        assert problem is None or problem
    ip_address(text)


@given(st.lists(st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=63).filter(lambda label: label[2:4] != "--"), min_size=1, max_size=3))
def test_plain_labels_make_hosts(labels: list[str]) -> None:
    host = ".".join(labels)
    assert (host_problem(host) is None) == (not labels[-1].isdigit())


@given(st.text(string.ascii_letters + string.digits + "._@-", min_size=1, max_size=64).filter(lambda text: not text.startswith("-")))
def test_logins_of_the_promised_characters_are_taken(login: str) -> None:
    assert login_problem(login) is None


def test_alternatives_are_in_order() -> None:
    assert Names("a", ("b",), ("192.0.2.1",), ("x@y",)).alternatives == ("b", "192.0.2.1", "x@y")
