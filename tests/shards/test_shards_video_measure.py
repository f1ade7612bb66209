"""Motion and cuts, against what was put into the pictures."""

import cv2
import numpy as np
import pytest
from raw_videos import scene

from mmssl.shards.video.measure import Measures


def measured(frames: list[np.ndarray]) -> Measures:
    measures = Measures()
    for frame in frames:
        measures.put(frame)
    return measures


def window(world: np.ndarray, x: float, height: int = 112, width: int = 150) -> np.ndarray:
    """A view of the world whose left edge is at x, to a fraction of a pixel."""
    place = np.array([[1, 0, x], [0, 1, 8]], np.float32)
    return np.asarray(
        cv2.warpAffine(world, place, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    )


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5, 4.0])
@pytest.mark.parametrize("enlarged", [1, 3])
def test_motion_of_a_moving_camera(shift: float, enlarged: int) -> None:
    world = scene(0, 160, 400)
    frames = [window(world, 20 + shift * number) for number in range(6)]
    frames = [cv2.resize(frame, None, fx=enlarged, fy=enlarged) for frame in frames]
    motion = measured(frames).motion([number / 10 for number in range(6)])
    assert len(motion) == 6
    assert motion[-1] == motion[-2]
    assert motion == pytest.approx([shift / 112 * 10] * 6, rel=0.15, abs=0.01)


def test_motion_is_per_second() -> None:
    world = scene(1, 160, 400)
    measures = measured([window(world, 2.0 * number) for number in range(5)])
    even, slower = measures.motion([0, 0.1, 0.2, 0.3, 0.4]), measures.motion([0, 0.2, 0.4, 0.6, 0.8])
    assert slower == pytest.approx([speed / 2 for speed in even], abs=1e-3)


def test_cuts_are_found_where_scenes_change() -> None:
    world = scene(2, 160, 400)
    frames = [window(world, 3.0 * n) for n in range(9)]
    frames += [window(scene(3, 160, 400), 2.0 * n) for n in range(7)]
    frames += [window(scene(4, 160, 400), 100 - 5.0 * n) for n in range(8)]
    measures = measured(frames)
    assert measures.cuts() == [9, 16]
    motion = measures.motion([n / 10 for n in range(24)])
    assert motion[8] == motion[7], "nothing moves across a cut"
    assert motion[15] == motion[14]


def test_what_is_no_cut() -> None:
    world = scene(5, 160, 900)
    pan = [window(world, 12.0 * n) for n in range(20)]
    lamp = [np.clip(window(world, n) * (0.4 if n < 10 else 1.0), 0, 255).astype(np.uint8) for n in range(20)]
    fade = [np.clip(window(world, n) * (1 - n / 20), 0, 255).astype(np.uint8) for n in range(20)]
    still = [window(world, 0)] * 20
    noise = np.random.default_rng(0)
    grain = [np.clip(window(world, 0) + noise.normal(0, 12, (112, 150, 3)), 0, 255).astype(np.uint8)] * 20
    for frames in (pan, lamp, fade, still, grain):
        assert measured(frames).cuts() == []


def test_one_frame_and_tiny_frames() -> None:
    assert measured([scene(0)]).motion([0.0]) == [0.0]
    tiny = [np.full((2, 4, 3), level, np.uint8) for level in (0, 90, 255)]
    assert measured(tiny).motion([0, 1, 2]) == pytest.approx([0, 0, 0], abs=0.5)
