"""The truth of a clip against its own pixels, and against geometry computed another way."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, map_coordinates

from mmssl.miniworld import Clip, MiniworldConfig, draw_scene, render
from mmssl.miniworld.scene import BASELINE
from mmssl.miniworld.vocabulary import SHAPES


def sample(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear (..., C) values of (H, W, C) at pixel positions, in float64 by scipy."""
    channels = [
        map_coordinates(image[..., c].astype(np.float64), [y, x], order=1) for c in range(image.shape[2])
    ]
    return np.stack(channels, axis=-1)


def interior(clip: Clip, t: int) -> np.ndarray:
    """Pixels whose neighbourhood shows one thing only: colours at edges are mixtures."""
    labels = clip.segmentation[t]
    edges = np.zeros(labels.shape, bool)
    for label in np.unique(labels):
        edges |= binary_dilation(labels == label, np.ones((3, 3))) & (labels != label)
    return ~binary_dilation(edges, np.ones((3, 3)))


def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:size, :size].astype(np.float64)
    return x, y


def warp_error(clip: Clip, sign: float = 1.0) -> tuple[float, float]:
    """Mean absolute difference (0..255) of frames and the next ones fetched along the flow: all, objects."""
    total: list[np.ndarray] = []
    objects: list[np.ndarray] = []
    for t in range(len(clip.flow)):
        x, y = grid(clip.frames.shape[1])
        x, y = x + sign * clip.flow[t, ..., 0], y + sign * clip.flow[t, ..., 1]
        size = clip.frames.shape[1]
        landed = (
            map_coordinates(
                interior(clip, t + 1).astype(float), [y.clip(0, size - 1), x.clip(0, size - 1)], order=1
            )
            == 1
        )
        error = np.abs(
            sample(clip.frames[t + 1], x.clip(0, size - 1), y.clip(0, size - 1)) - clip.frames[t]
        ).mean(-1)
        keep = clip.visible[t] & interior(clip, t)
        if sign > 0:
            keep &= landed
        total.append(error[keep])
        objects.append(error[keep & (clip.segmentation[t] == 1)])
    return float(np.concatenate(total).mean()), float(np.concatenate(objects).mean())


def test_next_frame_along_the_flow_is_this_frame(clips: list[Clip]) -> None:
    everywhere, on_object = np.array([warp_error(clip) for clip in clips]).T
    assert everywhere.mean() < 4.0
    assert on_object.mean() < 8.0


def test_flow_of_the_wrong_sign_would_be_noticed(clips: list[Clip]) -> None:
    right = np.array([warp_error(clip) for clip in clips])
    wrong = np.array([warp_error(clip, sign=-1) for clip in clips])
    assert (wrong[:, 0] > 1.5 * right[:, 0]).all()
    assert wrong[:, 1].mean() > 3 * right[:, 1].mean()


def test_flow_follows_points_of_the_world(clips: list[Clip]) -> None:
    """Lift a pixel of frame t to the world by depth and pose, move it with its plane, project it again."""
    config = MiniworldConfig(size=96, frames=8, distractors=2)
    for index, clip in enumerate(clips[:10]):
        scene = draw_scene("train", index, config)
        inverse = np.linalg.inv(clip.intrinsics)
        x, y = grid(config.size)
        pixels = np.stack([x, y, np.ones_like(x)], -1)
        for t in range(config.frames - 1):
            camera = pixels @ inverse.T * clip.depth[t][..., None].astype(np.float64)
            rotation, shift = clip.poses[t, :3, :3], clip.poses[t, :3, 3]
            world = (camera - shift) @ rotation  # Rᵀ (X - t)
            for number, thing in enumerate(scene.things):
                ident = 0 if number == 0 else len(scene.things) - number
                mask = clip.segmentation[t] == ident
                now, later = thing.placement[t], thing.placement[t + 1]
                on_plane = np.linalg.lstsq(now[:, :2], (world[mask] - now[:, 2]).T, rcond=None)[0]
                moved = (later[:, :2] @ on_plane).T + later[:, 2]
                seen = (moved @ clip.poses[t + 1, :3, :3].T + clip.poses[t + 1, :3, 3]) @ clip.intrinsics.T
                expected = seen[:, :2] / seen[:, 2:] - pixels[mask][:, :2]
                np.testing.assert_allclose(clip.flow[t][mask], expected, atol=5e-3)


def test_segmentation_and_visibility_by_casting_rays(clips: list[Clip]) -> None:
    """Brute force with a depth test: intersect each ray with every plane, take the nearest hit."""
    config = MiniworldConfig(size=96, frames=8, distractors=2)
    disagreements, tested = 0, 0
    for index, clip in enumerate(clips[:6]):
        scene = draw_scene("train", index, config)

        def nearest(
            t: int, x: np.ndarray, y: np.ndarray, scene=scene, clip=clip
        ) -> tuple[np.ndarray, np.ndarray]:
            rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(clip.intrinsics).T
            rotation, shift = clip.poses[t, :3, :3], clip.poses[t, :3, 3]
            rays, eye = rays @ rotation, -rotation.T @ shift
            depth, ident = np.full(x.shape, np.inf), np.zeros(x.shape, int)
            for number, thing in enumerate(scene.things):
                place = thing.placement[t]
                normal = np.cross(place[:, 0], place[:, 1])
                along = ((place[:, 2] - eye) @ normal) / (rays @ normal)
                hit = eye + rays * along[..., None] - place[:, 2]
                u, v = ((hit @ place[:, axis]) / (place[:, axis] @ place[:, axis]) for axis in (0, 1))
                inside = np.ones(x.shape, bool) if thing.shape is None else SHAPES[thing.shape](u, v)
                nearer = inside & (along < depth)
                depth[nearer] = along[nearer]
                ident[nearer] = 0 if number == 0 else len(scene.things) - number
            return depth, ident

        x, y = grid(config.size)
        for t in range(config.frames):
            depth, ident = nearest(t, x, y)
            same = ident == clip.segmentation[t]
            disagreements, tested = disagreements + int((~same).sum()), tested + same.size
            np.testing.assert_allclose(clip.depth[t][same], depth[same], rtol=1e-4)
            if t + 1 == config.frames:
                continue
            x_next, y_next = x + clip.flow[t, ..., 0], y + clip.flow[t, ..., 1]
            inside = (x_next >= 0) & (x_next <= 95) & (y_next >= 0) & (y_next <= 95)
            seen = inside & (nearest(t + 1, x_next, y_next)[1] == clip.segmentation[t])
            # A point on its own object's very edge may fall either side by rounding; any other must agree.
            wrong = (seen != clip.visible[t]) & interior(clip, t)
            assert wrong.mean() < 2e-4
            assert (clip.visible[t] & ~inside).sum() <= 1
    assert disagreements / tested < 1e-5
    assert any((~clip.visible).any() and clip.visible.mean() > 0.5 for clip in clips)


def test_depth_gradients_give_the_normals(clips: list[Clip]) -> None:
    """Central differences of lifted depth span the surface; their cross product is its normal."""
    for clip in clips:
        x, y = grid(clip.depth.shape[1])
        rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(clip.intrinsics).T
        for t in range(len(clip.depth)):
            points = rays * clip.depth[t][..., None].astype(np.float64)
            across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
            normal = np.cross(down, across)
            normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
            inside = np.zeros(x.shape, bool)
            for label in np.unique(clip.segmentation[t]):
                inside |= binary_erosion(clip.segmentation[t] == label, np.ones((3, 3)))
            cosine = (normal * clip.normals[t, 1:-1, 1:-1]).sum(-1)[inside[1:-1, 1:-1]]
            assert np.degrees(np.arccos(cosine.clip(-1, 1))).max() < 1.0
    normals = np.concatenate([clip.normals.reshape(-1, 3) for clip in clips])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    assert (normals[:, 2] < 0).all()
    assert np.degrees(np.arccos(-normals[:, 2])).max() > 20  # slanted surfaces occur


def test_boxes_bound_the_masks(clips: list[Clip]) -> None:
    for clip in clips:
        assert clip.boxes.shape == (8, 3, 4)
        for t, image in enumerate(clip.segmentation):
            for n in range(3):
                rows, columns = np.nonzero(image == n + 1)
                if len(rows) == 0:
                    assert np.isnan(clip.boxes[t, n]).all()
                    continue
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                np.testing.assert_array_equal(clip.boxes[t, n], box)


def test_an_object_out_of_sight_has_no_box() -> None:
    config = MiniworldConfig(size=32, frames=4, distractors=1)
    scene = draw_scene("train", 0, config)
    scene.things[1].placement[2, 0, 2] += 1000
    clip = render(scene, config)
    assert np.isnan(clip.boxes[2, 1]).all()
    assert not (clip.segmentation[2] == 2).any()
    assert np.isfinite(clip.flow).all()


def test_both_views_agree_through_their_geometry(clips: list[Clip]) -> None:
    errors, shifted, share = [], [], []
    for clip in clips:
        assert clip.frames_right.shape == clip.frames.shape
        x, y = grid(clip.depth.shape[1])
        size = len(x)
        for t in range(len(clip.depth)):
            points = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(clip.intrinsics).T
            points = points * clip.depth[t][..., None].astype(np.float64)
            world = (points - clip.poses[t, :3, 3]) @ clip.poses[t, :3, :3]
            seen = (world @ clip.poses_right[t, :3, :3].T + clip.poses_right[t, :3, 3]) @ clip.intrinsics.T
            there, row = seen[..., 0] / seen[..., 2], seen[..., 1] / seen[..., 2]
            np.testing.assert_allclose(row, y, atol=1e-6)
            disparity = clip.intrinsics[0, 0] * BASELINE / clip.depth[t]
            np.testing.assert_allclose(x - there, disparity, atol=1e-4)
            # The right view's front is the left depth splatted into it: keep what nothing nearer covers.
            column = np.rint(there).astype(int)
            inside = (there >= 0) & (there <= size - 1)
            front = np.full((size, size), np.inf)
            np.minimum.at(front, (y[inside].astype(int), column[inside]), clip.depth[t][inside])
            front = -cv2.dilate(-np.where(np.isinf(front), 1e9, front), np.ones((1, 3)))
            keep = inside & interior(clip, t)
            keep &= clip.depth[t] < 1.1 * front[y.astype(int), column.clip(0, size - 1)]
            error = np.abs(sample(clip.frames_right[t], there.clip(0, size - 1), y) - clip.frames[t]).mean(-1)
            errors.append(error[keep].mean())
            shifted.append(np.abs(clip.frames_right[t].astype(float) - clip.frames[t]).mean(-1)[keep].mean())
            share.append(keep.mean())
    assert np.mean(share) > 0.5
    assert np.mean(errors) < 4.0
    assert np.mean(shifted) > 3 * np.mean(errors)


def test_pixels_lie_where_the_truth_says() -> None:
    """A white object on black: the centre of its light is the centre of its mask."""
    config = MiniworldConfig(size=96, frames=4, distractors=0)
    offsets = []
    for index in range(12):
        scene = draw_scene("train", index, config)
        background, main = scene.things
        coverage = main.picture[..., 3:]
        things = (
            replace(background, picture=np.zeros_like(background.picture)),
            replace(main, picture=np.repeat(coverage, 4, axis=-1)),
        )
        clip = render(replace(scene, things=things), config)
        x, y = grid(config.size)
        for t in range(config.frames):
            light, mask = clip.frames[t, ..., 0] / 255, clip.segmentation[t] == 1
            if mask[[0, -1]].any() or mask[:, [0, -1]].any():
                continue  # cut by the border, where averaging and counting differ
            assert np.abs(light - mask)[interior(clip, t)].max() < 0.02
            offsets.append([(light * axis).sum() / light.sum() - axis[mask].mean() for axis in (x, y)])
    assert len(offsets) > 20
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.03
    assert np.median(np.abs(offsets)) < 0.06  # not the largest: an upright square's mask counts whole columns


@pytest.mark.parametrize("name", list(SHAPES))
def test_shapes_keep_to_the_unit_disc_and_are_big_enough(name: str) -> None:
    line = np.linspace(-1.2, 1.2, 801, dtype=np.float32)
    u, v = np.meshgrid(line, line)
    inside = SHAPES[name](u, v)
    assert not inside[np.hypot(u, v) > 1.08].any()
    assert not inside[(np.abs(u) > 1) | (np.abs(v) > 1)].any()  # renderer's windows cover the unit square
    assert 0.2 < inside.mean() * 2.4**2 / np.pi < 1
