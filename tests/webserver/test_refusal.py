"""Is it a refusal? A table of answers as real servers and apps give them, and what can be said of each with and without a good certificate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.webserver.answer import ALERT, ANSWERED, CLOSED, NOT_LISTENING, NOT_TLS, TIMEOUT, UNREACHABLE, UNREADABLE, Answer
from gatekey.webserver.refusal import elsewhere, refusing, same_answer, server_of, server_page
from gatekey.webserver.report import OPEN, PASS, UNSURE
from kit.cases import cases


def page(status: int, body: str = "", **headers: str) -> Answer:
    return Answer(ANSWERED, status, "", tuple((name.replace("_", "-"), value) for name, value in headers.items()), body.encode())


NGINX_400 = "<html><head><title>400 No required SSL certificate was sent</title></head><hr><center>nginx</center></html>"
NGINX_405 = "<html><head><title>405 Not Allowed</title></head><hr><center>nginx</center></html>"
NGINX_404 = "<html><head><title>404 Not Found</title></head><hr><center>nginx</center></html>"
HAPROXY_403 = "<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>\n"
FRIENDLY = "<h1>You need a certificate</h1><p>Why was I not asked? Your certificate may have expired. Write to the administrator of this site.</p>"
APP = "<h1>Pictures of kittens</h1><p>Welcome back, Ann. Here are all the pictures that we have of our kittens, and some of other cats.</p>"
LOGIN = "<h1>Sign in</h1><form><input name=user><input name=password><button>Sign in to the kittens</button></form>"

good = page(200, APP, set_cookie="session=1", x_frame_options="DENY")
usual = page(403, FRIENDLY)

CASES = [
    # name, answer, good, usual, verdict
    ("alert", Answer(ALERT, alert=116), good, None, PASS),
    ("closed, as with 444", Answer(CLOSED, words="closed"), None, None, PASS),
    ("nothing listens", Answer(NOT_LISTENING), None, None, PASS),
    ("timeout", Answer(TIMEOUT), good, usual, UNSURE),
    ("unreachable", Answer(UNREACHABLE), good, usual, UNSURE),
    ("unreadable", Answer(UNREADABLE), good, usual, UNSURE),
    ("another protocol", Answer(NOT_TLS), good, usual, PASS),
    ("the page", page(200, APP), good, None, OPEN),
    ("the page, nobody knows it", page(200, APP), None, None, OPEN),
    ("another page", page(200, LOGIN), good, usual, OPEN),
    ("an empty page", page(204), good, usual, OPEN),
    ("a WebSocket", page(101), good, usual, OPEN),
    ("the page under another status", page(403, APP), good, None, OPEN),
    ("nginx refuses", page(400, NGINX_400), None, None, PASS),
    ("nginx refuses, others otherwise", page(400, NGINX_400), good, usual, PASS),
    ("HAProxy refuses", page(403, HAPROXY_403), None, None, PASS),
    ("a friendly refusal", page(403, FRIENDLY), None, None, PASS),
    ("the usual refusal", page(403, FRIENDLY), good, usual, PASS),
    ("the usual refusal, nobody good", page(403, FRIENDLY), None, usual, PASS),
    ("misdirected", page(421, "Misdirected"), None, usual, PASS),
    ("method not allowed, by nginx, for everybody", page(405, NGINX_405), page(405, NGINX_405), usual, PASS),
    ("method not allowed, by the app, for everybody", page(405, LOGIN), page(405, LOGIN), usual, OPEN),
    ("not found, as with the good certificate", page(404, NGINX_404), page(404, NGINX_404), usual, OPEN),
    ("not found, by somebody", page(404, LOGIN), None, usual, UNSURE),
    ("not found, nothing to compare", page(404, LOGIN), None, None, UNSURE),
    ("401 by the app", page(401, LOGIN, set_cookie="a"), good, usual, UNSURE),
    ("403 by the app", page(403, LOGIN, x_frame_options="DENY"), good, usual, UNSURE),
    ("403 without the app's headers", page(403, LOGIN), good, usual, PASS),
    ("the app's redirect to its login", page(302, location="/login"), page(302, location="/login?next=/"), None, OPEN),
    ("a redirect, nobody good", page(302, location="/help"), None, None, UNSURE),
    ("the app is down for all", page(502, "Bad gateway"), page(502, "Bad gateway"), usual, OPEN),
    ("the app is down", page(502, "Bad gateway"), None, usual, UNSURE),
    ("the decision is not to be had", page(503, "no decision"), good, usual, PASS),
    ("nginx fails", page(500, NGINX_400), good, usual, PASS),
    ("the app fails", page(500, "Traceback (most recent call last)"), good, usual, UNSURE),
]


@pytest.mark.parametrize(("name", "answer", "best", "refusal", "verdict"), CASES, ids=[case[0] for case in CASES])
def test_under_its_own_name(name: str, answer: Answer, best: Answer | None, refusal: Answer | None, verdict: str) -> None:
    assert refusing(answer, best, refusal).verdict == verdict, refusing(answer, best, refusal).said


DEFAULT_SITE = page(200, "<h1>Welcome to nginx!</h1><p>If you see this page, the web server is installed and working.</p>")
ELSEWHERE = [
    ("alert", Answer(ALERT, alert=112), good, None, PASS),
    ("timeout", Answer(TIMEOUT), good, None, UNSURE),
    ("the page", page(200, APP), good, None, OPEN),
    ("the page, nobody knows it, only for this name", page(200, APP), None, page(404, NGINX_404), OPEN),
    ("the same for any name", DEFAULT_SITE, good, DEFAULT_SITE, PASS),
    ("the same for any name, nobody good", DEFAULT_SITE, None, DEFAULT_SITE, UNSURE),
    ("the page, for any name", page(200, APP), good, page(200, APP), OPEN),
    ("a page of its own for this name", page(200, LOGIN), good, DEFAULT_SITE, OPEN),
    ("refused", page(404, NGINX_404), good, None, PASS),
    ("the page under another status", page(403, APP), good, None, OPEN),
    ("bad request for everybody", page(400, NGINX_400), page(400, NGINX_400), None, PASS),
    ("a redirect to the right place", page(301, location="https://app.example/"), None, None, PASS),
    ("a redirect to a path", page(302, location="/login"), None, None, UNSURE),
    ("the app's own redirect", page(302, location="/login"), page(302, location="/login"), None, OPEN),
]


@pytest.mark.parametrize(("name", "answer", "best", "control", "verdict"), ELSEWHERE, ids=[case[0] for case in ELSEWHERE])
def test_under_another_name(name: str, answer: Answer, best: Answer | None, control: Answer | None, verdict: str) -> None:
    assert elsewhere(answer, best, control).verdict == verdict


def test_the_same_page_for_two_people_is_the_same() -> None:
    assert same_answer(page(200, APP), page(200, APP.replace("Ann", "Bob") + " 3 new pictures since 2026-11-23 10:15"))
    assert not same_answer(page(200, APP), page(200, LOGIN))
    assert not same_answer(page(200, APP), page(403, APP))
    assert same_answer(page(204, vary="x"), page(204, vary="y"))
    assert not same_answer(page(405, allow="GET"), page(405))


def test_who_made_a_page() -> None:
    assert [server_page(page(400, body)) for body in (NGINX_400, HAPROXY_403, FRIENDLY, APP)] == [True, True, False, False]
    assert server_page(page(403, "", server="Caddy"))
    assert not server_page(page(403, "", server="gunicorn"))
    assert server_of(page(200, APP, server="nginx/1.22.1")) == "nginx"
    assert server_of(page(200, APP, server="openresty")) == "nginx"
    assert server_of(page(403, HAPROXY_403)) == "haproxy"
    assert server_of(page(200, APP, server="uvicorn")) == ""
    assert server_of(Answer(ALERT, alert=40)) == ""


answers = st.builds(
    Answer,
    st.sampled_from([ANSWERED, ANSWERED, ANSWERED, ALERT, CLOSED, TIMEOUT, NOT_TLS, UNREADABLE]),
    st.integers(101, 599),
    st.just(""),
    st.lists(st.tuples(st.sampled_from(["location", "server", "set-cookie", "x-a"]), st.text(max_size=12)), max_size=3).map(tuple),
    st.sampled_from([b"", APP.encode(), FRIENDLY.encode(), NGINX_404.encode(), b"\xff\x00"]) | st.binary(max_size=40),
)
maybe = st.none() | answers.filter(lambda one: one.kind == ANSWERED)


@cases(60)
@given(answers, maybe, maybe)
def test_what_says_yes_is_never_a_refusal(answer: Answer, best: Answer | None, other: Answer | None) -> None:
    ruling = refusing(answer, best, other)
    assert ruling.verdict in {PASS, OPEN, UNSURE}
    assert ruling.said
    if answer.kind == ANSWERED and answer.status < 300:
        assert ruling.verdict == OPEN
    if answer.kind != ANSWERED:
        assert ruling.verdict != OPEN


@cases(60)
@given(answers, maybe, maybe)
def test_elsewhere_always_rules(answer: Answer, best: Answer | None, control: Answer | None) -> None:
    ruling = elsewhere(answer, best, control)
    assert ruling.verdict in {PASS, OPEN, UNSURE}
    if answer.kind == ANSWERED and best is not None and answer == best and answer.status < 300 and answer.body.isalpha():
        assert ruling.verdict == OPEN
