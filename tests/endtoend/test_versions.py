"""An agent with real cameras and requests takes versions: good ones without a loss, bad ones not at all."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from converters.bundle.sign import make_keys
from edge_runtime.cli.run import start
from edge_runtime.contract.fleet import Trial
from edge_runtime.contract.frame import Picture
from edge_runtime.contract.status import CameraState
from edge_runtime.contract.update import Failure, State
from edge_runtime.local_model import find_bundle
from edge_runtime.runtime.client import connect
from edge_runtime.settings import load_settings
from edge_runtime.tasks.sample_input import sample_input
from tests.simulators.broker import wait_until
from tests.simulators.store_in_fleet import STORE, Store, lost
from tests.simulators.versions import (
    CLIP,
    NAME,
    QUICK,
    Load,
    detector,
    known_labels,
    onnx_version,
    shipped,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path).start()
    store.wait_for_frames()
    yield store
    if store.agent is not None:
        store.close()


def test_cameras_and_requests_go_on_with_a_new_version_and_after_a_restart(store: Store) -> None:
    have = store.member.take(store.manager.wants("model", NAME, shipped("2.0.0")))
    assert (have.state, have.code, have.version) == (State.COMMITTED, None, "1.0.0")
    assert store.version() == "2.0.0"
    store.wait_for_frames()
    requests = store.running.status().requests
    assert requests is not None
    with connect(requests.door) as client:
        answer = client.predict("people", _picture(), timeout_s=30)
    assert answer.version == "2.0.0"
    status = store.running.status()
    assert lost(status) == {"door": 0, "till": 0}
    assert [each.state for each in status.cameras] == [CameraState.ONLINE] * 2
    store.close()
    store.start()
    assert store.version() == "2.0.0"
    have = store.member.take(store.manager.wants_none("model", NAME))
    assert (have.state, have.version) == (State.IDLE, None)
    assert store.version() == "1.0.0", "what the device was installed with"
    store.wait_for_frames()
    assert lost(store.running.status()) == {"door": 0, "till": 0}


def test_no_request_and_no_frame_is_lost_in_twenty_swaps(store: Store) -> None:
    requests = store.running.status().requests
    assert requests is not None
    picture = _picture()
    with (
        connect(requests.door) as client,
        Load(lambda: client.predict("people", picture, timeout_s=60)) as load,
    ):
        for number in range(20):
            store.commit(onnx_version(f"3.0.{number}", detector(0.5 + number / 100)), number)
            store.running.adopt(NAME)
            known = len(load.answers)
            wait_until(lambda known=known: len(load.answers) > known + 2 or bool(load.failures), 60)
    assert load.failures == []
    versions = {answer.version for answer in load.answers}
    assert {"1.0.0", *(f"3.0.{number}" for number in range(20))} <= versions
    assert lost(store.running.status()) == {"door": 0, "till": 0}


NAN = detector(float("nan"))


@pytest.mark.parametrize(
    ("make", "needs", "code"),
    [
        (lambda: onnx_version("2.0.0", NAN), QUICK, Failure.NOT_A_NUMBER),
        (lambda: onnx_version("2.0.0", b"no model at all"), QUICK, Failure.OPEN_FAILED),
        (lambda: onnx_version("2.0.0", detector(0.9, work=60)), Trial(shadow_s=0.2), Failure.TOO_SLOW),
        (
            lambda: onnx_version("2.0.0", detector(0.9)),
            QUICK.model_copy(update={"min_agreement": 0.9, "shadow_s": 3.0}),
            Failure.SHADOW_DISAGREES,
        ),
        (
            lambda: shipped("2.0.0", tuple(f"thing {each}" for each in range(90))),
            QUICK,
            Failure.CONFIG_INVALID,
        ),
    ],
    ids=["not a number", "no model", "slow", "sees something else", "other labels"],
)  # fmt: skip
def test_a_bad_version_is_rolled_back_and_said(
    make: Callable[[], bytes], needs: Trial, code: Failure, store: Store
) -> None:
    have = store.member.take(store.manager.wants("model", NAME, make(), needs))
    assert (have.state, have.code) == (State.ROLLED_BACK, code), have.detail
    assert have.detail
    assert store.version() == "1.0.0"
    store.wait_for_frames()
    assert lost(store.running.status()) == {"door": 0, "till": 0}


def test_labels_take_the_place_of_a_bundles_own(store: Store) -> None:
    labels = [f"{each} 2" if each == "car" else each for each in known_labels()]
    have = store.member.take(store.manager.wants("labels", NAME, "\n".join(labels).encode()))
    assert (have.state, have.detail) == (State.COMMITTED, "")
    incumbent = store.running.adoption.incumbent("people")
    assert incumbent is not None
    assert "car 2" in incumbent.bundle.manifest.task.model_dump()["labels"]
    have = store.member.take(store.manager.wants("labels", NAME, b"person\ncar\n"))
    assert (have.state, have.code) == (State.ROLLED_BACK, Failure.CONFIG_INVALID)
    assert "of them, as the bundle has, got 2" in have.detail
    store.member.take(store.manager.wants_none("labels", NAME))
    incumbent = store.running.adoption.incumbent("people")
    assert incumbent is not None
    assert "car" in incumbent.bundle.manifest.task.model_dump()["labels"]


SENT = """\
version: 1
models:
  people: {bundle: efficientdet-lite0, min_score: 0.35, labels: [person]}
cameras:
  door: {source: %s, model: people, loop: true, fps: 5}
  yard: {source: %s, model: people, loop: true, fps: 5}
door: {port: 0}
"""


def test_settings_are_checked_and_only_what_changed_is_started_again(store: Store) -> None:
    sent = (SENT % (CLIP, CLIP)).encode()
    read = next(each.decoded for each in store.running.status().cameras if each.name == "door")
    have = store.member.take(store.manager.wants("settings", "agent", sent))
    assert (have.state, have.detail) == (State.COMMITTED, "")
    cameras = {each.name: each for each in store.running.status().cameras}
    assert set(cameras) == {"door", "yard"}
    assert cameras["door"].decoded >= read, "it went on"
    store.close()
    assert set(load_settings(store.yaml).cameras) == {"door", "yard"}
    store.start()
    assert {each.name for each in store.running.status().cameras} == {"door", "yard"}
    store.member.take(store.manager.wants_none("settings", "agent"))
    assert {each.name for each in store.running.status().cameras} == {"door", "till"}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"version: 1\n", "models: is missing"),
        ((SENT % (CLIP, CLIP)).replace("fps: 5}\n  yard", "fsp: 5}\n  yard").encode(), "Did you mean 'fps'"),
        ((SENT % (CLIP, CLIP) + "site: other\n").encode(), "site: is the device's own"),
        ((SENT % (CLIP, CLIP) + "fleet: {folder: x}\n").encode(), "fleet: is the device's own"),
        ((SENT % (CLIP, CLIP)).replace("[person]", "[cat food]").encode(), ""),
    ],
    ids=["missing", "unknown", "site", "fleet", "later"],
)  # fmt: skip
def test_wrong_settings_change_nothing(sent: bytes, said: str, store: Store) -> None:
    have = store.member.take(store.manager.wants("settings", "agent", sent))
    if said:
        assert (have.state, have.code) == (State.REJECTED, Failure.CONFIG_INVALID)
        assert said in have.detail
    assert {each.name for each in store.running.status().cameras} >= {"door"}
    store.wait_for_frames()


def test_an_unsigned_bundle_is_refused_where_signatures_are_asked_for(tmp_path: Path) -> None:
    author, stranger = (make_keys(tmp_path / f"{name}.pem").private for name in ("author", "stranger"))
    store = Store(tmp_path, STORE % (CLIP, CLIP) + "bundles: {trusted: [author.pem.pub]}\n").start()
    assert store.version() == "1.0.0", "what is shipped with the program needs no signature"
    for signer, state in ((None, State.REJECTED), (stranger, State.REJECTED), (author, State.COMMITTED)):
        have = store.member.take(store.manager.wants("model", NAME, shipped("2.0.0", signer=signer)))
        assert (have.state, have.code) == (
            state,
            None if state is State.COMMITTED else Failure.SIGNATURE,
        )
    assert store.version() == "2.0.0"
    store.close()


def test_what_takes_a_restart_gets_one_and_what_does_not_start_is_not_used(tmp_path: Path) -> None:
    store = Store(tmp_path).start()
    sent = SENT % (CLIP, CLIP) + "sinks: [{type: jsonl, path: sent.jsonl}]\n"
    have = store.member.take(store.manager.wants("settings", "agent", sent.encode()))
    assert (have.state, have.detail) == (State.COMMITTED, "")
    assert store.running.wants_restart
    assert store.running.status().later == ("sinks",)
    store.running.run(threading.Event())
    again = start(load_settings(store.yaml), store.yaml, join=store.join)
    assert [each.name for each in again.status().sinks] == ["jsonl sent.jsonl"]
    again.close()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "bundle.json").write_text("{}")
    hopeless = sent.replace("efficientdet-lite0", "broken").replace("door: {port: 0}", "")
    (tmp_path / "fleet/updates/slots/settings/agent/A/store.yaml").write_text(hopeless)
    alone = start(load_settings(store.yaml), store.yaml, join=store.join)
    status = alone.close()
    assert {each.name for each in status.cameras} == {"door", "till"}
    assert "settings of the fleet do not start" in status.trouble


def _picture() -> Picture:
    spec = find_bundle(NAME).manifest.task
    picture = sample_input(spec, ())
    assert isinstance(picture, Picture)
    return picture
