"""The console without a browser: who gets in, what a form has to carry, what is escaped, what is refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from cloud_fallback.fleet.api.app import make_app
from cloud_fallback.fleet.console import Deps, attach, deps_for, figures
from cloud_fallback.fleet.console.rendering import ago
from cloud_fallback.fleet.console.session import LIFETIME_S, Seal, Session
from cloud_fallback.fleet.standing import PHASES, Move, Phase
from edge_runtime.contract.fleet import Reply
from tests.simulators.console_data import NOW_S, XSS, Fleet, device, rollout
from tests.simulators.fleet_api import content_digest, enrol, site_in

KEY = b"k" * 32
SESSION = Session("fleet_operator", "nonce", int(NOW_S + 60))


@pytest.fixture
def fleet() -> Fleet:
    return Fleet.of_a_good_day()


@pytest.fixture
def now_s() -> list[float]:
    return [NOW_S]


@pytest.fixture
def anybody(fleet: Fleet, now_s: list[float]) -> TestClient:
    app = FastAPI()
    attach(app, Deps(fleet, KEY, lambda: now_s[0], secure=True, tenant="acme"))
    return TestClient(app, base_url="https://fleet.example", follow_redirects=False)


def word_in(page: Any) -> str:
    found = re.search(r'name="word" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def log_in(client: TestClient, token: str = "fleet_operator") -> Any:
    page = client.get("/console/login")
    return client.post("/console/login", data={"word": word_in(page), "token": token})


@pytest.fixture
def operator(anybody: TestClient) -> TestClient:
    assert log_in(anybody).status_code == 303
    return anybody


@pytest.fixture
def post(operator: TestClient) -> Callable[..., Any]:
    word = word_in(operator.get("/console"))

    def send(path: str, **fields: str) -> Any:
        return operator.post(f"/console{path}", data={"word": word, **fields})

    return send


def test_nobody_sees_anything_without_a_login(anybody: TestClient) -> None:
    for path in (
        "",
        "/devices",
        "/devices/store-001",
        "/deployments",
        "/new",
        "/releases",
        "/audit",
        "/matching",
    ):
        answer = anybody.get(f"/console{path}")
        assert answer.status_code == 303 and answer.headers["location"] == "/console/login"
    refreshing = anybody.get("/console", headers={"hx-request": "true"})
    assert refreshing.status_code == 401 and refreshing.headers["hx-redirect"] == "/console/login"


def test_the_session_is_in_a_cookie_that_scripts_and_other_sites_do_not_get(anybody: TestClient) -> None:
    cookie = log_in(anybody).headers["set-cookie"]
    assert "fleet_session=" in cookie
    for part in ("HttpOnly", "SameSite=strict", "Secure", "Path=/console"):
        assert part in cookie


def test_logging_out_ends_it(operator: TestClient, post: Callable[..., Any]) -> None:
    assert post("/logout").status_code == 303
    assert operator.get("/console").status_code == 303


def test_a_token_that_is_taken_back_ends_its_sessions(operator: TestClient, fleet: Fleet) -> None:
    assert operator.get("/console").status_code == 200
    fleet.revoked.add("fleet_operator")
    assert operator.get("/console").status_code == 303


def test_a_session_ends_by_itself(operator: TestClient, now_s: list[float]) -> None:
    now_s[0] += LIFETIME_S + 1
    assert operator.get("/console").status_code == 303


def test_failed_logins_have_to_wait(anybody: TestClient) -> None:
    assert [log_in(anybody, "wrong").status_code for _ in range(7)] == [401] * 5 + [429] * 2


def test_a_login_form_of_another_browser_is_refused(anybody: TestClient) -> None:
    other = TestClient(anybody.app, base_url="https://fleet.example", follow_redirects=False)
    word = word_in(other.get("/console/login"))
    answer = anybody.post("/console/login", data={"word": word, "token": "fleet_operator"})
    assert answer.status_code == 400 and "set-cookie" in answer.headers
    assert anybody.get("/console").status_code == 303


@pytest.mark.parametrize("spoiled", ["", "x", ".", "a.b.c.d", "fleet_operator.nonce.99999999999."])
def test_a_cookie_that_is_not_signed_here(spoiled: str) -> None:
    assert Seal(KEY).session(spoiled, NOW_S) is None


def test_a_signed_cookie_is_bound_to_its_key_and_its_end() -> None:
    cookie = Seal(KEY).cookie(SESSION)
    assert Seal(KEY).session(cookie, NOW_S) == SESSION
    assert Seal(KEY).session(cookie, NOW_S + 60) is None
    assert Seal(b"other").session(cookie, NOW_S) is None
    assert Seal(KEY).session(cookie.replace("fleet_operator", "fleet_admin_xx"), NOW_S) is None
    # What signs a form signs no session.
    assert Seal(KEY).word("nonce") not in cookie


@pytest.mark.parametrize(
    "path", ["/logout", "/new", "/deployments/detector-1.5.0/halt", "/devices/store-001/commands"]
)
def test_forms_of_others_are_refused(operator: TestClient, fleet: Fleet, path: str) -> None:
    fields = {"command": "report", "release": "x"}
    word = word_in(operator.get("/console"))
    assert operator.post(f"/console{path}", data=fields).status_code == 403
    assert (
        operator.post(f"/console{path}", data={**fields, "word": Seal(KEY).word("other")}).status_code == 403
    )
    headers = {"sec-fetch-site": "cross-site"}
    answer = operator.post(f"/console{path}", data={**fields, "word": word}, headers=headers)
    assert answer.status_code == 403
    assert fleet.asked == []


def test_a_viewer_looks_and_does_nothing(anybody: TestClient, fleet: Fleet) -> None:
    log_in(anybody, "fleet_viewer")
    page = anybody.get("/console/deployments/detector-1.5.0")
    assert page.status_code == 200 and "move-halt" not in page.text
    assert "Commands" not in anybody.get("/console/devices/store-001").text
    word = word_in(page)
    for path in ("/new", "/deployments/detector-1.5.0/halt", "/devices/store-001/commands"):
        assert anybody.post(f"/console{path}", data={"word": word, "command": "report"}).status_code == 403
    assert anybody.get("/console/new").status_code == 403
    assert fleet.asked == []


def test_every_answer_keeps_out_what_is_not_ours(operator: TestClient) -> None:
    for path in ("", "/login", "/devices/nobody", "/static/console.js", "/static/secrets.txt"):
        headers = operator.get(f"/console{path}").headers
        policy = headers["content-security-policy"]
        assert (
            "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        )
        assert headers["x-content-type-options"] == "nosniff"
    assert operator.get("/console").headers["cache-control"] == "no-store"


def test_pages_load_only_what_is_here(operator: TestClient) -> None:
    page = operator.get("/console").text
    named = re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page)
    assert len(named) == 5
    for path in named:
        assert operator.get(path).status_code == 200
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert " style=" not in page and "<style" not in page and not re.search(r"<script(?! src)", page)
    assert operator.get("/console/static/..%2f__init__.py").status_code == 404


def test_what_devices_and_people_write_stays_text(operator: TestClient, fleet: Fleet) -> None:
    sick = device(1, labels={"a": XSS}, trouble=XSS, agent=XSS, timezone=XSS)
    fleet.listed["store-001"] = sick.model_copy(
        update={"health": sick.health.model_copy(update={"trouble": (XSS,)})}
    )
    fleet.rollouts["detector-1.5.0"] = rollout(Phase.HALTED, reason=XSS, release=XSS, created_by=XSS)
    fleet.happened = [each.model_copy(update={"text": XSS, "code": XSS}) for each in fleet.happened]
    fleet.written = [each.model_copy(update={"detail": XSS, "who": XSS}) for each in fleet.written]
    for path in ("", "/devices", "/devices/store-001", "/deployments", "/deployments/detector-1.5.0",
                 "/deployments/detector-1.5.0/revert", "/events", "/audit"):  # fmt: skip
        page = operator.get(f"/console{path}")
        assert page.status_code == 200
        assert "<img src=x" not in page.text and "<script>" not in page.text, path
        assert "&lt;img src=x" in page.text, path
    page = operator.get("/console/devices", params={"selector": XSS})
    assert page.status_code == 400 and "<script>" not in page.text


def test_devices_are_searched_and_paged(operator: TestClient, fleet: Fleet) -> None:
    for number in range(41, 120):
        one = device(number)
        fleet.listed[one.name] = one
    first = operator.get("/console/devices?selector=profile%3Dstore-pc&state=online")
    names = re.findall(r'id="device-(store-\d+)"', first.text)
    link = re.search(r'id="next-page" href="([^"]+)"', first.text)
    assert link and len(names) == 50
    second = operator.get(link[1].replace("&amp;", "&"))
    more = re.findall(r'id="device-(store-\d+)"', second.text)
    assert more and not set(more) & set(names) and min(more) > max(names)
    wrong = operator.get("/console/devices?selector=region%3D")
    assert wrong.status_code == 400 and "column" in wrong.text and 'aria-invalid="true"' in wrong.text


def test_what_is_not_there_is_a_page(operator: TestClient) -> None:
    for path in ("/devices/nobody", "/deployments/nothing", "/deployments/detector-1.5.0/explode"):
        answer = operator.get(f"/console{path}")
        assert answer.status_code == 404 and "Not there" in answer.text


def test_a_rollout_is_begun_as_people_write_it(post: Callable[..., Any], fleet: Fleet) -> None:
    fields = {
        "release": "model/detector/5-1.5.0.zip", "to": "region=west", "canary": "1%", "waves": "25%,100%",
        "soak": "30m", "timeout": "3h", "window": "02:00-05:00", "fail": "2%", "approve": "yes",
        "on_halt": "keep", "id": "night",
    }  # fmt: skip
    answer = post("/new", **fields)
    assert answer.status_code == 303 and answer.headers["location"] == "/console/deployments/night"
    _, who, new = fleet.asked[0]
    assert who == "operator"
    asked: Any = new
    assert (asked.name, asked.version, asked.selector, asked.on_halt) == (
        "detector",
        "1.5.0",
        "region=west",
        "keep",
    )
    assert [(each.share, each.needs_approval) for each in asked.waves] == [
        (0.01, False),
        (0.25, True),
        (1, False),
    ]
    assert (asked.pace.soak_s, asked.pace.timeout_s, asked.thresholds.failure) == (1800, 10800, 0.02)
    for field, wrong, why in (
        ("soak", "soon", "soak: expected a duration"),
        ("to", "region=", "selector"),
        ("fail", "2", "fail: expected a share"),
        ("release", "model/other/1-1.zip", "release: expected one that is published"),
        ("on_halt", "panic", "on_halt"),
        ("id", "Not An Id!", "id:"),
    ):
        answer = post("/new", **{**fields, field: wrong})
        assert answer.status_code == 400 and why in answer.text, field
        assert 'value="30m"' in answer.text or field == "soak"  # what was written is not lost
    assert len(fleet.asked) == 1


def test_moves_are_confirmed_first(operator: TestClient, post: Callable[..., Any], fleet: Fleet) -> None:
    page = operator.get("/console/deployments/detector-1.5.0/halt")
    assert "Yes, halt" in page.text and fleet.asked == []
    assert post("/deployments/detector-1.5.0/halt", reason="smells odd").status_code == 303
    assert fleet.asked == [("halt", "operator", "detector-1.5.0", "smells odd")]
    again = operator.get("/console/deployments/detector-1.5.0/halt")
    assert "not possible while it is halted" in again.text and "Yes, halt" not in again.text


def test_a_device_answers_or_does_not(post: Callable[..., Any], fleet: Fleet) -> None:
    shown = post("/devices/store-001/commands", command="snapshot", camera="door")
    assert "data:image/jpeg;base64," in shown.text
    assert fleet.asked == [("snapshot", "operator", "store-001", {"camera": "door"})]
    fleet.silent = True
    assert "store-001 does not answer" in post("/devices/store-001/commands", command="report").text
    assert post("/devices/store-001/commands", command="benchmark").status_code == 404


def test_what_is_no_picture_is_not_shown(post: Callable[..., Any], fleet: Fleet) -> None:
    fleet.answer = Reply(id="c", ok=True, result={"jpeg_base64": 'PHNjcmlwdD4="><script>'})
    page = post("/devices/store-001/commands", command="snapshot").text
    assert "data:image" not in page and "<script>" not in page and "sent no picture" in page


def test_devices_that_another_rollout_holds_are_shown_with_it(operator: TestClient, fleet: Fleet) -> None:
    page = operator.get("/console/deployments/detector-1.5.0").text
    assert 'id="held-' not in page
    fleet.rollouts["detector-1.5.0"] = rollout(held=1)
    page = operator.get("/console/deployments/detector-1.5.0").text
    assert 'id="held-store-001"' in page
    assert "it has, or may have, detector 1.5.0 of detector-1.5.0, which is newer" in page


def test_a_withdrawn_release_is_said_to_be_and_not_offered(operator: TestClient, fleet: Fleet) -> None:
    target = "model/detector/5-1.5.0.zip"
    assert f'value="{target}"' in operator.get("/console/new").text
    fleet.withdrawn = {"1.5.0"}
    page = operator.get("/console/releases").text
    assert "withdrawn" in page and "by berta: it counts twice" in page
    assert "Roll out detector 1.5.0" not in page and "Roll out detector 1.4.0" in page
    assert f'value="{target}"' not in operator.get("/console/new").text


def test_a_log_that_was_changed_is_shown(operator: TestClient, fleet: Fleet) -> None:
    assert "chain verified" in operator.get("/console/audit").text
    fleet.broken_at = 2
    page = operator.get("/console/audit").text
    assert "broken at line 2" in page and "chain verified" not in page


def test_the_moves_of_each_phase_are_those_of_the_table() -> None:
    for phase in Phase:
        for move in figures.MOVES:
            in_table = (phase, Move(move)) in PHASES or (move == "resume" and phase is Phase.PAUSED)
            assert (move in figures.allowed(phase)) == in_table


def test_bars_are_whole_and_in_order() -> None:
    pieces = figures.bar({"waiting": 5, "failed": 1, "succeeded": 3, "new-word": 1})
    assert [each.name for each in pieces] == ["succeeded", "failed", "waiting", "new-word"]
    assert sum(each.width for each in pieces) == pytest.approx(100)
    assert pieces[2].start == pytest.approx(40)
    assert figures.bar({}) == []


def test_the_curve_counts_ends(fleet: Fleet) -> None:
    times, well, bad = figures.curve(fleet.members("detector-1.5.0", None, 100))
    assert times == sorted(times)
    assert (well[-1], bad[-1]) == (5, 2)
    assert figures.curve([]) == [[], [], []]


def test_times_are_said_for_people() -> None:
    assert ago(None, NOW_S) == "never"
    assert ago("2026-05-28T20:26:38Z", NOW_S) == "just now"
    assert ago("2026-05-28T18:26:00Z", NOW_S) == "2h ago"


def test_over_a_real_manager(tmp_path: Path) -> None:
    with site_in(tmp_path) as site:
        content = b"bundle"
        target = site.publish("detector", 1, content)
        headers = {"content-digest": content_digest(content)}
        site.client().put(f"/v1/artifacts/{target}", content=content, headers=headers).raise_for_status()
        site.client().post("/v1/releases", json={"target": target}).raise_for_status()
        enrol(site, "store-001")
        app = make_app(site.manager, lambda app: attach(app, deps_for(site.manager)))
        browser = TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)
        assert log_in(browser, "fleet_wrong").status_code == 401
        policies = browser.get("/console/login").headers.get_list("referrer-policy")
        assert set(policies) == {"no-referrer"}
        assert log_in(browser, site.tokens["operator"]).status_code == 303
        for path in ("", "/devices", "/devices?state=trouble", "/devices/store-001", "/deployments", "/new",
                     "/releases", "/events", "/audit"):  # fmt: skip
            assert browser.get(f"/console{path}").status_code == 200, path
        word = word_in(browser.get("/console/new"))
        fields = {"word": word, "release": target, "to": "all", "soak": "1h", "timeout": "2h", "fail": "5%",
                  "on_halt": "revert", "id": "first", "waves": "", "canary": ""}  # fmt: skip
        assert browser.post("/console/new", data=fields).status_code == 303
        assert browser.post("/console/deployments/first/pause", data={"word": word}).status_code == 303
        assert browser.post("/console/deployments/first/approve", data={"word": word}).status_code == 409
        assert "1 device matches" in browser.get("/console/matching?to=all").text
        silent = browser.post("/console/devices/store-001/commands", data={"word": word, "command": "report"})
        assert "no answer" in silent.text
        log = browser.get("/console/audit").text
        assert "chain verified" in log and "deployment.pause" in log and "operator" in log
