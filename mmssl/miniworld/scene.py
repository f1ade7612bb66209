"""A scene: what is where at every frame. Drawn from (seed, split, index); geometry only, no rendering.

World axes are those of the left camera in the middle of the clip: x right, y down, z forward, in metres.
"""

import zlib
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray
from pydantic import Field

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.miniworld.photographs import MARGIN, Pixels, draw_background, draw_sprite, soften
from mmssl.miniworld.vocabulary import CLASSES, MOTIONS, REVERSED, SPLITS, motion_state

Matrix = NDArray[np.floating]

FOCAL = 1.0
"""Focal length in image widths: a field of view of 53 degrees."""
BASELINE = 0.15
"""Distance between the two cameras in metres."""


Radius = Annotated[float, Field(gt=0, le=0.5)]


class MiniworldConfig(Config):
    """What a miniworld looks like; together with a split and an index it decides every byte of a clip."""

    size: Annotated[int, Field(ge=32, le=512, multiple_of=2)] = 128
    """Height and width of a frame in pixels."""
    frames: Annotated[int, Field(ge=2, le=256)] = 16
    """Frames in a clip; a motion makes one cycle in a clip, however many frames show it."""
    fps: Annotated[float, Field(gt=0)] = 8.0
    """Frames a second."""
    distractors: Annotated[int, Field(ge=0, le=2)] = 1
    """Smaller unlabelled objects behind the main one."""
    radius: tuple[Radius, Radius] = (0.2, 0.26)
    """Range of the main object's radius, in image widths."""
    defocus: Annotated[float, Field(ge=0, le=0.1)] = 0.0
    """Blur of the background: standard deviation in image widths; 0 leaves the photograph sharp."""
    haze: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far the background's colours are pulled towards their mean: 0 leaves them, 1 leaves one colour."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Another seed is another world with the same classes."""


@dataclass(frozen=True)
class Thing:
    """A plane with a picture on it."""

    shape: str | None
    """A name from the vocabulary; None for the background, which has no edge."""
    picture: Pixels
    """(h, w, 4) uint8 premultiplied for an object, (h, w, 3) uint8 for the background."""
    to_plane: Matrix
    """(3, 3): picture pixel (x, y, 1) → plane coordinates (u, v, 1)."""
    placement: Matrix
    """(T, 3, 3): plane coordinates (u, v, 1) → world point in metres, at every frame."""


@dataclass(frozen=True)
class Scene:
    """Everything that decides a clip; ``things`` runs from the farthest to the nearest."""

    labels: dict[str, str]
    things: tuple[Thing, ...]
    """The background first, the main object last; nothing nearer is ever behind something farther."""
    poses: Matrix
    """(T, 4, 4) world → left camera."""

    @property
    def poses_right(self) -> Matrix:
        """(T, 4, 4) world → right camera, ``BASELINE`` to the right along the left camera's x axis."""
        poses = self.poses.copy()
        poses[:, 0, 3] -= BASELINE
        return poses

    def reversed(self) -> "Scene":
        """The same scene with time running backwards; its motion label is the reverse motion."""
        things = tuple(replace(thing, placement=thing.placement[::-1]) for thing in self.things)
        labels = self.labels | {"motion": REVERSED[self.labels["motion"]]}
        return Scene(labels, things, self.poses[::-1])


def intrinsics(size: int) -> Matrix:
    """(3, 3) pinhole matrix of both cameras; pixel centres have integer coordinates."""
    centre = (size - 1) / 2
    return np.array([[FOCAL * size, 0, centre], [0, FOCAL * size, centre], [0, 0, 1]])


def draw_labels(split: str, index: int, seed: int) -> dict[str, str]:
    """Class names of a clip. Each label is shuffled in blocks, so any prefix of a split is balanced."""
    chosen = {}
    for label, names in CLASSES.items():
        block, place = divmod(index, len(names))
        order = _generator(seed, split, label, block).permutation(len(names))
        chosen[label] = names[order[place]]
    return chosen


def draw_scene(split: str, index: int, config: MiniworldConfig) -> Scene:
    """The scene of clip ``index`` of ``split``.

    Nothing but the motion's direction depends on the motion's sign: two scenes that differ only in
    reverse labels have the same placement, phase and camera draws.

    Raises:
        MmsslError: the split is unknown or the index negative.
    """
    if split not in SPLITS:
        raise MmsslError(f"miniworld: unknown split {split!r}; expected one of {', '.join(SPLITS)}")
    if index < 0:
        raise MmsslError(f"miniworld: clip index {index}; expected 0 or more")
    labels = draw_labels(split, index, config.seed)
    return compose(_generator(config.seed, split, "scene", index), split, labels, config)


def compose(rng: Generator, split: str, labels: dict[str, str], config: MiniworldConfig) -> Scene:
    """A scene with the given labels, everything else drawn from ``rng``."""
    poses = _draw_camera(rng, config.frames)
    background = _draw_background(rng, split, config)
    others = [_draw_distractor(rng, split, depth, config) for depth in (4.8, 4.2)[: config.distractors]]
    main = _draw_object(
        rng, split, labels["shape"], labels["texture"], labels["motion"], config,
        depth=rng.uniform(2.2, 2.6), radius=rng.uniform(*config.radius), travel=0.16, tilt=0.6,
        spread=max(0.03, 0.34 - config.radius[1]),  # so that its centre stays in the picture
    )  # fmt: skip
    return Scene(labels, (background, *others, main), poses)


def _generator(seed: int, split: str, purpose: str, index: int) -> Generator:
    return default_rng(SeedSequence([seed, SPLITS.index(split), zlib.crc32(purpose.encode()), index]))


def _draw_camera(rng: Generator, frames: int) -> Matrix:
    """A straight drift with a slow pan through the origin; either sense is equally likely."""
    time = np.linspace(-1, 1, frames)
    position = np.outer(time, rng.uniform(-1, 1, 3) * (0.12, 0.12, 0.08))
    yaw, pitch = np.outer(rng.uniform(-0.035, 0.035, 2), time)
    rotation = _about_x(pitch) @ _about_y(yaw)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = rotation
    poses[:, :3, 3] = -(rotation @ position[..., None])[..., 0]
    return poses


def _draw_background(rng: Generator, split: str, config: MiniworldConfig) -> Thing:
    picture = draw_background(rng, split, short_side=round(2.4 * config.size))
    height, width = picture.shape[:2]
    shown = rng.uniform(1.6, 2.2) * config.size  # picture pixels across the view, about two to an image pixel
    picture = soften(picture, blur=config.defocus * shown, haze=config.haze)
    metres = 7.0 / FOCAL / shown
    x, y = ((side - 1) / 2 + rng.uniform(-0.5, 0.5) * (side - shown) for side in (width, height))
    to_plane = np.array([[metres, 0, -metres * x], [0, metres, -metres * y], [0, 0, 1]])
    rotation = _tilt(rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.35))
    placement = np.concatenate([rotation[:, :2], np.array([[0.0], [0.0], [7.0]])], axis=1)
    return Thing(None, picture, to_plane, np.tile(placement, (config.frames, 1, 1)))


def _draw_distractor(rng: Generator, split: str, depth: float, config: MiniworldConfig) -> Thing:
    shape, texture = rng.choice(CLASSES["shape"]), rng.choice(CLASSES["texture"])
    motion = rng.choice([name for name in CLASSES["motion"] if MOTIONS[name].path != "depth"])
    return _draw_object(
        rng, split, str(shape), str(texture), str(motion), config,
        depth=depth, radius=rng.uniform(0.07, 0.1), travel=0.1, tilt=0.25, spread=0.35,
    )  # fmt: skip


def _draw_object(
    rng: Generator,
    split: str,
    shape: str,
    texture: str,
    motion: str,
    config: MiniworldConfig,
    *,
    depth: float,
    radius: float,
    travel: float,
    tilt: float,
    spread: float,
) -> Thing:
    """An object on its path. ``radius``, ``travel``, ``spread`` are in image widths at ``depth`` metres."""
    side = max(32, config.size)
    picture = draw_sprite(rng, split, shape, texture, side)
    cycle = rng.uniform() + np.arange(config.frames) / config.frames
    state = motion_state(motion, cycle)
    x0, y0 = rng.uniform(-spread, spread, 2)
    rotation = _tilt(rng.uniform(0, 2 * np.pi), rng.uniform(0, tilt)) @ _about_z(
        rng.uniform(-0.3, 0.3) + state.angle
    )
    z = depth * np.exp(-0.3 * state.nearness)
    placement = np.empty((config.frames, 3, 3))
    placement[:, :, :2] = rotation[:, :, :2] * (radius * depth / FOCAL)
    placement[:, :, 2] = (
        np.stack([(x0 + travel * state.x) * z, (y0 + travel * state.y) * z, z * FOCAL], -1) / FOCAL
    )
    step = 2 * MARGIN / side
    to_plane = np.array([[step, 0, step / 2 - MARGIN], [0, step, step / 2 - MARGIN], [0, 0, 1]])
    return Thing(shape, picture, to_plane, placement)


def _about_x(angle: Matrix) -> Matrix:
    return _rotation(angle, 1, 2)


def _about_y(angle: Matrix) -> Matrix:
    return _rotation(angle, 2, 0)


def _about_z(angle: Matrix) -> Matrix:
    return _rotation(angle, 0, 1)


def _rotation(angle: Matrix, first: int, second: int) -> Matrix:
    """(..., 3, 3) rotations that turn axis ``first`` towards axis ``second`` by ``angle`` (...) radians."""
    matrix = np.zeros((*np.shape(angle), 3, 3))
    matrix[..., range(3), range(3)] = 1
    matrix[..., first, first] = matrix[..., second, second] = np.cos(angle)
    matrix[..., second, first], matrix[..., first, second] = np.sin(angle), -np.sin(angle)
    return matrix


def _tilt(azimuth: float, angle: float) -> Matrix:
    """(3, 3): lean by ``angle`` radians about the axis at ``azimuth`` in the image plane."""
    turn = _about_z(np.asarray(azimuth))
    return np.asarray(turn @ _about_x(np.asarray(angle)) @ turn.T)
