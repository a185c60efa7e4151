"""The settings of requests: defaults, and what is refused with its place and its remedy."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.route import DataClass
from edge_runtime.routing.calibration import Goal, Sample, calibrate
from edge_runtime.routing.hardness import Rule
from edge_runtime.routing.policy import Mode, Return
from edge_runtime.routing.threshold_file import read_threshold, threshold_file, write_threshold
from edge_runtime.runtime.policies import policy_of
from edge_runtime.settings import AgentSettings, SettingsError, load_settings

Load = Callable[..., AgentSettings]
HEAD = "version: 1\nsite: s\n"
MODEL = "models: {m: {bundle: efficientdet-lite0%s}}\n"
CLOUD = 'cloud: {url: "https://models.example.com"%s}\n'


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def read(text: str, **environment: str) -> AgentSettings:
        path = tmp_path / "store.yaml"
        path.write_text(HEAD + text)
        return load_settings(path, environment)

    return read


def test_a_door_needs_no_camera_and_nothing_else(load: Load) -> None:
    settings = load(MODEL % "" + "door: {}\n")
    assert settings.door is not None
    assert (settings.door.host, settings.door.port, settings.door.token) == ("127.0.0.1", 8008, None)
    assert (settings.cloud, settings.memory_budget_mb) == (None, None)
    assert (settings.outbox.max_bytes, settings.outbox.max_age_h) == (268435456, 72)
    assert settings.models["m"].route.timeout_s == 5


def test_an_empty_token_of_the_environment_is_none(load: Load) -> None:
    door = load(MODEL % "" + 'door: {token: "${DOOR_TOKEN:-}"}\n').door
    assert door is not None
    assert door.token is None


def test_a_route_becomes_a_policy(load: Load) -> None:
    route = (
        ", route: {policy: cascade, threshold: 0.7, rule: detection, never_leave: [faces, video],"
        " hedge_after: p95, audit_rate: 0.01, return: local_now, min_interval_between_escalations_s: 2}"
    )
    settings = load(MODEL % route + "door: {}\n" + CLOUD % "")
    policy, file = policy_of("m", settings.models["m"].route, has_cloud=True)
    assert file is None
    assert (policy.mode, policy.threshold, policy.rule) == (Mode.CASCADE, 0.7, Rule.DETECTION)
    assert policy.never_leave == {DataClass.FACES, DataClass.VIDEO}
    assert (policy.hedge_after, policy.audit_rate, policy.returns) == ("p95", 0.01, Return.LOCAL_NOW)
    assert policy.min_interval_s == 2


@pytest.mark.parametrize(("has_cloud", "mode"), [(True, Mode.LOCAL_FIRST), (False, Mode.LOCAL_ONLY)])
def test_the_usual_policy_depends_on_the_cloud(load: Load, has_cloud: bool, mode: Mode) -> None:
    route = load(MODEL % "" + "door: {}\n").models["m"].route
    assert policy_of("m", route, has_cloud=has_cloud)[0].mode is mode


def test_a_model_may_be_in_the_cloud_only(load: Load) -> None:
    settings = load("models: {m: {route: {policy: cloud_only}}}\ndoor: {}\n" + CLOUD % "")
    assert not settings.models["m"].here


REFUSED = {
    "nothing to do": (MODEL % "", "cameras: is missing. Add it, or a `door`"),
    "an open door": (
        MODEL % "" + "door: {host: 0.0.0.0}\n",
        "`token` is missing, and 0.0.0.0 can be reached",
    ),
    "a token in the clear": (
        MODEL % "" + 'door: {}\ncloud: {url: "http://models.example.com", token: x}\n',
        "must not cross a network unencrypted",
    ),
    "certificates in the clear": (
        MODEL % "" + 'door: {}\ncloud: {url: "http://127.0.0.1", ca_file: x}\n',
        "certificates with a plain http address",
    ),
    "half a certificate": (
        MODEL % "" + "door: {}\n" + CLOUD % ", cert_file: x",
        "`cert_file` and `key_file`",
    ),
    "credentials in the address": (
        MODEL % "" + 'door: {}\ncloud: {url: "https://me:hunter2@models.example.com"}\n',
        "credentials or a query",
    ),
    "no address": (MODEL % "" + "door: {}\ncloud: {url: models}\n", r"expected https://host"),
    "a route without a cloud": (
        MODEL % ", route: {policy: cascade}" + "door: {}\n",
        "cascade needs a `cloud`",
    ),
    "audits of nobody": (
        MODEL % ", route: {policy: local_only, audit_rate: 0.1}" + "door: {}\n" + CLOUD % "",
        "nothing to compare",
    ),
    "two thresholds": (
        MODEL % ", route: {policy: cascade, threshold: 0.5, threshold_file: x}" + "door: {}\n" + CLOUD % "",
        "both `threshold` and `threshold_file`",
    ),
    "a threshold of no cascade": (
        MODEL % ", route: {threshold_file: x}" + "door: {}\n" + CLOUD % "",
        "only a cascade has a threshold",
    ),
    "a camera on a cloud's model": (
        "models: {m: {route: {policy: cloud_only}}}\ncameras: {c: {source: a.mp4, model: m}}\n" + CLOUD % "",
        "'m' is in the cloud only",
    ),
    "no bundle": ("models: {m: {}}\ndoor: {}\n", "neither `bundle` nor `file`"),
    "a data class": (MODEL % ", route: {never_leave: [face]}" + "door: {}\n", "never_leave"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_said(load: Load, case: str) -> None:
    text, message = REFUSED[case]
    with pytest.raises(SettingsError, match=message) as caught:
        load(text)
    assert "hunter2" not in str(caught.value)


def test_a_token_is_never_shown(load: Load) -> None:
    with pytest.raises(SettingsError) as caught:
        load(MODEL % "" + "door: {token: [a-secret]}\n")
    assert "a-secret" not in str(caught.value)
    settings = load(MODEL % "" + "door: {token: a-secret}\n")
    assert "a-secret" not in repr(settings)


def samples() -> list[Sample]:
    return [Sample(n / 10, local_right=n > 4, cloud_right=True, agrees=n > 4) for n in range(10)]


def test_a_threshold_goes_to_its_file_and_back(load: Load, tmp_path: Path) -> None:
    found = calibrate(samples(), Goal(accuracy=1.0))
    path = tmp_path / "deep" / "threshold.json"
    write_threshold(path, threshold_file("m", Rule.SCORE, 0.5, found))
    route = "{policy: cascade, threshold_file: deep/threshold.json%s}"
    settings = load(MODEL % f", route: {route % ''}" + "door: {}\n" + CLOUD % "")
    policy, file = policy_of("m", settings.models["m"].route, has_cloud=True)
    assert policy.threshold == found.chosen.threshold
    assert file is not None
    assert file.disagreement == found.disagreement
    settings = load(MODEL % f", route: {route % ', rule: detection'}" + "door: {}\n" + CLOUD % "")
    with pytest.raises(ConfigError, match="expected a threshold of rule detection, got one of rule score"):
        policy_of("m", settings.models["m"].route, has_cloud=True)


@pytest.mark.parametrize("content", [None, "{}", "no JSON", '{"threshold": 2}'])
def test_a_threshold_file_that_is_none_is_said(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "threshold.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match="route calibrate"):
        read_threshold(path)
