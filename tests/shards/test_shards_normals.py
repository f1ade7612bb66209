"""Normals from depth: planes of any tilt, spheres, edges, holes, and the miniworld's exact ones."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.errors import MmsslError
from mmssl.miniworld import MiniworldConfig, clip
from mmssl.shards.normals import normals_from_depth

SIZE = (40, 56)
K = np.array([[60.0, 0.4, 27.0], [0, 63.0, 18.5], [0, 0, 1]])


def rays(k: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3): K⁻¹ (x, y, 1)."""
    y, x = np.indices(size, dtype=np.float64)
    return np.stack([x, y, np.ones(size)], -1) @ np.linalg.inv(k).T


def degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=-1) / 2, 0, 1)))


@settings(max_examples=60, deadline=None)
@given(
    tilt=st.floats(0, 75),
    turn=st.floats(0, 360),
    distance=st.floats(0.2, 20),
    focal=st.floats(40, 900),
    skew=st.floats(-2, 2),
)
def test_planes_of_any_tilt_are_exact(
    tilt: float, turn: float, distance: float, focal: float, skew: float
) -> None:
    k = np.array([[focal, skew, 27.0], [0, focal * 1.1, 18.5], [0, 0, 1]])
    a, b = math.radians(tilt), math.radians(turn)
    truth = -np.array([math.sin(a) * math.cos(b), math.sin(a) * math.sin(b), math.cos(a)])
    r = rays(k)
    facing = -(r @ truth)  # cosine of incidence, times the ray's length
    depth = np.where(facing > 1e-3, distance / np.maximum(facing, 1e-3), 0)
    found = normals_from_depth(depth, k)
    computed = np.linalg.norm(found, axis=-1) > 0.5
    assert computed[facing > 0.2].all(), "a plane is no depth edge, unless it is seen edge-on"
    assert not computed[facing <= 1e-3].any()
    assert degrees(found, truth)[computed & (facing > 0.2)].max(initial=0) < 0.3
    assert np.allclose(np.linalg.norm(found[computed], axis=-1), 1, atol=1e-5)


def test_a_sphere() -> None:
    k = np.array([[500.0, 0, 99.5], [0, 500.0, 99.5], [0, 0, 1]])
    r = rays(k, (200, 200))
    centre, radius = np.array([0.1, -0.05, 3.0]), 0.5
    # |t r - centre| = radius, the nearer solution; r has z = 1, so t is the depth.
    rr, rc = (r * r).sum(-1), r @ centre
    inside = rc**2 - rr * (centre @ centre - radius**2)
    t = (rc - np.sqrt(np.maximum(inside, 0))) / rr
    depth = np.where(inside > 0, t, 0)
    truth = (depth[..., None] * r - centre) / radius
    found = normals_from_depth(depth, k)
    incidence = -(truth * r).sum(-1) / np.linalg.norm(r, axis=-1)
    sure = (inside > 0) & (incidence > math.cos(math.radians(60)))
    error = degrees(found, truth)
    assert np.median(error[sure]) < 0.2
    assert error[sure].max() < 1
    assert (found[inside <= 0] == 0).all()


def test_depth_edges_and_holes_do_not_mix_surfaces() -> None:
    r = rays(K)
    near, far = np.array([0, 0, -1.0]), np.array([0.5, 0, -math.sqrt(0.75)])
    depth = np.where(np.arange(SIZE[1]) < 30, 1 / -(r @ near), 3 / -(r @ far))
    depth[10:13, 8:11] = [[0, np.nan, -1], [np.inf, 0, 0], [0, 0, 0]]
    depth[:, 45] = 0
    found = normals_from_depth(depth, K)
    assert (found[10:13, 8:11] == 0).all()
    assert (found[:, 45] == 0).all()
    left, right = found[:, :30], found[:, 30:]
    for part, truth in ((left, near), (right, far)):
        computed = np.linalg.norm(part, axis=-1) > 0
        assert degrees(part, truth)[computed].max() < 0.2
        assert computed.mean() > 0.9
    alone = np.zeros(SIZE)
    alone[5, 5] = alone[20] = 1
    assert (normals_from_depth(alone, K) == 0).all(), "a point or a line is no surface"


def test_noise_of_a_sensor_is_averaged() -> None:
    k = np.array([[585.0, 0, 319.5], [0, 585, 239.5], [0, 0, 1]])
    truth = np.array([0.3, -0.2, -math.sqrt(1 - 0.13)])
    depth = 2 / -(rays(k, (480, 640)) @ truth)
    # The Kinect's disparity is quantised to 1/8 pixel at a baseline of 7.5 cm.
    disparity = np.round(8 * 585 * 0.075 / depth) / 8
    found = normals_from_depth(585 * 0.075 / disparity, k)
    error = degrees(found, truth)
    assert np.median(error) < 6
    one = np.diff(585 * 0.075 / disparity, axis=1)
    assert (one == 0).mean() > 0.3, "single differences say nothing at this resolution"


@pytest.mark.parametrize("rounded", [False, True])
def test_the_miniworlds_exact_normals(rounded: bool) -> None:
    errors, computed = [], []
    for index in range(4):
        world = clip("val", index, MiniworldConfig(size=96, frames=5))
        depth = np.round(world.depth[2], 3) if rounded else world.depth[2]
        found = normals_from_depth(depth, world.intrinsics)
        known = np.linalg.norm(found, axis=-1) > 0
        assert (found[known][:, 2] < 0).all(), "towards the camera"
        errors.append(degrees(found, world.normals[2])[known])
        computed.append(known.mean())
    assert np.median(np.concatenate(errors)) < (0.5 if rounded else 0.05)
    assert np.quantile(np.concatenate(errors), 0.9) < (2 if rounded else 0.5)
    assert min(computed) > 0.97


@pytest.mark.parametrize(
    ("depth", "k", "message"),
    [
        (np.ones((3, 4, 1)), K, "expected \\(H, W\\)"),
        (np.ones((3, 4)), np.eye(4), "3×3"),
        (np.ones((3, 4)), np.diag([0.0, 1, 1]), "fx, fy > 0"),
        (np.ones((3, 4)), K * np.nan, "finite"),
    ],
)
def test_what_is_no_depth_map_or_camera(depth: np.ndarray, k: np.ndarray, message: str) -> None:
    with pytest.raises(MmsslError, match=message):
        normals_from_depth(depth, k)
