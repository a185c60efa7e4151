"""A cascade on real texts: accuracy against the share sent to the cloud, calibrated against drawn by lot.

    .venv/bin/python benchmarks/cascade.py            # a table; draws docs/assets/cascade.svg with --write
    .venv/bin/python benchmarks/cascade.py --json     # and, last, one line with the goals

The small model of `examples/sentiment` answers on the device, its large one in the cloud. Thresholds are
chosen on one part of the tweets and judged on another that neither a model nor a threshold has seen. Nothing
is timed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "sentiment"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from build import BUNDLES, build
from tweets import Split, Tweet, load_tweets

from edge_runtime.bundle import open_bundle
from edge_runtime.contract.errors import ConfigError
from edge_runtime.contract.result import TextClassification
from edge_runtime.contract.route import Decision, Reason, Route
from edge_runtime.engines.base import EngineOptions
from edge_runtime.local_model import open_any_model, this_device
from edge_runtime.routing.calibration import Goal, Sample, calibrate
from edge_runtime.routing.hardness import Rule, measure, sureness

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "assets" / "cascade.svg"
RULES = (Rule.SCORE, Rule.MARGIN, Rule.ENTROPY)
GOALS = (Goal(share=0.05), Goal(share=0.1), Goal(share=0.2), Goal(share=0.4), Goal(accuracy=0.9))
CHOSEN = Decision(Route.LOCAL, Reason.FITS)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 64, 24, 20, 52
INK, CASCADE, LOT = "#667", "#00897b", "#c2185b"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a threshold does on texts that nobody has seen."""

    share: float
    accuracy: float
    by_lot: float


def answers(name: str, tweets: Sequence[Tweet]) -> list[TextClassification]:
    """Answer all texts with a bundle, as a device does."""
    model = open_any_model(
        open_bundle(BUNDLES / name), this_device("auto"), EngineOptions(threads=1), engine="onnxruntime"
    )
    try:
        return [model.predictor.predict(each.text) for each in tweets]
    finally:
        model.session.close()


def samples(
    rule: Rule, tweets: Sequence[Tweet], both: Sequence[Sequence[TextClassification]]
) -> list[Sample]:
    made = []
    for tweet, here, there in zip(tweets, *both, strict=True):
        answer = measure(here, float(here.scores[0]), CHOSEN)
        mine, theirs = int(here.classes[0]), int(there.classes[0])
        size = len(tweet.text.encode())
        sure = sureness(rule, 0.5, answer)
        made.append(Sample(sure, mine == tweet.label, theirs == tweet.label, mine == theirs, size))
    return made


def judge(held: Sequence[Sample], sent: Sequence[bool]) -> Figures:
    count, share = len(held), sum(sent) / len(held)
    local, cloud = (
        sum(each) / count for each in zip(*((s.local_right, s.cloud_right) for s in held), strict=True)
    )
    right = sum(s.cloud_right if goes else s.local_right for s, goes in zip(held, sent, strict=True))
    return Figures(share, right / count, local + share * (cloud - local))


def curve(held: Sequence[Sample]) -> list[Figures]:
    """A point for each hundredth of the texts, the least sure sent first."""
    order = sorted(range(len(held)), key=lambda i: held[i].sureness)
    points = []
    for percent in range(101):
        sent = set(order[: round(percent * len(held) / 100)])
        points.append(judge(held, [i in sent for i in range(len(held))]))
    return points


def draw(points: Sequence[Figures], chosen: Sequence[Figures]) -> str:
    """Draw accuracy against share sent."""
    values = [value for point in points for value in (point.accuracy, point.by_lot)]
    low, high = min(values) - 0.004, max(values) + 0.004

    def x(share: float) -> float:
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(accuracy: float) -> float:
        return round(HEIGHT - BOTTOM - (accuracy - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def path(pairs: Sequence[tuple[float, float]], colour: str) -> str:
        dots = " ".join(f"{x(a)},{y(b)}" for a, b in pairs)
        return f'<polyline points="{dots}" fill="none" stroke="{colour}" stroke-width="2.5"/>'

    def text(where: tuple[float, float], words: str, colour: str = INK, anchor: str = "middle") -> str:
        return f'<text x="{where[0]}" y="{where[1]}" fill="{colour}" text-anchor="{anchor}">{words}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="13">',
        "<title>Accuracy of the cascade against the share of texts sent to the cloud</title>",
    ]
    shares = (0, 0.2, 0.4, 0.6, 0.8, 1)
    parts += [text((x(share), HEIGHT - BOTTOM + 20), f"{share:.0%}") for share in shares]
    for step in range(int(low * 100) + 1, int(high * 100) + 1):
        line = f'<line x1="{x(0)}" x2="{x(1)}" y1="{y(step / 100)}" y2="{y(step / 100)}" stroke="{INK}"'
        parts += [
            f'{line} stroke-opacity=".25"/>',
            text((LEFT - 8, y(step / 100) + 4), f"{step}%", anchor="end"),
        ]
    parts.append(path([(p.share, p.by_lot) for p in points], LOT))
    parts.append(path([(p.share, p.accuracy) for p in points], CASCADE))
    parts += [f'<circle cx="{x(p.share)}" cy="{y(p.accuracy)}" r="5" fill="{CASCADE}"/>' for p in chosen]
    parts.append(text((WIDTH / 2, HEIGHT - 10), "share of the texts sent to the cloud"))
    parts.append(text((x(0.42), y(points[42].accuracy) + 34), "the least sure are sent", CASCADE))
    parts.append(text((x(0.72), y(points[60].by_lot) + 14), "as many, drawn by lot", LOT))
    return "\n".join([*parts, "</svg>"]) + "\n"


def report(as_json: bool, write: bool) -> bool:
    if not (BUNDLES / "sentiment-large").exists():
        build(BUNDLES)
    tweets = load_tweets()
    parts = {split: [t for t in tweets if t.split is split] for split in (Split.CALIBRATION, Split.TEST)}
    both = {
        split: [answers(f"sentiment-{name}", part) for name in ("small", "large")]
        for split, part in parts.items()
    }
    gains: dict[str, float] = {}
    for rule in RULES:
        held = samples(rule, parts[Split.TEST], both[Split.TEST])
        points = curve(held)
        gains[rule] = min(p.accuracy - p.by_lot for p in points[1:-1])
        if rule is Rule.SCORE:
            chosen = table(samples(rule, parts[Split.CALIBRATION], both[Split.CALIBRATION]), held, points)
            best = max(points, key=lambda point: point.accuracy)
            if write:
                PICTURE.write_text(draw(points, chosen), "utf-8")
        print(f"{rule}: least gain over the lot, from 1 % to 99 % sent: {gains[rule]:+.4f}")
    print(f"best: {best.accuracy:.4f} with {best.share:.0%} sent; all sent: {points[-1].accuracy:.4f}")
    goals = {
        "cascade_least_gain_over_lot": {
            "value": gains[Rule.SCORE],
            "goal": 0.0,
            "reached": gains[Rule.SCORE] > 0,
        }
    }
    if as_json:
        print(json.dumps({"goals": goals}))
    return all(goal["reached"] for goal in goals.values())


def table(calibration: Sequence[Sample], held: Sequence[Sample], points: Sequence[Figures]) -> list[Figures]:
    """Print what thresholds chosen on one part do on the other."""
    print(f"{len(calibration)} tweets to calibrate, {len(held)} to judge; small {points[0].accuracy:.4f}")
    print("| goal | threshold | sent | accuracy | by lot |\n|---|---|---|---|---|")
    chosen = []
    for goal in GOALS:
        name = f"at most {goal.share:.0%} sent" if goal.share is not None else f"accuracy {goal.accuracy:.0%}"
        try:
            threshold = calibrate(calibration, goal).chosen.threshold
        except ConfigError as error:
            print(f"| {name} | {error} | | | |")
            continue
        made = judge(held, [each.sureness < threshold for each in held])
        chosen.append(made)
        print(f"| {name} | {threshold:.3f} | {made.share:.1%} | {made.accuracy:.4f} | {made.by_lot:.4f} |")
    return chosen


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one line of JSON: the goals")
    parser.add_argument("--write", action="store_true", help=f"draw {PICTURE.name} into the documentation")
    options = parser.parse_args()
    sys.exit(0 if report(options.json, options.write) else 1)
