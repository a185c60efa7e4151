"""Disks that fill up, and writers that are killed: the old bundle or the new one, never half of one."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from converters.bundle.archive import pack
from edge_runtime.archive import unpack
from edge_runtime.bundle import open_bundle, unlisted
from edge_runtime.contract.errors import StorageError
from tests.simulators.bundles import content, small_bundle

PRELUDE = """
import resource, sys
from pathlib import Path
from converters.bundle.archive import pack
from converters.bundle.oci import write_layout
from edge_runtime.archive import unpack
from edge_runtime.contract.bundle import Format
from edge_runtime.contract.errors import StorageError
from tests.simulators.bundles import built, small_bundle

def big(steps, fill):
    return [built(steps, f"onnx-{n}", Format.ONNX, model=bytes([fill]) * 400_000) for n in range(4)]
"""


def start(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_a_killed_writer_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """One process replaces a bundle again and again and is killed, each time at another moment."""
    target = tmp_path / "shop"
    small_bundle(target, tmp_path / "steps")
    code = """
    target, steps = Path(sys.argv[1]), Path(sys.argv[2])
    number = 1
    while True:
        small_bundle(target, steps, version=f"{number}.0.0", variants=big(steps, number % 250))
        print(number, flush=True)
        number += 1
    """
    versions: set[str] = set()
    for moment_s in (0.0, 0.004, 0.011, 0.017, 0.023):
        child = start(code, target, tmp_path / f"steps{moment_s}")
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        try:
            child.wait(moment_s)
        except subprocess.TimeoutExpired:
            child.kill()
        child.communicate()
        bundle = open_bundle(target)
        assert unlisted(bundle) == []
        versions.add(bundle.manifest.version)
    assert versions
    small_bundle(target, tmp_path / "steps", version="last")
    assert open_bundle(target).manifest.version == "last"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".shop")] == []


STEPS = ("before the rename", "after the rename")


@pytest.mark.parametrize("when", STEPS)
def test_killed_at_the_rename(tmp_path: Path, when: str) -> None:
    target = tmp_path / "shop"
    small_bundle(target, tmp_path / "steps")
    code = """
    import os
    from edge_runtime import atomic
    put = atomic._put
    def killed(part, target, old):
        if sys.argv[3] == "after the rename":
            put(part, target, old)
        os.kill(os.getpid(), 9)
    atomic._put = killed
    small_bundle(Path(sys.argv[1]), Path(sys.argv[2]), version="2.0.0", variants=big(Path(sys.argv[2]), 7))
    """
    child = start(code, target, tmp_path / "other", when)
    child.communicate()
    assert child.returncode == -9
    assert open_bundle(target).manifest.version == ("1.2.3" if when == STEPS[0] else "2.0.0")
    left = [path for path in tmp_path.iterdir() if path.name.startswith(".shop")]
    assert len(left) == 1
    small_bundle(target, tmp_path / "steps", version="3.0.0")
    assert open_bundle(target).manifest.version == "3.0.0"
    assert not left[0].exists()


def test_a_full_disk_leaves_the_old_bundle_and_says_so(tmp_path: Path) -> None:
    target = tmp_path / "shop"
    before = small_bundle(target, tmp_path / "steps")
    pack(before.root, tmp_path / "shop.zip")
    old = content(target)
    code = """
    place = Path(sys.argv[1])
    variants = big(place / "more", 1)
    small_bundle(place / "large", place / "more", variants=variants)
    pack(place / "large", place / "large.zip")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    for work in (
        lambda: small_bundle(place / "shop", place / "more", version="2.0.0", variants=variants),
        lambda: pack(place / "large", place / "shop.zip"),
        lambda: write_layout(place / "large", place / "layout"),
        lambda: unpack(place / "large.zip", place / "back"),
    ):
        try:
            work()
        except StorageError as error:
            print(error)
    """
    child = start(code, tmp_path)
    out, err = child.communicate()
    assert child.returncode == 0, err
    assert len(out.splitlines()) == 4
    assert all("cannot be written: got File too large" in line for line in out.splitlines())
    assert all("Free the disk" in line for line in out.splitlines())
    assert content(target) == old
    unpack(tmp_path / "shop.zip", tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "large",
        "large.zip",
        "more",
        "shop",
        "shop.zip",
        "steps",
        "whole",
    ]


def test_a_read_only_place_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"/proc/shop: cannot be written.*allow this user to write"):
        small_bundle(Path("/proc/shop"), tmp_path / "steps")
