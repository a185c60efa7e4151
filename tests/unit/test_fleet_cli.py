"""`edge-runtime fleet` as it is typed, against a real manager over HTTP; only its operator is played."""

import base64
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import update
from typer.testing import CliRunner, Result

from cloud_fallback.fleet import selector
from cloud_fallback.fleet.cli import app
from cloud_fallback.fleet.cli.client import Connection, Manager, find_connection, settings_file, store
from cloud_fallback.fleet.cli.screen import console as terminal
from cloud_fallback.fleet.cli.watch import Changes, follow
from cloud_fallback.fleet.database.tables import audit, deployments
from cloud_fallback.fleet.standing import Phase
from cloud_fallback.fleet.watch import Change
from edge_runtime.contract.errors import ConfigError, RemoteError
from edge_runtime.contract.fleet import Reply
from tests.simulators.console_data import rollout
from tests.simulators.fleet_api import Site, content_digest, enrol, listening, site_in

Typed = Callable[..., Result]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    with site_in(tmp_path_factory.mktemp("manager")) as site:
        for counter, version in ((1, "1.0.0"), (2, "1.1.0")):
            content = f"bundle {version}".encode()
            target = site.publish("detector", counter, content, version)
            client = site.client()
            headers = {"content-digest": content_digest(content)}
            client.put(f"/v1/artifacts/{target}", content=content, headers=headers).raise_for_status()
            client.post("/v1/releases", json={"target": target}).raise_for_status()
        for name, region in (("store-001", "west"), ("store-002", "south")):
            enrol(site, name)
            site.client().patch(f"/v1/devices/{name}", json={"labels": {"region": region}}).raise_for_status()
        yield site


@pytest.fixture(scope="module")
def url(site: Site) -> Generator[str]:
    with listening(site.app) as url:
        yield url


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("EDGE_RUNTIME_MANAGER", "EDGE_RUNTIME_TOKEN", "EDGE_RUNTIME_MANAGER_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def typed(site: Site, url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    monkeypatch.setenv("EDGE_RUNTIME_MANAGER", url)
    monkeypatch.setenv("EDGE_RUNTIME_TOKEN", site.tokens["admin"])
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def said(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_help_needs_nothing_of_the_manager() -> None:
    script = (
        "import sys\nfrom edge_runtime.cli import main\nsys.argv = ['edge-runtime', 'fleet', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = ('httpx', 'sqlalchemy', 'fastapi', 'tuf', 'cryptography', 'ruamel')\n"
        "print(*(name for name in heavy if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []
    for name in ("init", "manager", "publish", "keys", "deploy", "watch", "enrol-token", "audit", "login"):
        assert f" {name} " in done.stdout


def test_the_reference_has_every_command_and_every_option_of_deploy() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/fleet-cli.md").read_text("utf-8")
    shown = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})
    commands = re.findall(r"^│ ([a-z][a-z-]*) ", shown.invoke(app, ["--help"]).stdout, re.MULTILINE)
    assert len(commands) > 20
    assert [each for each in commands if f"`{each}" not in page] == []
    options = set(re.findall(r"(--[a-z-]+)", shown.invoke(app, ["deploy", "--help"]).stdout)) - {"--help"}
    assert [each for each in sorted(options) if f"`{each}" not in page] == []


def test_devices_by_selector_and_alone(typed: Typed) -> None:
    assert [each["name"] for each in said(typed("devices", "--json"))["devices"]] == [
        "store-001",
        "store-002",
    ]
    west = said(typed("devices", "--selector", "region=west", "--json"))["devices"]
    assert [each["name"] for each in west] == ["store-001"]
    assert said(typed("devices", "--state", "online", "--json")) == {"devices": []}
    assert "2 devices, 0 online." in typed("devices").stdout
    assert "region=south" in typed("devices", "store-002").stdout


def test_what_is_wrong_names_itself_and_has_its_code(typed: Typed) -> None:
    error = said(typed("devices", "nobody", "--json"), 4)["error"]
    assert error["type"] == "InputError" and error["got"] == "'nobody'"
    assert error["message"].count("one of the fleet") == 1
    assert said(typed("devices", "--selector", "region=", "--json"), 4)["error"]["type"] == "InputError"
    assert typed("devices", "--state", "asleep").exit_code == 2
    assert (
        said(typed("devices", "--token", "fleet_wrong", "--json"), 3)["error"]["type"] == "UnauthorizedError"
    )
    assert said(typed("devices", "--manager", "http://127.0.0.1:9", "--json"), 7)["error"]["retryable"]


def test_a_viewer_cannot_deploy(typed: Typed, site: Site) -> None:
    result = typed("deploy", "detector", "--to", "all", "--token", site.tokens["viewer"], "--json")
    assert said(result, 3)["error"]["type"] == "RefusedError"


def test_deploy_reads_what_people_write(typed: Typed) -> None:
    line = (
        "--canary 1% --waves 5%,25%,100% --soak 1h30m --timeout 4h --fail 2% --approve-after-canary"
        " --on-halt keep --bytes-per-hour 2GB --jitter 5m --shadow 90s --only-patches --concurrent 50"
        " --id careful --json"
    )
    to = "region in (west,south) and profile=store-pc-cpu"
    words = ("--to", to, "--window", "mon-fri 02:00-05:00", *line.split())
    made = said(typed("deploy", "detector@1.0.0", *words))["deployment"]
    assert made["selector"] == str(selector.parse(to))
    assert [each["share"] for each in made["waves"]] == [0.01, 0.05, 0.25, 1]
    assert [each["needs_approval"] for each in made["waves"]] == [False, True, False, False]
    pace = {"soak_s": 5400, "timeout_s": 14400, "jitter_s": 300, "max_concurrent": 50}
    assert made["pace"] == {**pace, "bytes_per_hour": 2 * 10**9}
    assert made["thresholds"]["failure"] == 0.02
    assert made["window"] == {"start": "02:00", "end": "05:00", "days": [0, 1, 2, 3, 4]}
    assert made["on_halt"] == "keep" and made["version"] == "1.0.0"


def test_deploy_takes_the_newest(typed: Typed) -> None:
    result = typed("deploy", "detector", "--to", "all", "--id", "newest")
    assert result.exit_code == 0 and "detector 1.1.0 for all" in result.stdout
    assert "edge-runtime fleet watch newest" in result.stdout


@pytest.mark.parametrize(
    ("option", "value", "why", "code"),
    [
        ("--soak", "soon", "--soak: expected a duration", 3),
        ("--fail", "5", "--fail: expected a share", 3),
        ("--window", "night", "window: expected 02:00-05:00", 3),
        ("--on-halt", "panic", "--on-halt: expected revert or keep", 3),
        ("--kind", "cat", "--kind: expected model, settings or labels", 3),
        ("--to", "region=", "selector", 3),
    ],
)
def test_deploy_says_which_option_is_wrong(
    typed: Typed, option: str, value: str, why: str, code: int
) -> None:
    arguments = [] if option == "--to" else ["--to", "all"]
    result = typed("deploy", "detector", *arguments, option, value)
    assert result.exit_code == code and why in result.stderr


@pytest.mark.parametrize(
    ("bundle", "options", "why"),
    [
        ("detector", ("--success", "0"), "success: expected"),
        ("detector", ("--bytes-per-hour", "0"), "bytes_per_hour: expected"),
        ("detector", ("--id", "Not A Name"), "id: expected"),
        ("detector", ("--shadow", "9d"), "before pace.timeout_s"),
        ("@1.0.0", (), "name: expected"),
    ],
)
def test_what_can_be_no_deployment_is_said_before_anybody_is_asked(
    typed: Typed, bundle: str, options: tuple[str, ...], why: str
) -> None:
    result = typed("deploy", bundle, "--to", "all", *options)
    assert result.exit_code == 3 and why in result.stderr and "bug" not in result.stderr


def test_a_rollout_for_nobody_says_so(typed: Typed) -> None:
    nobody = typed("deploy", "detector", "--to", "region=north", "--agreement", "80%", "--json")
    assert said(nobody)["deployment"]["selector"] == "region=north"
    assert "No device matches now" in nobody.stderr
    assert "No device matches now" not in typed("deploy", "detector", "--to", "region=west").output


def test_a_device_is_changed_and_revoked(typed: Typed, site: Site) -> None:
    enrol(site, "store-009")
    assert typed("change", "store-009").exit_code == 4
    said(typed("change", "store-009", "--label", "region=north", "--label", "floor=1", "--json"))
    changed = said(typed("change", "store-009", "--unlabel", "floor", "--timezone", "Europe/Rome", "--json"))
    assert (changed["labels"], changed["timezone"]) == ({"region": "north"}, "Europe/Rome")
    assert typed("revoke", "store-009", "--token", site.tokens["operator"]).exit_code == 3
    assert said(typed("revoke", "store-009", "--json")) == {"device": "store-009", "revoked": True}
    assert [each["name"] for each in said(typed("devices", "--json"))["devices"]] == [
        "store-001",
        "store-002",
    ]


def test_what_a_device_says_cannot_steer_the_terminal() -> None:
    screen = terminal(as_json=False)
    with screen.capture() as shown:
        screen.print("a\x1b[2Jb\x9bc\u202ed", style="red", markup=False)
    assert "a\ufffd[2Jb\ufffdc\ufffdd" in shown.get()


def test_deploy_of_what_is_not_published(typed: Typed) -> None:
    assert "no version is published" in typed("deploy", "unknown", "--to", "all").stderr
    assert typed("deploy", "detector@9.9.9", "--to", "all").exit_code == 4


def test_moves_are_asked_for_with_their_reason(typed: Typed, site: Site) -> None:
    said(typed("deploy", "detector", "--to", "all", "--id", "to-be-halted", "--json"))
    seen = len(said(typed("audit", "--limit", "1000", "--json"))["audit"])
    typed("halt", "to-be-halted", "-m", "smells odd", "--json")
    last = said(typed("audit", "--after", str(seen), "--json"))["audit"][-1]
    assert (last["action"], last["subject"], last["detail"]) == (
        "deployment.halt",
        "to-be-halted",
        "smells odd",
    )
    assert typed("resume", "to-be-halted").exit_code == 10  # it is running
    assert typed("halt", "nothing").exit_code == 4


def test_status_of_all_and_of_one(typed: Typed) -> None:
    said(typed("deploy", "detector", "--to", "all", "--id", "looked-at", "--json"))
    assert "looked-at" in typed("status").stdout
    one = said(typed("status", "looked-at", "--json"))
    assert one["deployment"]["phase"] == "running" and one["devices"] == []
    assert "100%" in typed("status", "looked-at", "--standing", "any").stdout


def test_watch_ends_with_the_rollout(typed: Typed, site: Site) -> None:
    said(typed("deploy", "detector", "--to", "all", "--id", "ended", "--json"))
    head = json.dumps({"phase": "halted", "wave": 0, "reason": "failure-rate: 3 of 5"})
    with site.manager.database.begin() as tx:
        tx.execute(update(deployments).where(deployments.c.id == "ended").values(head=head, phase="halted"))
    result = typed("watch", "ended")
    assert result.exit_code == 10
    assert "ended: halted, wave 1/3" in result.stdout and "failure-rate: 3 of 5" in result.stdout
    assert said(typed("watch", "ended", "--json"), 10)["deployments"][0]["phase"] == "halted"


def test_watching_tells_each_change_once() -> None:
    running = rollout()
    done = rollout(Phase.COMPLETED, failed=0, reached=40)
    answers = iter([[running], [running], [done]])
    out = StringIO()
    last = follow(lambda: next(answers), lambda: None, Console(file=out, width=200), ended_too=True)
    assert [each.phase for each in last] == [Phase.COMPLETED]
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0] == "detector-1.5.0: running, wave 2/3, 10/40 reached, 5 well, 2 failed"


def test_on_a_terminal_it_is_drawn() -> None:
    answers = iter([[rollout()], [rollout(Phase.REVERTED, reason="failure-rate")]])
    screen = Console(file=StringIO(), width=100, force_terminal=True)
    follow(lambda: next(answers), lambda: None, screen, ended_too=True)
    drawn = screen.file
    assert isinstance(drawn, StringIO) and "reverted" in drawn.getvalue()


def test_changes_come_over_the_stream(site: Site, url: str) -> None:
    before = len(site.operator.opened)
    with Manager(Connection(url, site.tokens["viewer"])) as manager, ExitStack() as stack:
        changes = Changes(manager)
        while len(site.operator.opened) == before:
            os.sched_yield()
        stack.callback(site.manager.stopping.set)
        site.operator.watches.tell([Change("deployment", "looked-at")])
        changes.wait()
    site.manager.stopping.clear()


def test_commands_are_done_by_devices(typed: Typed, site: Site, home: Path) -> None:
    picture = base64.b64encode(b"\xff\xd8\xff a picture").decode()
    site.operator.answers["store-001"] = Reply(id="x", ok=True, result={"jpeg_base64": picture, "width": 640})
    shown = said(typed("command", "store-001", "snapshot", "camera=door", "--out", "door.jpg", "--json"))
    assert shown["result"] == {"file": "door.jpg", "width": 640}
    assert (home / "door.jpg").read_bytes() == b"\xff\xd8\xff a picture"
    assert typed("command", "store-001", "set-log-level", "level=debug", "seconds=60").exit_code == 0
    assert site.operator.commands[-1][1].arguments == {"level": "debug", "seconds": 60}
    assert typed("command", "store-001", "report", "nonsense").exit_code == 4
    site.operator.answers["store-001"] = Reply(id="x", ok=False, detail="snapshots are not allowed")
    result = typed("command", "store-001", "snapshot")
    assert result.exit_code == 7 and "snapshots are not allowed" in result.stderr
    assert typed("command", "store-002", "report").exit_code == 7  # it does not answer


def test_what_is_no_picture_is_not_written(typed: Typed, site: Site, home: Path) -> None:
    html = base64.b64encode(b"<html>").decode()
    site.operator.answers["store-001"] = Reply(id="x", ok=True, result={"jpeg_base64": html})
    result = typed("command", "store-001", "snapshot", "--out", "page.jpg")
    assert result.exit_code == 7 and not (home / "page.jpg").exists()


def test_a_token_for_a_device_to_come(typed: Typed, url: str) -> None:
    made = said(typed("enrol-token", "store-003", "--label", "region=east", "--group", "pilot", "--json"))
    assert made["token"]
    result = typed("enrol-token", "--expires", "1h")
    assert f"edge-runtime enrol {url} --token {result.stdout.strip()} --folder" in result.stderr
    for wrong in (("region",), ("a=b", "--label", "a=c")):
        assert typed("enrol-token", "--label", *wrong).exit_code == 4


def test_tokens_of_people(typed: Typed) -> None:
    made = said(typed("tokens", "create", "anna", "--role", "operator", "--expires", "90d", "--json"))
    assert made["token"].startswith("fleet_")
    listed = said(typed("tokens", "list", "--json"))["tokens"]
    anna = next(each for each in listed if each["name"] == "anna")
    assert anna["role"] == "operator" and made["token"] not in json.dumps(listed)
    assert said(typed("tokens", "revoke", str(anna["id"]), "--json")) == {"id": anna["id"], "revoked": True}
    assert typed("devices", "--token", made["token"]).exit_code == 3
    assert typed("tokens", "create", "bob", "--role", "king").exit_code == 2
    assert "anna" in typed("tokens", "list").stdout


def test_releases_and_events(typed: Typed) -> None:
    releases = said(typed("releases", "detector", "--json"))["releases"]
    assert {each["version"] for each in releases} == {"1.0.0", "1.1.0"}
    assert "1.1.0" in typed("releases").stdout
    assert typed("events", "--device", "store-001").exit_code == 0


def test_an_audit_log_that_was_changed_is_found(typed: Typed, site: Site) -> None:
    assert "The audit log is whole." in typed("audit", "--verify").stdout
    with site.manager.database.begin() as tx:
        kept = tx.execute(audit.select().where(audit.c.n == 2)).one()
        tx.execute(update(audit).where(audit.c.n == 2).values(detail="nothing to see"))
    assert said(typed("audit", "--verify", "--json"), 8) == {"ok": False, "broken_at": 2}
    with site.manager.database.begin() as tx:
        tx.execute(update(audit).where(audit.c.n == 2).values(detail=kept.detail))


def test_login_keeps_a_token_for_its_owner_only(site: Site, url: str, home: Path) -> None:
    token = site.tokens["viewer"]
    result = CliRunner().invoke(app, ["login", url], input=f"{token}\n")
    assert result.exit_code == 0, result.output
    assert token not in result.output
    path = settings_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert find_connection(None, None, None) == Connection(url, token)
    assert CliRunner().invoke(app, ["devices"]).exit_code == 0
    # What was kept for one manager is not sent to another.
    with pytest.raises(ConfigError, match="no token for"):
        find_connection("https://other.example", None, None)


def test_a_token_that_is_not_good_is_not_kept(url: str, home: Path) -> None:
    assert CliRunner().invoke(app, ["login", url, "--token", "fleet_wrong"]).exit_code == 3
    assert not settings_file().exists()


def test_the_kept_file_is_replaced_whole(home: Path) -> None:
    first = Connection("https://fleet.example", "one", home / "ca.crt")
    store(first)
    assert find_connection(None, None, None) == first
    store(replace(first, token="two"))
    assert find_connection(None, None, None).token == "two"
    settings_file().write_text("- no\n- mapping\n")
    with pytest.raises(ConfigError, match="Log in again"):
        find_connection(None, None, None)


@pytest.mark.parametrize(
    "url", ["http://fleet.example", "ftp://fleet.example", "fleet.example", "https://", ""]
)
def test_urls_that_are_not_taken(url: str, home: Path) -> None:
    with pytest.raises(ConfigError):
        find_connection(url, "token", None)


def test_certificates_that_are_none(home: Path) -> None:
    (home / "ca.crt").write_text("no certificate")
    with pytest.raises(ConfigError, match="certificates in PEM"):
        Manager(Connection("https://fleet.example", "token", home / "ca.crt"))


def test_an_answer_of_something_else(site: Site, url: str) -> None:
    viewer = Connection(url, site.tokens["viewer"])
    with Manager(viewer) as manager, pytest.raises(RemoteError, match="Use the same version"):
        manager.get("/v1/overview", dict[str, int])
