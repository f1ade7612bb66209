"""Pictures for people: the wheel that torchvision has, colours back to sRGB as in skimage, thumbnails."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from skimage.color import lab2rgb
from torchvision.utils import flow_to_image

from mmssl.pictures import (
    depth_picture,
    flow_picture,
    normals_picture,
    segmentation_picture,
    side_by_side,
    sight_picture,
)
from mmssl.shards import encode
from mmssl.shards.pictures import thumbnail
from mmssl.sights import SIGHTS
from mmssl.stream.views.colour_spaces import colours


@dataclass(frozen=True)
class Seen:
    sees: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def seen(sees: str, channels: int | None = None) -> Seen:
    given = SIGHTS[sees]
    count = channels or len(given.mean)
    return Seen(sees, (given.mean * count)[:count], (given.std * count)[:count])


def normalised(x: torch.Tensor, shown: Seen) -> torch.Tensor:
    return (x - torch.tensor(shown.mean).view(-1, 1, 1)) / torch.tensor(shown.std).view(-1, 1, 1)


def test_flow_has_the_colours_of_torchvision() -> None:
    """Theirs lays 55 colours on 54 steps; a step of the wheel is at most 64 levels of a channel."""
    y, x = torch.meshgrid(torch.linspace(-3, 3, 90), torch.linspace(-3, 3, 90), indexing="ij")
    flow = torch.stack([x, y])
    ours, theirs = flow_picture(flow).int(), flow_to_image(flow).int()
    assert (ours - theirs).abs().max() < 64
    assert (ours - theirs).abs().float().mean() < 4


@pytest.mark.parametrize(
    ("u", "v", "colour"),
    [
        (1, 0, (255, 0, 0)),
        (0, 1, (255, 255, 0)),
        (-1, 0, (0, 209, 255)),
        (0, -1, (116, 0, 255)),
        (0, 0, (255,) * 3),
    ],
)
def test_directions_have_their_hues(u: float, v: float, colour: tuple[int, int, int]) -> None:
    flow = torch.tensor([u, v], dtype=torch.float32).view(2, 1, 1)
    found = flow_picture(flow, longest=1.0).flatten().tolist()
    assert np.abs(np.subtract(found, colour)).max() <= 24


def test_unknown_flow_is_black_and_the_longest_vector_is_full() -> None:
    flow = torch.tensor([[[5.0, float("nan"), 2.5]], [[0.0, 1.0, 0.0]]])
    assert flow_picture(flow)[:, 0].T.tolist() == [[255, 0, 0], [0, 0, 0], [255, 128, 128]]
    assert flow_picture(torch.full((2, 2, 2), float("nan"))).max() == 0
    assert flow_picture(torch.zeros(2, 2, 2)).min() == 255


def test_depth_goes_from_blue_to_red_and_missing_is_black() -> None:
    depth = torch.linspace(1, 20, 200).view(1, 1, 200).repeat(1, 4, 1)
    depth[0, 0, :50] = 0
    picture = depth_picture(depth)
    near, far = picture[:, 1, 4].int(), picture[:, 1, -60].int()
    assert near[0] > near[2] and far[2] > far[0]  # noqa: PT018
    assert (picture[:, 0, :50] == 0).all() and picture[:, 0, 50:].any(0).all()  # noqa: PT018
    assert depth_picture(torch.zeros(1, 3, 3)).max() == 0
    level = depth_picture(torch.full((1, 3, 3), 2.0))
    assert (level == level[:, :1, :1]).all() and level.max() > 0  # noqa: PT018


def test_normals_look_as_normal_maps_do() -> None:
    right_up_facing = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, 0]]).T[:, None]
    wanted = [[255, 128, 128], [128, 255, 128], [128, 128, 255], [0, 0, 0]]
    assert normals_picture(right_up_facing)[:, 0].T.tolist() == wanted


def test_classes_have_different_colours_of_their_own() -> None:
    ids = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    colour = segmentation_picture(ids).flatten(1).T
    assert colour[0].tolist() == [0, 0, 0]
    assert colour[255].tolist() == [224, 224, 224]
    assert len(colour.unique(dim=0)) == 256
    first = colour[:39].int()
    apart = (first[:, None] - first[None]).abs().sum(2) + 999 * torch.eye(39, dtype=torch.int32)
    assert apart.min() > 30


def test_lightness_and_colours_become_srgb_as_in_skimage() -> None:
    rgb = torch.randint(0, 256, (2, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for name in ("L", "ab"):
        x, shown = colours(name, rgb), seen(name)
        lab = torch.cat(
            [x, torch.zeros(2, 2, 20, 20)] if name == "L" else [torch.full((2, 1, 20, 20), 65.0), x], 1
        )
        with warnings.catch_warnings(action="ignore"):  # of colours that sRGB lacks
            wanted = lab2rgb(lab.permute(0, 2, 3, 1).double().numpy())
        found = sight_picture(shown, normalised(x, shown)).permute(0, 2, 3, 1).numpy()
        exists = (wanted > 0).all(3) & (wanted < 1).all(3)
        assert exists.mean() > 0.2
        assert np.abs(found - wanted)[exists].max() < 2e-3


@pytest.mark.parametrize(("grey", "colour"), [("Y", "CbCr"), ("O3", "O12")])
def test_split_colours_are_what_they_were_split_from(grey: str, colour: str) -> None:
    """Colours of middling lightness come back whole, all others shifted along the grey axis."""
    rgb = torch.randint(80, 176, (3, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    x, light = colours(colour, rgb), colours(grey, rgb)
    shown = seen(colour)
    found = sight_picture(shown, normalised(x, shown))
    middle = 0.5 * (3**0.5 if grey == "O3" else 1)
    shift = (light - middle) / (3**0.5 if grey == "O3" else 1)
    torch.testing.assert_close(found, rgb / 255 - shift, atol=1e-5, rtol=0)
    plain = sight_picture(seen(grey), normalised(light, seen(grey)))
    assert torch.equal(plain[:, 0], plain[:, 2])
    torch.testing.assert_close(plain[:, :1], light / (3**0.5 if grey == "O3" else 1), atol=1e-5, rtol=0)


def test_maps_as_encoders_see_them_look_like_the_maps() -> None:
    rng = np.random.default_rng(0)
    metres = torch.from_numpy(rng.uniform(1, 9, (1, 8, 8)).astype(np.float32))
    metres[:, :2] = 0
    known = (metres > 0).float()
    log = torch.where(metres > 0, metres, 2.0).log()
    shown = seen("depth")
    found = sight_picture(shown, normalised(torch.cat([log, known])[None], shown))[0]
    assert (found * 255 - depth_picture(metres)).abs().max() <= 3
    flow = torch.from_numpy(rng.normal(0, 0.1, (1, 4, 8, 8)).astype(np.float32))
    shown = seen("flow", 4)
    found = sight_picture(shown, normalised(flow, shown))[0]
    assert (found * 255 - flow_picture(flow[0, :2])).abs().max() <= 1
    ids = torch.from_numpy(rng.integers(0, 5, (1, 8, 8)).astype(np.uint8))
    ids[0, 0] = 255
    one_hot = (ids == torch.arange(4).view(4, 1, 1)).float()
    found = sight_picture(seen("segmentation", 4), one_hot[None])[0]
    assert torch.equal(found * 255, segmentation_picture(torch.where(ids == 4, 255, ids)).float())


def test_of_a_clip_the_frame_in_the_middle_is_shown() -> None:
    clip = torch.rand(2, 5, 3, 8, 8)
    shown = seen("rgb")
    frames = sight_picture(shown, normalised(clip, shown))
    torch.testing.assert_close(frames, clip[:, 2])
    sheet = side_by_side({"a": shown}, {"a": normalised(clip, shown), "present": torch.ones(2, 1).bool()})
    assert torch.equal(sheet, frames)


def test_thumbnails_have_the_same_colours_however_flow_is_stored() -> None:
    y, x = np.mgrid[:32, :48] / 8
    flow = np.dstack([x - 3, y - 2])
    flow[:5] = np.nan
    wanted = flow_picture(torch.from_numpy(flow).permute(2, 0, 1)).permute(1, 2, 0).int().numpy()
    jpg = encode.flow_jpeg(flow)
    stored = {
        "png": encode.flow_png(flow),
        "jpg": jpg,
        "mkv": encode.flow_mkv([jpg] * 3, [0, 0.1, 0.2], (48, 32)),
    }
    for extension, data in stored.items():
        found = np.asarray(thumbnail("flow_backward", data, 48)).astype(int)
        assert np.abs(found - wanted).max() <= (12 if extension != "png" else 3), extension


def test_thumbnails_of_maps_are_their_pictures() -> None:
    rng = np.random.default_rng(1)
    depth = rng.integers(0, 4000, (9, 12)) / 1000
    normals = rng.normal(size=(9, 12, 3))
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    normals[0] = 0
    ids = rng.integers(0, 256, (9, 12)).astype(np.uint8)
    for field, data, picture in (
        ("depth", encode.depth_png(depth), depth_picture(torch.from_numpy(depth)[None])),
        ("normals", encode.normals_png(normals), normals_picture(torch.from_numpy(normals).permute(2, 0, 1))),
        ("segmentation", encode.segmentation_png(ids), segmentation_picture(torch.from_numpy(ids)[None])),
    ):
        found = np.asarray(thumbnail(field, data, 12)).astype(int)
        assert np.abs(found - picture.permute(1, 2, 0).int().numpy()).max() <= 1, field
    with pytest.raises(ValueError, match="expected uint16"):
        thumbnail("depth", encode.segmentation_png(ids), 12)
    with pytest.raises(ValueError, match="expected an 8-bit index image"):
        thumbnail("segmentation", encode.normals_png(normals), 12)
