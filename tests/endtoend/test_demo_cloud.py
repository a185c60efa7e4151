"""`make demo-cloud`: a device and its cloud as processes; the story it tells is what happened."""

import re
import subprocess
import sys
from pathlib import Path

from cloud_fallback.demo import PICTURES


def test_the_cloud_goes_away_and_gets_what_it_is_owed(tmp_path: Path) -> None:
    for _ in range(2):  # what the first one left is in nobody's way
        done = subprocess.run(
            (sys.executable, "-m", "cloud_fallback.demo", "--out", str(tmp_path / "out")),
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        _, there, gone, back = re.split(r"^\d  The cloud is .*$", done.stdout, flags=re.MULTILINE)
        answered = f"{PICTURES} of {PICTURES} pictures answered"
        assert there.count(answered) == gone.count(answered) == 2
        assert "by cloud" in there and "by cloud" not in gone and "offline" in gone
        owed = re.search(r"(\d+) pictures are owed", gone)
        assert owed is not None and int(owed[1]) > 0
        assert f"{owed[1]} late answers" in back and "   0 pictures are owed" in back
    assert (tmp_path / "out" / "assistant.yaml").exists()
