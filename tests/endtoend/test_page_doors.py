"""The local page over HTTP: who gets in, what changes something, and what a page elsewhere cannot do."""

import json
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from edge_runtime.contract.errors import ConfigError
from edge_runtime.settings import load_settings
from tests.simulators.broker import wait_until
from tests.simulators.live_store import PASSWORD, LiveStore, live_store

PAGES = ("/cameras", "/events", "/zones/yard", "/privacy", "/live/status", "/live/pictures/yard")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Generator[LiveStore]:
    with live_store(tmp_path_factory.mktemp("guarded")) as store:
        yield store


@pytest.fixture(scope="module")
def open_store(tmp_path_factory: pytest.TempPathFactory) -> Generator[LiveStore]:
    with live_store(tmp_path_factory.mktemp("open"), password="") as store:
        yield store


@pytest.fixture
def browser(store: LiveStore) -> Generator[httpx.Client]:
    with httpx.Client(base_url=store.url, headers={"accept": "text/html"}, trust_env=False) as client:
        yield client


def word_in(page: str, before: str) -> str:
    return page.partition(before)[2].partition('"')[0]


def log_in(client: httpx.Client, password: str = PASSWORD, **headers: str) -> httpx.Response:
    word = word_in(client.get("/login").text, 'name="word" value="')
    return client.post("/login", data={"word": word, "password": password}, headers=headers)


def test_nobody_sees_anything_without_a_login(browser: httpx.Client, store: LiveStore) -> None:
    for page in PAGES:
        answer = browser.get(page)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert httpx.get(f"{store.url}{page}", trust_env=False).status_code == 401


def test_a_login_gives_a_cookie_that_scripts_do_not_get(browser: httpx.Client) -> None:
    answer = log_in(browser)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert PASSWORD not in cookie
    page = browser.get("/cameras")
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    word = word_in(page.text, 'name="page-word" content="')
    assert browser.post("/logout", data={"word": "another"}).status_code == 403
    kept = dict(browser.cookies)
    assert browser.post("/logout", data={"word": word}).status_code == 303
    browser.cookies.update(kept)
    assert browser.get("/cameras").status_code == 303, "the old cookie must be worth nothing"


def test_a_wrong_password_and_a_strange_form_are_refused(browser: httpx.Client) -> None:
    assert log_in(browser, "wrong").status_code == 401
    assert browser.post("/login", data={"word": "x", "password": PASSWORD}).status_code == 400
    assert log_in(browser, origin="http://evil.example").status_code == 403
    assert browser.get("/cameras").status_code == 303


def test_what_changes_something_needs_the_sessions_word(browser: httpx.Client, store: LiveStore) -> None:
    log_in(browser)
    page = browser.get("/zones/yard")
    word = word_in(page.text, 'name="page-word" content="')
    drawn = browser.get("/zones/yard/drawing").json()
    body = json.dumps({"version": drawn["version"], "drawing": {}})
    before = store.file.read_text()
    for headers in ({}, {"x-page-word": "x"}, {"x-page-word": word, "origin": "http://evil.example"}):
        assert browser.post("/zones/yard/drawing", content=body, headers=headers).status_code == 403
    cross = {"x-page-word": word, "sec-fetch-site": "cross-site"}
    assert browser.post("/zones/yard/drawing", content=body, headers=cross).status_code == 403
    assert store.file.read_text() == before


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"host": "evil.example:8080"}, {"origin": "http://evil.example"}]
)
def test_a_page_elsewhere_does_not_get_in(headers: dict[str, str], open_store: LiveStore) -> None:
    assert httpx.get(f"{open_store.url}/cameras", headers=headers, trust_env=False).status_code == 403


def test_on_this_machine_no_password_is_fine(open_store: LiveStore) -> None:
    page = httpx.get(f"{open_store.url}/cameras", trust_env=False)
    assert page.status_code == 200
    assert "Log out" not in page.text


def test_pictures_come_one_by_one_and_all_in_one_round(open_store: LiveStore) -> None:
    with httpx.Client(base_url=open_store.url, timeout=60, trust_env=False) as client:
        first = client.get("/live/pictures/yard?after=0")
        assert first.content.startswith(b"\xff\xd8\xff")
        number = int(first.headers["x-picture"])
        then = client.get(f"/live/pictures/yard?after={number}&drawn=0")
        assert int(then.headers["x-picture"]) > number
        head, _, rest = client.get("/live/round?seen=yard:0").content.partition(b"\n")
        said = json.loads(head)
        assert said["camera"] == "yard"
        assert rest.startswith(b"\xff\xd8\xff")
        assert len(rest) == said["bytes"]
        assert client.get("/live/pictures/nobody").status_code == 400
        assert client.get("/live/pictures/yard?after=-1").status_code == 400


def test_the_status_has_what_a_person_asks_for(open_store: LiveStore) -> None:
    with httpx.Client(base_url=open_store.url, timeout=60, trust_env=False) as client:
        wait_until(lambda: client.get("/live/status").json()["cameras"][0]["inferred"] > 0, 60)
        status = client.get("/live/status").json()
        assert status["cameras"][0]["state"] == "online"
        assert status["machine"]["rss_bytes"] > 0
        assert status["models"][0][:2] == ["people", "efficientdet-lite0 1.0.0"]
        assert {sink["name"] for sink in status["sinks"]} >= {"timeline"}
        entries = client.get("/privacy/entries").json()["entries"]
        assert any(entry["act"] == "started" for entry in entries)


def test_an_open_address_without_a_password_is_refused(tmp_path: Path, open_store: LiveStore) -> None:
    text = open_store.file.read_text().replace("page: {port: 0", "page: {host: 0.0.0.0, port: 0")
    (tmp_path / "store.yaml").write_text(text)
    with pytest.raises(ConfigError, match="a `password`"):
        load_settings(tmp_path / "store.yaml")


def test_the_last_answers_say_who_gave_them(open_store: LiveStore) -> None:
    with httpx.Client(timeout=60, trust_env=False) as client:
        jpeg = client.get(f"{open_store.url}/live/pictures/yard").content
        requests = open_store.agent.status().requests
        assert requests is not None
        given = client.post(
            f"{requests.door}/v1/predict/people", content=jpeg, headers={"content-type": "image/jpeg"}
        )
        assert given.status_code == 200, given.text
        answers = client.get(f"{open_store.url}/live/status").json()["answers"]
        _, model, version, variant, route, reason, took_ms = answers[0]
        assert (model, version, route) == ("people", "1.0.0", "local")
        assert variant
        assert reason
        assert took_ms > 0
