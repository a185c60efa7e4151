"""Metadata over all histories and all damage: an honest manager is believed, and a changed byte never is."""

import tempfile
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_fallback.fleet.trust.repository import Repository
from edge_runtime.contract.fleet import Kind
from edge_runtime.contract.trust import (
    Place,
    family_of,
    patch_path,
    place_of,
    release_path,
    revert_path,
    role_of,
)
from edge_runtime.contract.update import Failure, UpdateFailedError
from edge_runtime.update.metadata import TufMetadata
from edge_runtime.update.record import Trusted
from tests.simulators.trust import NOW_S, Fleet, body

KINDS = st.sampled_from(["model", "settings", "labels"])
NAMES = st.from_regex(r"\A[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?\Z")
COUNTERS = st.integers(1, 2**53 - 1)
VERSIONS = st.from_regex(r"\A[0-9A-Za-z][0-9A-Za-z.+-]{0,20}\Z")


def looking(files: dict[str, bytes], folder: Path) -> TufMetadata:
    """Give a device whose server has exactly these files."""

    def answer(request: httpx.Request) -> httpx.Response:
        content = files.get(request.url.path.removeprefix("/tuf/"))
        if content is None:
            return httpx.Response(404)
        return httpx.Response(200, stream=httpx.ByteStream(content))

    return TufMetadata(
        folder,
        "https://manager.test/tuf",
        lambda: httpx.AsyncClient(transport=httpx.MockTransport(answer)),
    )


def device_folder(fleet: Fleet, folder: str) -> Path:
    Path(folder, "root.json").write_bytes(fleet.first.root)
    return Path(folder)


@given(KINDS, NAMES, COUNTERS, VERSIONS)
def test_paths_are_read_as_they_are_written(kind: Kind, name: str, counter: int, version: str) -> None:
    release = release_path(kind, name, counter, version)
    assert place_of(release) == Place(kind, name, counter, version)
    assert place_of(revert_path(kind, name, counter)) == Place(kind, name, counter, None)
    assert place_of(patch_path(release, "ab" * 32)) is None
    assert family_of(role_of(kind, name)) == (kind, name)


@given(st.text(max_size=40))
def test_any_text_is_a_path_or_is_not(text: str) -> None:
    place = place_of(text)
    if place is not None:
        again = (
            revert_path(place.kind, place.name, place.counter)
            if place.version is None
            else release_path(place.kind, place.name, place.counter, place.version)
        )
        assert again == text


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["release", "revert", "refresh", "restart"]),
        st.integers(-3, 5) | st.just(200_000),
    ),
    max_size=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_an_honest_manager_is_always_believed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Whatever happens, and though its clock goes back by seconds now and then."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    first = fleet.release(1)
    with tempfile.TemporaryDirectory() as folder:
        place = device_folder(fleet, folder)
        for step, seconds in steps:
            fleet.now_s += seconds
            counter = fleet.repository.next_counter("labels", "detector")
            if step == "restart":
                fleet.repository = Repository(fleet.store, [fleet.online])
            fleet.repository.refresh(fleet.now_s, anyway=step == "refresh")
            path, content = first, body(1)
            if step == "release":
                path, content = fleet.release(counter), body(counter)
            elif step == "revert":
                path = fleet.repository.revert("labels", "detector", first, counter, fleet.now_s)
            wanted = fleet.wanted(path, counter, content)
            trusted = looking(dict(fleet.store.files), place).look_up(wanted, fleet.now_s)
            assert trusted.counter == (1 if path == first else counter)
            assert trusted.sha256 == wanted.sha256


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fleet, str, Trusted]:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    one = fleet.release(1, patch_from="cd" * 32)
    fleet.release(2)
    path = fleet.repository.revert("labels", "detector", one, 3, NOW_S)
    folder = device_folder(fleet, str(tmp_path_factory.mktemp("device")))
    wanted = fleet.wanted(path, 3, body(1))
    return fleet, path, looking(dict(fleet.store.files), folder).look_up(wanted, NOW_S)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_changed_byte_changes_what_is_believed(
    served: tuple[Fleet, str, Trusted], data: st.DataObject
) -> None:
    fleet, path, honest = served
    files = dict(fleet.store.files)
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    how = data.draw(st.sampled_from(["flip", "cut", "other"]))
    if how == "flip":
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content = bytearray(files[data.draw(st.sampled_from(sorted(files)))])
    files[name] = bytes(content)
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = looking(files, device_folder(fleet, folder)).look_up(
                fleet.wanted(path, 3, body(1)), NOW_S
            )
        except UpdateFailedError as error:
            assert error.code in {
                Failure.METADATA_REPLAY,
                Failure.METADATA_MIX_AND_MATCH,
                Failure.METADATA_SIGNATURE,
                Failure.METADATA_MALFORMED,
                Failure.METADATA_UNREACHABLE,
                Failure.TARGET_UNKNOWN,
            }
        else:
            assert found == honest
