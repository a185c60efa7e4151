"""Whatever an archive holds: nothing lands outside the folder, and only a sound bundle inside."""

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from converters.bundle.archive import pack
from edge_runtime.archive import unpack, why_unsafe
from edge_runtime.contract.errors import BundleError
from tests.simulators.bundles import content, small_bundle

NAMES = st.text(st.sampled_from("ab./\\:\x00\n ~é"), max_size=12) | st.text(max_size=12)


@given(NAMES)
@example("..")
@example("a/../b")
@example("a/..\\b")
@example("/")
def test_a_name_that_passes_stays_inside(name: str) -> None:
    if why_unsafe(name) is not None:
        return
    place = PurePosixPath("/safe/place")
    joined = place / name
    assert joined.is_relative_to(place)
    assert joined != place
    assert ".." not in joined.parts
    assert str(joined) == f"/safe/place/{name}"
    assert not set(name) & set('\\:*?"<>|\n\0')


@dataclass(frozen=True, repr=False)
class Packed:
    files: dict[str, bytes]
    archive: bytes


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    folder = tmp_path_factory.mktemp("bundle")
    root = small_bundle(folder / "shop", folder / "steps").root
    pack(root, folder / "shop.zip", compress=True)
    return Packed(content(root), (folder / "shop.zip").read_bytes())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_archive_is_refused_or_unharmed(packed: Packed, data: st.DataObject) -> None:
    damaged = bytearray(packed.archive)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.just(len(damaged)) | st.integers(0, len(damaged)))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "shop.zip").write_bytes(bytes(damaged[:cut]))
        try:
            unpack(place / "shop.zip", place / "back")
        except BundleError as error:
            assert error.problem
            assert {path.name for path in place.iterdir()} == {"shop.zip"}
        else:
            assert content(place / "back") == packed.files


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=8), max_size=3))
def test_files_that_are_added_never_come_out(packed: Packed, more: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "deep" / "place"
        place.mkdir(parents=True)
        (place / "shop.zip").write_bytes(packed.archive)
        with zipfile.ZipFile(place / "shop.zip", "a") as archive:
            for name, body in more.items():
                info = zipfile.ZipInfo("x")
                info.filename = name
                try:
                    archive.writestr(info, body)
                except UnicodeEncodeError:  # a lone surrogate, which no archive can hold
                    return
        try:
            unpack(place / "shop.zip", place / "back")
        except BundleError:
            assert {path.name for path in place.iterdir()} == {"shop.zip"}
        else:
            assert content(place / "back") == packed.files
        assert {path.name for path in Path(folder).iterdir()} == {"deep"}
