"""Cutting any modality: closed forms, brute force, torch's own filter, and what mirroring does to vectors."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from mmssl.shards.normals import normals_from_depth
from mmssl.stream.views.crops import crop_resize
from mmssl.stream.views.geometry import cut, largest_square, scaled

KINDS = ("image", "depth", "normals", "segmentation", "flow")


def picture(kind: str, height: int, width: int, seed: int, missing: float = 0.3) -> torch.Tensor:
    """A random picture of a modality, some of it unknown."""
    rng = np.random.default_rng(seed)
    gone = rng.random((height, width)) < missing
    if kind == "image":
        x = rng.integers(0, 256, (3, height, width), dtype=np.uint8)
    elif kind == "segmentation":
        x = np.where(gone, 255, rng.integers(0, 7, (1, height, width))).astype(np.uint8)
    elif kind == "depth":
        x = np.where(gone, 0, rng.uniform(0.3, 9, (1, height, width))).astype(np.float32)
    elif kind == "normals":
        x = rng.normal(size=(3, height, width))
        x = np.where(gone, 0, x / np.linalg.norm(x, axis=0)).astype(np.float32)
    else:
        x = np.where(gone, np.nan, rng.normal(0, 4, (2, height, width))).astype(np.float32)
    return torch.from_numpy(x)


@st.composite
def boxes(draw, whole: bool = False):
    """A picture's height and width, and a box inside it."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    if whole:
        h, w = draw(st.integers(1, height)), draw(st.integers(1, width))
        return height, width, (draw(st.integers(0, height - h)), draw(st.integers(0, width - w)), h, w)
    h, w = draw(st.floats(0.2, height)), draw(st.floats(0.2, width))
    return height, width, (draw(st.floats(0, height - h)), draw(st.floats(0, width - w)), h, w)


def test_whole_pictures_stay_as_they_are() -> None:
    for kind in KINDS:
        x = picture(kind, 9, 9, seed=1)
        torch.testing.assert_close(cut(kind, x, (0, 0, 9, 9), 9, False), x, equal_nan=True)


@given(st.sampled_from(KINDS), st.integers(1, 30), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_mirroring_twice_changes_nothing(kind: str, side: int, seed: int) -> None:
    x = picture(kind, side, side, seed)
    once = cut(kind, x, (0, 0, side, side), side, True)
    torch.testing.assert_close(cut(kind, once, (0, 0, side, side), side, True), x, equal_nan=True)
    signs = {"normals": [-1, 1, 1], "flow": [-1, 1]}.get(kind, [1] * len(x))
    mirrored = torch.stack([plane.flip(1) * sign for plane, sign in zip(x, signs, strict=True)])
    torch.testing.assert_close(once, mirrored.to(x.dtype), equal_nan=True)


@given(st.sampled_from(("depth", "normals", "flow")), boxes(), st.integers(1, 24), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_mirroring_the_picture_mirrors_the_cut(kind: str, drawn, size: int, seed: int) -> None:
    height, width, (top, left, h, w) = drawn
    x = picture(kind, height, width, seed, missing=0.0)
    other = x.flip(2)
    if kind != "depth":
        other[0] = -other[0]
    mirrored_box = (top, width - left - w, h, w)
    torch.testing.assert_close(
        cut(kind, x, (top, left, h, w), size, False), cut(kind, other, mirrored_box, size, True),
        atol=2e-3, rtol=1e-3,
    )  # fmt: skip


@given(boxes(whole=True), st.integers(1, 50), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_known_maps_are_resampled_as_torch_does(drawn, size: int, seed: int) -> None:
    height, width, (top, left, h, w) = drawn
    x = picture("depth", height, width, seed, missing=0.0)
    part = x[None, :, top : top + h, left : left + w]
    wanted = F.interpolate(part, (size, size), mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(cut("depth", x, (top, left, h, w), size, False), wanted, atol=1e-4, rtol=1e-4)


@given(boxes(), st.integers(1, 12), st.integers(0, 99), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_only_known_depth_counts(drawn, size: int, seed: int, missing: float) -> None:
    """By hand: the weighted mean of the known pixels under a triangle, known if half of its weight is."""
    height, width, box = drawn
    x = picture("depth", height, width, seed, missing)
    found = cut("depth", x, box, size, False)[0].double().numpy()
    weights = [
        _triangle(start, length, end, size)
        for start, length, end in zip(box[:2], box[2:], (height, width), strict=True)
    ]
    for i in range(size):
        for j in range(size):
            both = np.outer(weights[0][i], weights[1][j])
            known = x[0].numpy() > 0
            share = both[known].sum() / both.sum()
            if abs(share - 0.5) < 1e-3:  # rounding may fall on either side
                continue
            mean = (both * x[0].numpy())[known].sum() / both[known].sum() if share > 0.5 else 0
            assert found[i, j] == pytest.approx(mean, rel=1e-3, abs=1e-4)


def _triangle(start: float, length: float, end: int, size: int) -> list[np.ndarray]:
    scale = length / size
    rows = []
    for i in range(size):
        centre = start + (i + 0.5) * scale
        row = np.array([max(0.0, 1 - abs(j + 0.5 - centre) / max(scale, 1.0)) for j in range(end)])
        row[: math.floor(start + 1e-6)] = 0
        row[math.ceil(start + length - 1e-6) :] = 0
        if row.sum() == 0:
            row[min(math.floor(start + 1e-6), end - 1)] = 1
        rows.append(row)
    return rows


@given(boxes(), st.integers(1, 20), st.integers(0, 99), st.floats(0, 1), st.booleans())
@settings(max_examples=80, deadline=None)
def test_what_comes_out_is_of_the_same_kind(drawn, size: int, seed: int, missing: float, flip: bool) -> None:
    height, width, box = drawn
    for kind in KINDS:
        x = picture(kind, height, width, seed, missing)
        found = cut(kind, x, box, size, flip)
        assert found.shape == (len(x), size, size)
        assert found.dtype == x.dtype
        assert found.is_contiguous()
        if kind == "depth":
            least, most = (x[x > 0].min(), x.max()) if (x > 0).any() else (0, 0)
            assert ((found == 0) | ((found > least - 1e-4) & (found < most + 1e-4))).all()
        if kind == "normals":
            length = found.norm(dim=0)
            assert ((length == 0) | ((length - 1).abs() < 1e-5)).all()
        if kind == "segmentation":
            assert set(found.unique().tolist()) <= set(x.unique().tolist())
        if kind == "flow":
            assert (found.isfinite().all(0) | found.isnan().all(0)).all()


@given(boxes(), st.integers(1, 20), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_labels_are_those_of_the_nearest_pixels(drawn, size: int, seed: int) -> None:
    height, width, (top, left, h, w) = drawn
    x = picture("segmentation", height, width, seed)
    found = cut("segmentation", x, (top, left, h, w), size, False)
    for i in range(size):
        for j in range(size):
            row = min(int(top + (i + 0.5) * h / size), height - 1)
            column = min(int(left + (j + 0.5) * w / size), width - 1)
            assert found[0, i, j] == x[0, row, column]


@pytest.mark.parametrize("box", [(0, 0, 60, 80), (5.25, 11.5, 40, 55.75), (30, 2, 12, 9), (8, 8, 32, 32)])
@pytest.mark.parametrize("size", [16, 32, 75])
@pytest.mark.parametrize("flip", [False, True])
def test_affine_maps_have_a_closed_form(box, size: int, flip: bool) -> None:
    """A plane of depth, a flow that grows with the place: their values at the centres of the new pixels."""
    y, x = np.mgrid[:60, :80] + 0.5
    depth = torch.from_numpy((2 + 0.03 * x + 0.05 * y)[None].astype(np.float32))
    flow = torch.from_numpy(np.stack([1 + 0.1 * x - 0.2 * y, -2 + 0.05 * x + 0.1 * y]).astype(np.float32))
    top, left, h, w = box
    row, column = top + (np.arange(size) + 0.5) * h / size, left + (np.arange(size) + 0.5) * w / size
    at_y, at_x = np.meshgrid(row, column[::-1] if flip else column, indexing="ij")
    inside = (np.abs(at_y - top - h / 2) < h / 2 - max(1, h / size)) & (
        np.abs(at_x - left - w / 2) < w / 2 - max(1, w / size)
    )
    # Shrinking between whole scales, a triangle over whole pixels is off its centre by hundredths of a pixel.
    off = 0.06 if max(h, w) > size else 1e-3
    found = cut("depth", depth, box, size, flip)[0].numpy()
    assert np.abs(found - (2 + 0.03 * at_x + 0.05 * at_y))[inside].max() < 0.08 * off
    u, v = cut("flow", flow, box, size, flip).numpy()
    sign = -1 if flip else 1
    assert np.abs(u - sign * (1 + 0.1 * at_x - 0.2 * at_y) * size / w)[inside].max() < 0.3 * off * size / w
    assert np.abs(v - (-2 + 0.05 * at_x + 0.1 * at_y) * size / h)[inside].max() < 0.15 * off * size / h


@given(
    st.floats(-4, 4), st.floats(-4, 4), st.floats(0, 15), st.floats(0, 15), st.floats(30, 48),
    st.floats(30, 48), st.integers(24, 96), st.booleans(),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_the_flow_of_a_shift_still_leads_to_the_same_things(u, v, top, left, h, w, size, flip) -> None:
    y, x = np.mgrid[:64, :64] + 0.5
    h, w, top, left = round(h), round(w), round(top), round(left)

    def scene(x, y):
        waves = [np.sin(0.23 * x + 0.11 * y), np.sin(0.19 * y - 0.07 * x), np.cos(0.13 * x + 0.17 * y)]
        return torch.from_numpy(np.rint(127 + 100 * np.stack(waves)).astype(np.uint8))

    box = (top, left, h, w)
    first = cut("image", scene(x, y), box, size, flip).double().numpy()
    second = cut("image", scene(x - u, y - v), box, size, flip).double().numpy()
    flow = torch.tensor([u, v], dtype=torch.float32).view(2, 1, 1).expand(2, 64, 64)
    du, dv = cut("flow", flow, box, size, flip).double().numpy()
    rows, columns = np.mgrid[:size, :size]
    to_y, to_x = rows + dv, columns + du
    margin = 2 * max(1.0, size / min(h, w))
    inside = (np.minimum(to_x, to_y) > margin) & (np.maximum(to_x, to_y) < size - 1 - margin)
    inside &= (np.minimum(rows, columns) > margin) & (np.maximum(rows, columns) < size - 1 - margin)
    for a, b in zip(first, second, strict=True):
        warped = map_coordinates(b, [to_y, to_x], order=1)
        assert np.abs(warped - a)[inside].max(initial=0) < 6


def test_mirrored_depth_has_mirrored_normals() -> None:
    side = 48
    y, x = np.mgrid[:side, :side]
    depth = (2 + 0.01 * x + 0.02 * y + 0.1 * np.sin(x / 9)).astype(np.float32)
    depth[10:14, 20:30] = 0
    intrinsics = np.array([[50, 0, (side - 1) / 2], [0, 50, (side - 1) / 2], [0, 0, 1.0]])
    whole = (0, 0, side, side)
    normals = torch.from_numpy(normals_from_depth(depth, intrinsics).transpose(2, 0, 1).astype(np.float32))
    mirrored = cut("depth", torch.from_numpy(depth)[None], whole, side, True)[0].numpy()
    of_mirrored = torch.from_numpy(normals_from_depth(mirrored, intrinsics).transpose(2, 0, 1))
    assert (normals[0].abs() > 0.01).any()
    torch.testing.assert_close(
        cut("normals", normals, whole, side, True).double(), of_mirrored.double(), atol=1e-4, rtol=1e-4
    )


def test_images_are_cut_at_whole_pixels_by_the_house_kernel(photographs) -> None:
    image = photographs[0]
    at = np.array([[[20, 33, 151, 140]]])
    wanted = crop_resize([image], at, 96, np.array([[True]]))[0, 0]
    assert torch.equal(cut("image", image, (20.4, 32.6, 150.8, 140.1), 96, True), wanted)
    tiny = cut("image", image, (299.9, 259.9, 0.05, 0.05), 2, False)
    assert torch.equal(tiny, image[:, -1:, -1:].expand(3, 2, 2))


def test_boxes_are_the_same_share_of_pictures_of_any_size() -> None:
    assert scaled((10, 20, 30, 40), 0.5, 0.25) == (5, 5, 15, 10)
    assert largest_square(480, 640) == (0, 80, 480, 480)
    assert largest_square(7, 4) == (1, 0, 4, 4)
