"""What can be in the world: shapes, textures, motions, and the words for them.

Every motion is a function of ``direction · cycle``, where ``cycle`` starts at a uniform random phase and
grows by one over a clip. Its reverse is the same function run with the other direction. At every frame
index the two therefore have the same distribution of states: no single frame tells a pair apart, not even
the first. Back-and-forth motions spend three quarters of the cycle on the way that gives them their name
and one quarter on the way back; reversed in time, that is exactly the opposite motion.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
SPLITS: tuple[str, ...] = ("train", "val", "test")

SLOW_SHARE = 0.75
"""Share of a cycle that a back-and-forth motion spends on its slow way."""


def _disc(u: Array, v: Array) -> NDArray[np.bool_]:
    return u * u + v * v < 0.81


def _square(u: Array, v: Array) -> NDArray[np.bool_]:
    return np.maximum(np.abs(u), np.abs(v)) < 0.76


def _triangle(u: Array, v: Array) -> NDArray[np.bool_]:
    return np.maximum(v, np.abs(u) * np.float32(3**0.5 / 2) - v * np.float32(0.5)) < 0.49


def _star(u: Array, v: Array) -> NDArray[np.bool_]:
    """Five points at radius 0.99, notches at 0.42: fold the plane into one tenth, compare with one edge."""
    sector = np.float32(2 * np.pi / 5)
    angle = np.arctan2(u, -v)
    angle = np.abs(angle - sector * np.round(angle / sector))
    radius = np.sqrt(u * u + v * v)
    across, along = radius * np.sin(angle), radius * np.cos(angle)
    notch = 0.42 * np.exp(1j * np.pi / 5)  # the edge runs from the tip (0.99, 0) to this notch
    return across * (0.99 - notch.real) + along * notch.imag < 0.99 * notch.imag


def _ring(u: Array, v: Array) -> NDArray[np.bool_]:
    square = u * u + v * v
    return (square < 0.9) & (square > 0.23)


def _cross(u: Array, v: Array) -> NDArray[np.bool_]:
    long, short = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
    return (long < 0.93) & (short < 0.3)


def _heart(u: Array, v: Array) -> NDArray[np.bool_]:
    x, y = u * np.float32(1.3), np.float32(0.12) - v * np.float32(1.3)
    body = x * x + y * y - 1
    return body * body * body < x * x * y * y * y


def _crescent(u: Array, v: Array) -> NDArray[np.bool_]:
    shifted = u - np.float32(0.42)
    return (u * u + v * v < 0.9) & (shifted * shifted + v * v > 0.5)


SHAPES: dict[str, Callable[[Array, Array], NDArray[np.bool_]]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "heart": _heart,
    "crescent": _crescent,
}
"""Name → which points (u right, v down) of the object's plane belong to it; all lie in the unit disc."""

TEXTURES: dict[str, tuple[str, str]] = {
    "brick": ("brick.png", "brick"),
    "grass": ("grass.png", "grass"),
    "gravel": ("gravel.png", "gravel"),
    "coins": ("coins.png", "coins"),
    "tissue": ("ihc.png", "tissue"),
    "print": ("page.png", "print"),
    "stars": ("hubble_deep_field.jpg", "stars"),
    "handwriting": ("text.png", "handwriting"),
}
"""Name → photograph of scikit-image, and the word for captions."""

BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "train": ("coffee.png", "motorcycle_left.png", "chelsea.png"),
    "val": ("rocket.jpg", "moon.png"),
    "test": ("astronaut.png", "camera.png"),
}
"""Split → photographs; no photograph serves two splits."""


@dataclass(frozen=True)
class Motion:
    """One class of motion: which path, run in which direction, and how people say it."""

    path: str
    direction: int
    """+1 or -1; the reverse motion has the same path and the other sign."""
    verb: str
    gerund: str


MOTIONS: dict[str, Motion] = {
    "right": Motion("horizontal", 1, "drifts right and darts back", "drifting right and darting back"),
    "left": Motion("horizontal", -1, "drifts left and darts back", "drifting left and darting back"),
    "down": Motion("vertical", 1, "sinks down and jumps back", "sinking down and jumping back"),
    "up": Motion("vertical", -1, "rises up and drops back", "rising up and dropping back"),
    "closer": Motion("depth", 1, "comes closer and springs back", "coming closer and springing back"),
    "away": Motion("depth", -1, "moves away and springs back", "moving away and springing back"),
    "clockwise": Motion("turn", 1, "turns clockwise", "turning clockwise"),
    "counter-clockwise": Motion("turn", -1, "turns counter-clockwise", "turning counter-clockwise"),
    "orbit-clockwise": Motion("orbit", 1, "circles clockwise", "circling clockwise"),
    "orbit-counter-clockwise": Motion("orbit", -1, "circles counter-clockwise", "circling counter-clockwise"),
}

REVERSED: dict[str, str] = {
    name: next(n for n, m in MOTIONS.items() if m.path == motion.path and m.direction == -motion.direction)
    for name, motion in MOTIONS.items()
}
"""What each motion looks like when time runs backwards."""

CLASSES: dict[str, tuple[str, ...]] = {
    "shape": tuple(SHAPES),
    "texture": tuple(TEXTURES),
    "motion": tuple(MOTIONS),
}
"""Label name → class names in index order; all labels describe the main object."""


@dataclass(frozen=True)
class State:
    """Where a motion has brought an object: offsets that the scene scales and adds to its placement."""

    x: Array
    """(T,) rightward offset in units of the travel, -1..1."""
    y: Array
    """(T,) downward offset in units of the travel, -1..1."""
    nearness: Array
    """(T,) -1 (farthest) .. 1 (nearest)."""
    angle: Array
    """(T,) clockwise turn in radians."""


def back_and_forth(cycle: Array) -> Array:
    """A closed path in -1..1: rising during ``SLOW_SHARE`` of each cycle, falling during the rest."""
    phase = np.mod(cycle, 1.0)
    rising = 2 * phase / SLOW_SHARE - 1
    falling = 1 - 2 * (phase - SLOW_SHARE) / (1 - SLOW_SHARE)
    return np.where(phase < SLOW_SHARE, rising, falling)


def motion_state(name: str, cycle: Array) -> State:
    """The state of motion ``name`` at ``cycle`` (T,) float64, counted in turns of its closed path."""
    motion = MOTIONS[name]
    cycle = motion.direction * cycle
    still, turn = np.zeros_like(cycle), 2 * np.pi * cycle
    if motion.path == "horizontal":
        return State(back_and_forth(cycle), still, still, still)
    if motion.path == "vertical":
        return State(still, back_and_forth(cycle), still, still)
    if motion.path == "depth":
        return State(still, still, back_and_forth(cycle), still)
    if motion.path == "turn":
        return State(still, still, still, turn)
    return State(np.cos(turn), np.sin(turn), still, still)  # y points down, so a growing turn is clockwise


def captions(shape: str, texture: str, motion: str) -> list[str]:
    """Five ways to say what the clip shows; each names shape, texture and motion."""
    word, way = TEXTURES[texture][1], MOTIONS[motion]
    return [
        f"a {shape} covered in {word} {way.verb}",
        f"a clip of a {shape} with a texture of {word} that {way.verb}",
        f"{word} on a {shape}, {way.gerund}",
        f"the {shape} made of {word} {way.verb}",
        f"we see a {shape}, its surface {word}, {way.gerund}",
    ]
