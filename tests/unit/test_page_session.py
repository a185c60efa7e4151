"""Sessions of the local page: signed, ending, and slow to guess."""

import pytest

from edge_runtime.contract.errors import QuotaError, UnauthorizedError
from edge_runtime.web.page.session import ANYBODY, LIFETIME_S, Guard, Sessions

NOW_S = 1_800_000_000.0


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return Sessions("correct horse")


def test_the_right_password_opens_a_session_that_ends(sessions: Sessions) -> None:
    cookie = sessions.cookie(sessions.log_in("correct horse", "10.0.0.7", NOW_S))
    found = sessions.session(cookie, NOW_S + LIFETIME_S - 1)
    assert found is not None
    assert sessions.session(cookie, NOW_S + LIFETIME_S) is None
    sessions.log_out(found, NOW_S)
    assert sessions.session(cookie, NOW_S) is None


def test_another_cookie_is_none(sessions: Sessions) -> None:
    cookie = sessions.cookie(sessions.log_in("correct horse", "10.0.0.7", NOW_S))
    other = Sessions("correct horse")
    nonce, until, signature = cookie.split(".")
    for forged in ("", "..", "a.b.c", "é", f"{nonce}.{int(until) + 1}.{signature}", f"x{cookie}"):
        assert sessions.session(forged, NOW_S) is None
    assert other.session(cookie, NOW_S) is None


def test_a_word_fits_its_own_session_only(sessions: Sessions) -> None:
    word = sessions.word("one")
    assert sessions.fits(word, "one")
    assert not sessions.fits(word, "two")
    assert not sessions.fits("", "one")
    assert not Sessions("correct horse").fits(word, "one")


def test_wrong_passwords_make_wait(sessions: Sessions) -> None:
    for _ in range(5):
        with pytest.raises(UnauthorizedError):
            sessions.log_in("wrong", "10.0.0.8", NOW_S)
    with pytest.raises(QuotaError):
        sessions.log_in("correct horse", "10.0.0.8", NOW_S + 1)
    sessions.log_in("correct horse", "10.0.0.9", NOW_S + 1)
    sessions.log_in("correct horse", "10.0.0.8", NOW_S + 2.1)


def test_waiting_doubles_up_to_five_minutes_and_is_forgotten() -> None:
    guard, now_s, waits = Guard(), 0.0, []
    for _ in range(16):
        guard.failed("fe80::1", now_s)
        try:
            guard.check("fe80::ffff", now_s)
        except QuotaError as error:
            waits.append(error.retry_after_s)
            now_s += error.retry_after_s
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[-1] == 300
    guard.failed("fe80::1", now_s + 4000)
    guard.check("fe80::1", now_s + 4000)


def test_without_a_password_everybody_is_the_same() -> None:
    sessions = Sessions("")
    assert not sessions.needed
    assert sessions.session("", NOW_S) is ANYBODY
