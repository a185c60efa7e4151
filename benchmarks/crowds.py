"""Crowds for the tracking benchmark: people who walk, stop, turn, meet and hide each other, and are detected.

Synthetic and seeded. Tracks nothing and measures nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

HEIGHT, WIDTH = 1080, 1920


@dataclass(frozen=True)
class Crowd:
    """One scene to be made: how many people, how well they are seen, how often one looks."""

    people: int
    fps: float
    weak: bool
    dropped: float = 0.0
    seconds: float = 40.0

    def __str__(self) -> str:
        detector = "weak" if self.weak else "good"
        dropped = f", {self.dropped:.0%} dropped" if self.dropped else ""
        return f"{self.people} people, {self.fps:g} fps, {detector} detector{dropped}"


CROWDS = tuple(
    Crowd(people, fps, weak, dropped)
    for people, weak in ((8, False), (8, True), (25, False), (25, True))
    for fps, dropped in ((25.0, 0.0), (10.0, 0.0), (10.0, 0.3), (5.0, 0.0))
)


@dataclass(frozen=True)
class Look:
    """One frame: the truth and what the detector said of it. Boxes (n, 4) xyxy pixels."""

    pts_ns: int
    ids: np.ndarray
    truth: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


class Walkers:
    """People on a floor: x and foot y in pixels, heights growing towards the camera."""

    def __init__(self, count: int, dice: np.random.Generator) -> None:
        self.dice = dice
        self.next_id = count
        self.ids = np.arange(count)
        self.foot = np.column_stack([dice.uniform(0, WIDTH, count), dice.uniform(400, 1060, count)])
        self.heading = dice.uniform(0, 2 * np.pi, count)
        self.speed = np.abs(dice.normal(0.7, 0.2, count))  # own heights a second: 1.2 m/s
        self.walking = dice.random(count) < 0.8
        self.slim = dice.uniform(0.3, 0.45, count)
        self.friend = np.where(dice.random(count) < 0.3, np.roll(np.arange(count), 1), -1)

    def step(self, dt: float) -> None:
        count, dice = len(self.ids), self.dice
        self.heading += dice.normal(0, 0.8 * np.sqrt(dt), count)
        turns = dice.random(count) < 0.05 * dt
        self.heading[turns] += np.pi * dice.uniform(0.5, 1.5, turns.sum())
        self.walking ^= dice.random(count) < np.where(self.walking, 0.12, 0.4) * dt
        with_friend = self.friend >= 0
        self.heading[with_friend] = self.heading[self.friend[with_friend]]
        self.walking[with_friend] = self.walking[self.friend[with_friend]]
        pace = self.speed * self.heights() * self.walking * dt
        self.foot += np.column_stack([np.cos(self.heading), 0.4 * np.sin(self.heading)]) * pace[:, None]
        gone = (self.foot[:, 0] < -60) | (self.foot[:, 0] > WIDTH + 60)
        gone |= (self.foot[:, 1] < 380) | (self.foot[:, 1] > 1100)
        for i in np.flatnonzero(gone):  # somebody else comes in
            left = dice.random() < 0.5
            self.ids[i], self.next_id = self.next_id, self.next_id + 1
            self.foot[i] = (-50 if left else WIDTH + 50, dice.uniform(420, 1050))
            self.heading[i] = dice.normal(0 if left else np.pi, 0.4)
            self.walking[i] = True

    def heights(self) -> np.ndarray:
        return 70 + 250 * (self.foot[:, 1] - 380) / 700

    def boxes(self, seconds: float) -> np.ndarray:
        tall = self.heights()
        stride = 1 + 0.15 * np.sin(seconds * 10 + self.ids) * self.walking
        half = tall * self.slim * stride / 2
        x, y = self.foot.T
        return np.column_stack([x - half, y - tall, x + half, y])


def ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    inter, first, second = overlap(a, b)
    return inter / np.maximum(first[:, None] + second - inter, 1e-9)


def overlap(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    inter = np.prod(np.maximum(size, 0), axis=2)
    return inter, np.prod(a[:, 2:] - a[:, :2], axis=1), np.prod(b[:, 2:] - b[:, :2], axis=1)


def detect(
    truth: np.ndarray, drift: np.ndarray, weak: bool, ghosts: np.ndarray, dice: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """What a detector says: missed when hidden, jittered, cut where hidden, suppressed when doubled."""
    hidden, area, _ = overlap(truth, truth)
    nearer = truth[None, :, 3] > truth[:, None, 3]
    visible = np.clip(1 - (hidden * nearer).sum(axis=1) / area, 0, 1)
    recall = 0.82 if weak else 0.97
    seen = dice.random(len(truth)) < recall * np.clip((visible - 0.15) / 0.4, 0, 1)
    size = np.tile(truth[:, 2:] - truth[:, :2], 2)
    boxes = truth + size * (drift * 0.7 + dice.normal(0, 0.7, truth.shape)) * (0.04 if weak else 0.025)
    cut = (visible < 0.7) & (dice.random(len(truth)) < 0.5)
    boxes[cut, 3] -= (size[:, 1] * (1 - visible) * dice.uniform(0.3, 1, len(truth)))[cut]
    scores = dice.normal((0.25 + 0.35 * visible) if weak else (0.3 + 0.55 * visible), 0.1)
    boxes, scores = boxes[seen], scores[seen]
    flicker = ghosts[dice.random(len(ghosts)) < 0.25]
    count = dice.poisson(1.0 if weak else 0.4)
    corner = dice.uniform((0, 200), (WIDTH - 150, HEIGHT - 320), (count, 2))
    invented = np.column_stack([corner, corner + dice.uniform((30, 80), (120, 300), (count, 2))])
    boxes = np.concatenate([boxes, flicker + dice.normal(0, 2, flicker.shape), invented])
    scores = np.concatenate(
        [scores, dice.uniform(0.12, 0.5, len(flicker)), 0.1 + 0.5 * dice.beta(1, 3, count)]
    )
    scores = np.clip(scores, 0.05, 0.99)
    boxes = np.clip(boxes, 0, (WIDTH, HEIGHT, WIDTH, HEIGHT))
    kept: list[int] = []
    doubled = ious(boxes, boxes) > 0.6
    solid = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) > 100
    for i in np.argsort(-scores):
        if solid[i] and not doubled[i, kept].any():
            kept.append(int(i))
    return boxes[kept].astype(np.float32), scores[kept].astype(np.float32)


def looks(crowd: Crowd, seed: int) -> Iterator[Look]:
    dice = np.random.default_rng(
        [seed, crowd.people, int(crowd.fps * 10), crowd.weak, int(crowd.dropped * 100)]
    )
    walkers = Walkers(crowd.people, dice)
    corner = dice.uniform((0, 300), (WIDTH - 100, HEIGHT - 250), (3, 2))
    ghosts = np.column_stack([corner, corner + dice.uniform((40, 90), (90, 220), (3, 2))])
    fine = max(1, round(25 / crowd.fps))  # people move in steps of at most 40 ms
    drift: dict[int, np.ndarray] = {}
    for index in range(round(crowd.seconds * crowd.fps)):
        for _ in range(fine):
            walkers.step(1 / crowd.fps / fine)
        if dice.random() < crowd.dropped:
            continue
        truth = np.clip(walkers.boxes(index / crowd.fps), 0, (WIDTH, HEIGHT, WIDTH, HEIGHT))
        inside = np.prod(truth[:, 2:] - truth[:, :2], axis=1) > 400
        truth, ids = truth[inside], walkers.ids[inside].copy()
        fade = np.exp(-1 / crowd.fps / 0.4)
        drift = {
            i: fade * drift.get(i, np.zeros(4)) + np.sqrt(1 - fade**2) * dice.normal(0, 1, 4)
            for i in ids.tolist()
        }
        stacked = np.array([drift[i] for i in ids.tolist()]).reshape(-1, 4)
        boxes, scores = detect(truth, stacked, crowd.weak, ghosts, dice)
        yield Look(round(index / crowd.fps * 1e9), ids, truth, boxes, scores)
