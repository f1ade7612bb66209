"""Estimators on the pairs of Middlebury whose flow is public, and how such flow is stored."""

import gzip
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mmssl.shards import encode
from mmssl.shards.flow import FlowOptions, estimate_flow
from mmssl.stream.decode import decode

ROOT = Path(os.environ.get("MMSSL_REAL_DATA", ""))

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("MMSSL_REAL_DATA" not in os.environ, reason="MMSSL_REAL_DATA is not set"),
]


def pair(name: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Two frames in RGB, and the true flow (H, W, 2), NaN where it is unknown."""
    folder = ROOT / "flow" / "middlebury" / name
    frames = [cv2.cvtColor(cv2.imread(str(folder / f"frame{at}.png")), cv2.COLOR_BGR2RGB) for at in (10, 11)]
    data = gzip.decompress((folder / "flow10.flo.gz").read_bytes())
    width, height = np.frombuffer(data, "<i4", 2, 4)
    truth = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).copy()
    truth[np.abs(truth) > 1e9] = np.nan
    return frames, truth


@pytest.mark.parametrize("name", ["Grove2", "RubberWhale", "Venus"])
@pytest.mark.parametrize(
    ("choice", "bound"),
    [
        ({}, 0.45),
        ({"preset": "fast"}, 0.65),
        ({"preset": "ultrafast"}, 0.8),
        ({"estimator": "farneback"}, 1.6),
    ],
)
def test_end_point_errors(name: str, choice: dict[str, Any], bound: float) -> None:
    """Mean over known pixels; no flow at all is off by 1.1 to 4 px."""
    frames, truth = pair(name)
    flow = estimate_flow(FlowOptions.model_validate(choice))(*frames)
    error = np.nanmean(np.linalg.norm(flow - truth, axis=2))
    assert error < bound
    assert error < 0.5 * np.nanmean(np.linalg.norm(truth, axis=2))


@pytest.mark.parametrize("name", ["Grove2", "RubberWhale", "Venus"])
def test_consistency_keeps_the_better_pixels(name: str) -> None:
    frames, truth = pair(name)
    flow = estimate_flow(FlowOptions(consistency=True))(*frames)
    kept = np.isfinite(flow).all(axis=2)
    every = np.linalg.norm(estimate_flow(FlowOptions())(*frames) - truth, axis=2)
    assert 0.7 < kept.mean() < 1
    assert np.nanmean(every[kept]) < np.nanmean(every[~kept])


@pytest.mark.parametrize("name", ["Grove2", "RubberWhale", "Venus"])
def test_the_truth_is_stored_closely_and_its_gaps_exactly(name: str) -> None:
    _, truth = pair(name)
    back = decode("flow", "jpg", encode.flow_jpeg(truth)).permute(1, 2, 0).numpy()
    assert (np.isnan(back) == np.isnan(truth).any(axis=2, keepdims=True)).all()
    assert np.nanmean(np.linalg.norm(back - truth, axis=2)) < 0.05
