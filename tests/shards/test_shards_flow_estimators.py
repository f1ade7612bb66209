"""Estimators against known motion, the consistency check against its formula, and weights that are none."""

import pickle
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import map_coordinates
from torchvision.models.optical_flow import raft_small

from mmssl.errors import MmsslError
from mmssl.miniworld import MiniworldConfig, clip
from mmssl.shards.bad_input import BadInput
from mmssl.shards.flow import Estimator, FlowOptions, estimate_flow, estimators
from mmssl.shards.flow.estimators import Dis, Fields, consistent

CHOICES: list[dict[str, Any]] = [
    {"estimator": "dis", "preset": "ultrafast"},
    {"estimator": "dis", "preset": "fast"},
    {"estimator": "dis"},
    {"estimator": "farneback"},
]


def scene(height: int = 128, width: int = 160, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8 texture of several scales."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.random((height // n, width // n, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
        for n in (8, 16, 32)
    ]
    return np.clip(np.mean(layers, axis=0) * 255, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("shift", [(3, 0), (0, -2), (-4, 3)])
def test_a_shift_has_its_sign_and_length(choice: dict[str, Any], shift: tuple[int, int]) -> None:
    """x right, y down, from the first frame to the second, in pixels."""
    wide = scene(160, 200)
    before = wide[16:-16, 20:-20]
    after = wide[16 - shift[1] :, 20 - shift[0] :][:128, :160]
    flow = estimate_flow(FlowOptions.model_validate(choice))(before, after)
    assert flow.shape == (128, 160, 2)
    assert flow.dtype == np.float32
    np.testing.assert_allclose(np.median(flow[16:-16, 16:-16], axis=(0, 1)), shift, atol=0.25)


def test_reduced_flow_is_in_its_own_pixels() -> None:
    wide = scene(160, 200)
    pair = wide[:128, :160], wide[8:136, 12:172]
    flow = estimate_flow(FlowOptions(short_side=64))(*pair)
    assert flow.shape == (64, 80, 2)
    np.testing.assert_allclose(np.median(flow, axis=(0, 1)), (-6, -4), atol=0.15)
    assert estimate_flow(FlowOptions(short_side=512))(*pair).shape == (128, 160, 2), "never enlarged"


def test_estimates_come_near_the_truth_of_miniworld() -> None:
    """The nearer, the slower the preset; the default is nearer than no motion at all, which is small here."""
    worlds = [clip("val", index, MiniworldConfig(size=128)) for index in range(3)]
    errors = []
    for choice in CHOICES[:3]:
        flow = estimate_flow(FlowOptions.model_validate(choice))
        found = [flow(w.frames[at], w.frames[at + 1]) - w.flow[at] for w in worlds for at in (0, 5, 10)]
        errors.append(np.mean([np.linalg.norm(each, axis=2).mean() for each in found]))
    still = np.mean([np.linalg.norm(w.flow, axis=-1).mean() for w in worlds])
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.9 * still


def test_consistency_is_the_formula_of_its_source() -> None:
    """Against loops over pixels and scipy's interpolation, in double precision."""
    rng = np.random.default_rng(0)
    there = (cv2.resize(rng.normal(0, 6, (4, 5, 2)), (37, 29)) + rng.normal(0, 0.1, (29, 37, 2))).astype(
        np.float32
    )
    back = (-there + rng.normal(0, 0.6, there.shape)).astype(np.float32)
    expected = np.zeros((29, 37), bool)
    for y in range(29):
        for x in range(37):
            u, v = there[y, x].astype(float)
            if not (0 <= x + u <= 36 and 0 <= y + v <= 28):
                continue
            home = [
                map_coordinates(back[..., c].astype(float), [[y + v], [x + u]], order=1)[0] for c in (0, 1)
            ]
            error = (u + home[0]) ** 2 + (v + home[1]) ** 2
            expected[y, x] = error < 0.01 * (u**2 + v**2 + home[0] ** 2 + home[1] ** 2) + 0.5
    found = consistent(there, back)
    assert 0.1 < expected.mean() < 0.9
    # cv2.remap rounds places to 1/32 of a pixel, so pixels at the threshold may differ
    assert (found == expected).mean() > 0.98


def test_what_is_hidden_is_inconsistent() -> None:
    """The pixels that a moving square covers next have no partner; most of the others have."""
    ground, square = scene(seed=1), scene(48, 48, seed=2)
    frames = []
    for left in (40, 56):
        frame = ground.copy()
        frame[40:88, left : left + 48] = square
        frames.append(frame)
    flow = estimate_flow(FlowOptions(consistency=True))(frames[0], frames[1])
    unknown = np.isnan(flow).any(axis=2)
    assert unknown[44:84, 89:103].mean() > 0.8, "covered"
    assert unknown[44:84, 44:80].mean() < 0.1
    assert unknown[:30].mean() < 0.1
    fields = Fields(FlowOptions(consistency=True, backward=True))
    there, back = fields.between(*map(fields.prepare, frames))
    np.testing.assert_array_equal(there, flow)
    assert back is not None
    assert np.nanmedian(back[44:84, 60:100, 0]) == pytest.approx(-16, abs=0.5)


def test_threads_of_opencv_come_back_and_do_not_matter() -> None:
    frames = [cv2.cvtColor(scene(seed=seed), cv2.COLOR_RGB2GRAY) for seed in range(2)]
    expected = Dis("medium").between(*frames)
    usual = cv2.getNumThreads()
    cv2.setNumThreads(2)
    found: list[np.ndarray] = []
    try:
        threads = [Thread(target=lambda: found.append(Dis("medium").between(*frames))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(usual)
    for flow in found:
        np.testing.assert_array_equal(flow, expected)


class Broken(Estimator):
    def between(self, before: Any, after: Any) -> np.ndarray:
        flow = np.zeros((*before.shape, 2), np.float32)
        flow[3, 4] = np.inf
        return flow


def test_flow_that_is_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimators, "make_estimator", lambda options: Broken())
    with pytest.raises(BadInput, match="flow of dis is not finite"):
        estimate_flow(FlowOptions())(scene(), scene())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"estimator": "dis", "preset": "small"}, "medium, fast, ultrafast"),
        ({"estimator": "farneback", "preset": "fast"}, "none"),
        ({"estimator": "raft"}, "weights"),
        ({"weights": "raft.pth"}, "weights"),
        ({"estimator": "tvl1"}, "estimator"),
        ({"gap": 0}, "gap"),
        ({"quality": 50}, "quality"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FlowOptions.model_validate(options)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a small RAFT that has learnt nothing."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "small.pth"
    torch.save(raft_small(weights=None).state_dict(), path)
    return path


@pytest.mark.usefixtures("one_thread")
def test_raft_is_torchvisions(weights: Path) -> None:
    """The same numbers as the network by hand where no padding is needed; any size elsewhere."""
    flow = estimate_flow(FlowOptions(estimator="raft", weights=str(weights)))
    pair = scene(128, 136), scene(128, 136, seed=1)
    network = raft_small(weights=None).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    x = [torch.from_numpy(frame).permute(2, 0, 1)[None] / 255 * 2 - 1 for frame in pair]
    with torch.no_grad():
        expected = network(*x)[-1][0].permute(1, 2, 0).numpy()
    if torch.cuda.is_available():
        assert np.isfinite(flow(*pair)).all()
    else:
        np.testing.assert_allclose(flow(*pair), expected, rtol=1e-4, atol=1e-3)
    assert flow(scene(70, 133), scene(70, 133, seed=1)).shape == (70, 133, 2)


def test_weights_that_are_none(weights: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "trapped",))

    (tmp_path / "trap.pth").write_bytes(pickle.dumps(Trap(), protocol=2))
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    for path, preset, words in (
        (tmp_path / "absent.pth", "small", "no such file; expected the state dict"),
        (weights, "large", "no state dict of torchvision's raft_large"),
        (tmp_path / "trap.pth", "small", "no state dict"),
        (tmp_path / "noise.safetensors", "small", "no state dict"),
    ):
        options = FlowOptions.model_validate({"estimator": "raft", "preset": preset, "weights": str(path)})
        with pytest.raises(MmsslError, match=words):
            estimate_flow(options)
    assert not (tmp_path / "trapped").exists()
