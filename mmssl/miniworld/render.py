"""From a scene to pixels and truth.

For a plane with placement P (plane → world) and a camera (K, R, t), H = K (R P + t e₃ᵀ) takes plane
coordinates to the image, H (u, v, 1) = z (x, y, 1). So Q = H⁻¹ gives everything at a pixel centre:
Q (x, y, 1) = (u, v, 1) / z: where on the plane the pixel looks, and how deep. Flow on a plane is the
homography H' Q with H' one frame later. Truth is evaluated at pixel centres; colours are averaged over
2 × 2 points a pixel.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mmssl.miniworld.photographs import Pixels
from mmssl.miniworld.scene import Matrix, MiniworldConfig, Scene, Thing, draw_scene, intrinsics
from mmssl.miniworld.vocabulary import CLASSES, SHAPES, captions

Float = NDArray[np.float32]
Window = tuple[int, int, int, int]
"""Columns left ≤ x < right and rows top ≤ y < bottom of an image, as (left, top, right, bottom)."""

_TO_FINE = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
"""Pixel coordinates → coordinates on the grid of 2 × 2 points a pixel."""


@dataclass(frozen=True)
class Clip:
    """A clip with its truth, seen by the left camera unless said otherwise. T frames of H × W, N objects."""

    frames: Pixels
    """(T, H, W, 3) uint8 sRGB."""
    frames_right: Pixels
    """(T, H, W, 3) uint8 sRGB at the same instants from the right camera."""
    flow: Float
    """(T-1, H, W, 2) float32 pixels to the next frame, x right and y down; exact also where hidden next."""
    visible: NDArray[np.bool_]
    """(T-1, H, W) whether the pixel's point is still in the image and in front in the next frame."""
    depth: Float
    """(T, H, W) float32 metres along the camera's z axis."""
    normals: Float
    """(T, H, W, 3) float32 unit vectors towards the camera (z < 0); axes x right, y down, z forward."""
    segmentation: Pixels
    """(T, H, W) uint8 instances; 0 = background, 1 = main object, 2 and up = distractors."""
    shapes: tuple[str, ...]
    """(N,) names of the objects' shapes; that of instance n is ``shapes[n - 1]``."""
    boxes: Float
    """(T, N, 4) float32 x, y, w, h of object n+1's visible pixels; NaN where none is visible."""
    captions: list[str]
    labels: dict[str, int]
    """Class indices of the main object: shape, texture, motion; names in ``CLASSES``."""
    intrinsics: Matrix
    """(3, 3) float64, shared by both cameras; pixel centres have integer coordinates."""
    poses: Matrix
    """(T, 4, 4) float64 world → left camera, metres."""
    poses_right: Matrix
    """(T, 4, 4) float64 world → right camera, metres."""
    fps: float


def clip(split: str, index: int, config: MiniworldConfig | None = None) -> Clip:
    """Clip ``index`` of ``split``: the same bytes whenever and wherever it is rendered.

    Raises:
        MmsslError: the split is unknown or the index negative.
    """
    config = config or MiniworldConfig()
    return render(draw_scene(split, index, config), config)


def render(scene: Scene, config: MiniworldConfig) -> Clip:
    """Render both views of ``scene`` and the truth of the left one."""
    frames, size, things = config.frames, config.size, scene.things
    camera = intrinsics(size)
    left = [_homographies(thing, camera, scene.poses) for thing in things]
    right = [_homographies(thing, camera, scene.poses_right) for thing in things]
    inverse = [np.linalg.inv(homography) for homography in left]
    normals = [_normals(thing, scene.poses) for thing in things]
    # Things run from far to near; ids count from the nearest, so the main object is 1.
    ids = [0, *range(len(things) - 1, 0, -1)]

    colours, colours_right = (np.empty((frames, size, size, 3), np.uint8) for _ in range(2))
    segmentation = np.zeros((frames, size, size), np.uint8)
    depth = np.empty((frames, size, size), np.float32)
    facing = np.empty((frames, size, size, 3), np.float32)
    flow = np.empty((frames - 1, size, size, 2), np.float32)
    visible = np.empty((frames - 1, size, size), bool)

    for t in range(frames):
        colours[t] = _paint(things, [h[t] for h in left], size)
        colours_right[t] = _paint(things, [h[t] for h in right], size)
        for number, thing in enumerate(things):
            window = _window(thing, left[number][t], size)
            rows, columns = slice(window[1], window[3]), slice(window[0], window[2])
            u_by_z, v_by_z, inverse_z = _apply(inverse[number][t], window)
            z = 1 / inverse_z
            motion = None
            if t + 1 < frames:
                motion = _flow(left[number][t + 1] @ inverse[number][t], window)
            if thing.shape is None:
                depth[t], facing[t] = z, normals[number][t]
                if motion is not None:
                    flow[t] = motion
                continue
            mask = SHAPES[thing.shape](u_by_z * z, v_by_z * z)
            segmentation[t, rows, columns][mask] = ids[number]
            depth[t, rows, columns][mask] = z[mask]
            facing[t, rows, columns][mask] = normals[number][t]
            if motion is not None:
                flow[t, rows, columns][mask] = motion[mask]
        if t + 1 < frames:
            windows = [_window(thing, h[t + 1], size) for thing, h in zip(things, left, strict=True)]
            after = [q[t + 1] for q in inverse]
            visible[t] = _visible(things, ids, after, windows, segmentation[t], flow[t])

    return Clip(
        frames=colours,
        frames_right=colours_right,
        flow=flow,
        visible=visible,
        depth=depth,
        normals=facing,
        segmentation=segmentation,
        shapes=tuple(thing.shape for thing in reversed(things) if thing.shape is not None),
        boxes=_boxes(segmentation, len(things) - 1),
        captions=captions(**scene.labels),
        labels={label: CLASSES[label].index(name) for label, name in scene.labels.items()},
        intrinsics=camera,
        poses=scene.poses,
        poses_right=scene.poses_right,
        fps=config.fps,
    )


def _homographies(thing: Thing, camera: Matrix, poses: Matrix) -> Matrix:
    """H (T, 3, 3): plane coordinates (u, v, 1) → depth times pixel (x, y, 1)."""
    points = poses[:, :3, :3] @ thing.placement
    points[:, :, 2] += poses[:, :3, 3]
    return np.asarray(camera @ points)


def _normals(thing: Thing, poses: Matrix) -> Float:
    """(T, 3) the plane's unit normal in the camera's axes, on the side that the camera sees."""
    axes = poses[:, :3, :3] @ thing.placement[:, :, :2]
    normal = np.cross(axes[:, :, 1], axes[:, :, 0])
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True), np.float32)


def _window(thing: Thing, homography: Matrix, size: int) -> Window:
    """The pixels that a thing may touch: the image of its unit square, clipped to the frame."""
    if thing.shape is None:
        return 0, 0, size, size
    corners = homography @ np.array([[-1, 1, 1, -1], [-1, -1, 1, 1], [1, 1, 1, 1]])
    points = corners[:2] / corners[2]
    left, top = np.clip(np.floor(points.min(1)) - 1, 0, size).astype(int)
    right, bottom = np.clip(np.ceil(points.max(1)) + 2, 0, size).astype(int)
    return left, top, max(left, right), max(top, bottom)


def _apply(matrix: Matrix, window: Window) -> tuple[Float, Float, Float]:
    """matrix · (x, y, 1) at every pixel centre of ``window``: three (h, w) float32 arrays."""
    x = np.arange(window[0], window[2], dtype=np.float64)
    y = np.arange(window[1], window[3], dtype=np.float64)
    first, second, third = (
        np.add.outer(row[1] * y + row[2], row[0] * x).astype(np.float32) for row in matrix
    )
    return first, second, third


def _flow(homography: Matrix, window: Window) -> Float:
    """Displacement (h, w, 2) of every pixel of ``window`` under a homography."""
    x = np.arange(window[0], window[2], dtype=np.float32)
    y = np.arange(window[1], window[3], dtype=np.float32)[:, None]
    a, b, c = _apply(homography, window)
    return np.stack([a / c - x, b / c - y], axis=-1)


def _paint(things: tuple[Thing, ...], homographies: list[Matrix], size: int) -> Pixels:
    """One view: far to near on the fine grid, then averaged; (size, size, 3) uint8."""
    background = _TO_FINE @ homographies[0] @ things[0].to_plane
    canvas = cv2.warpPerspective(  # mirror images continue the photograph beyond its border
        things[0].picture, background, (2 * size, 2 * size), borderMode=cv2.BORDER_REFLECT_101
    )
    for thing, homography in zip(things[1:], homographies[1:], strict=True):
        left, top, right, bottom = _window(thing, homography, size)
        if left == right or top == bottom:
            continue
        shift = np.array([[1.0, 0, -2 * left], [0, 1, -2 * top], [0, 0, 1]])
        matrix = shift @ _TO_FINE @ homography @ thing.to_plane
        sprite = cv2.warpPerspective(thing.picture, matrix, (2 * (right - left), 2 * (bottom - top)))
        below = canvas[2 * top : 2 * bottom, 2 * left : 2 * right]
        through = cv2.merge([255 - sprite[..., 3]] * 3)
        below[:] = cv2.add(cv2.multiply(below, through, scale=1 / 255), sprite[..., :3])
    return np.asarray(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA))


def _visible(
    things: tuple[Thing, ...],
    ids: list[int],
    inverse: list[Matrix],
    windows: list[Window],
    segmentation: Pixels,
    flow: Float,
) -> NDArray[np.bool_]:
    """Whether each pixel's point is in the next frame and not behind a nearer thing there; (H, W) bool.

    ``inverse`` and ``windows`` are the next frame's. A point is tested where it lands, between pixels.
    """
    size = len(segmentation)
    x = flow[..., 0] + np.arange(size, dtype=np.float32)
    y = flow[..., 1] + np.arange(size, dtype=np.float32)[:, None]
    visible = (x >= 0) & (x <= size - 1) & (y >= 0) & (y <= size - 1)
    layer = np.argsort(ids).astype(np.uint8)[segmentation]
    for number, thing in enumerate(things):
        if thing.shape is None:
            continue
        left, top, right, bottom = windows[number]
        near = (layer < number) & (x >= left) & (x < right) & (y >= top) & (y < bottom)
        where = np.nonzero(near & visible)
        points = inverse[number] @ np.stack([x[where], y[where], np.ones(len(where[0]))])
        u, v = points[:2] / points[2]
        visible[where] = ~SHAPES[thing.shape](u, v)
    return visible


def _boxes(segmentation: Pixels, objects: int) -> Float:
    """(T, N, 4) float32 tight x, y, w, h of ids 1..N; NaN where an id has no pixel."""
    boxes = np.full((len(segmentation), objects, 4), np.nan, np.float32)
    for t, image in enumerate(segmentation):
        for number in range(objects):
            mask = (image == number + 1).astype(np.uint8)
            if mask.any():
                boxes[t, number] = cv2.boundingRect(mask)
    return boxes
