"""Where an object is expected: a Kalman filter for all boxes at once, in real time steps.

The centre moves at a nearly constant velocity (continuous white-noise acceleration: Bar-Shalom, Li and
Kirubarajan, "Estimation with Applications to Tracking and Navigation", 2001, section 6.2.2) that fades while
nobody sees the object; the size wanders.
Both axes have the same noise, so one 2×2 covariance serves x and y, and everything is plain arithmetic on
arrays. Noises are in units of the object's own size: near and far objects behave alike.

Knows no identities and matches nothing; `edge_runtime.analytics.tracker` does.
"""

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

States: TypeAlias = NDArray[np.float64]
"""(10, n): centre x, y; width, height; velocity x, y a second; variance of the centre, its covariance with
the velocity, variance of the velocity, variance of the size."""

CENTRE, SIZE, SHAPE, SPEED = slice(0, 2), slice(2, 4), slice(0, 4), slice(4, 6)
VAR, COV, SPEED_VAR, SIZE_VAR = 6, 7, 8, 9
ROWS = 10

# Shares of the object's mean side; those of a second are for a walking person (1.7 m high, ~1.1 m mean side).
# Chosen on the crowds of benchmarks/tracking.py and on the shipped clip; the neighbourhood is flat.
MEASURED = 0.07
"""Standard deviation of a detected centre or size."""
FIRST_SPEED = 1.2
"""Standard deviation of the velocity of an object just found, a second: 1.4 m/s."""
ACCELERATION = 0.7
"""Square root of the spectral density of the acceleration, a second^1.5."""
SPEED_FADES_S = 3.0
"""Time constant with which an expected velocity fades: who is hidden may have stopped."""
WANDER = 0.2
"""Growth of the size's standard deviation, a square root of a second."""


def first_states(shapes: States) -> States:
    """Begin objects that stand still as far as one knows.

    Args:
        shapes: (4, n) centre x, y, width, height.
    """
    states = np.zeros((ROWS, shapes.shape[1]))
    states[SHAPE] = shapes
    scale = _variance_unit(states)
    states[VAR] = states[SIZE_VAR] = MEASURED**2 * scale
    states[SPEED_VAR] = FIRST_SPEED**2 * scale
    return states


def corners(states: States) -> States:
    """Give the boxes of all objects: (4, n) x1, y1, x2, y2."""
    half = states[SIZE] / 2
    return np.concatenate((states[CENTRE] - half, states[CENTRE] + half))


def predict(states: States, seconds: float) -> None:
    """Move all objects on by a time, in place; they become less certain as it grows."""
    scale = _variance_unit(states)
    noise = (ACCELERATION**2 * seconds) * scale
    speed_var = states[SPEED_VAR]
    states[CENTRE] += seconds * states[SPEED]
    states[VAR] += seconds * (2 * states[COV] + seconds * (speed_var + noise / 3))
    states[COV] += seconds * (speed_var + noise / 2)
    speed_var += noise
    states[SIZE_VAR] += (WANDER**2 * seconds) * scale
    states[SPEED] *= math.exp(-seconds / SPEED_FADES_S)


def correct(states: States, shapes: States, seen: NDArray[np.bool_]) -> None:
    """Take in what was measured, in place.

    Args:
        states: Of all objects.
        shapes: (4, n) centre x, y, width, height; anything where `seen` is False.
        seen: (n,) which objects were measured.
    """
    noise = MEASURED**2 * _variance_unit(states)
    gain = seen / (states[VAR] + noise)
    speed_gain = gain * states[COV]
    gain *= states[VAR]
    size_gain = seen * states[SIZE_VAR] / (states[SIZE_VAR] + noise)
    surprise = shapes - states[SHAPE]
    states[SPEED] += speed_gain * surprise[CENTRE]
    states[CENTRE] += gain * surprise[CENTRE]
    states[SIZE] += size_gain * surprise[SIZE]
    states[SPEED_VAR] -= speed_gain * states[COV]
    states[COV] *= 1 - gain
    states[VAR] *= 1 - gain
    states[SIZE_VAR] *= 1 - size_gain


def rescale(states: States, x: float, y: float) -> None:
    """Bring all objects into another unit of length, in place; variances, which both axes share, by the mean.

    Args:
        states: Of all objects.
        x: New unit of width over old.
        y: The same of height.
    """
    for rows in (CENTRE, SIZE, SPEED):
        states[rows] *= [[x], [y]]
    states[VAR:] *= x * y


def _variance_unit(states: States) -> States:
    side = np.maximum((states[2] + states[3]) / 2, 1.0)  # an empty box still has an uncertainty
    return side * side
