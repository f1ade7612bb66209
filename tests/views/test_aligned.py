"""Aligned views: everything shows the same place, in its own units; what is missing is zero and marked."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sight_samples import CLASSES, EVERY, arrays, batch_of, sample_of, sight
from view_tools import make_draws

from mmssl.errors import MmsslError
from mmssl.pictures import side_by_side
from mmssl.stream.batch import Batch
from mmssl.stream.sample import Unreadable
from mmssl.stream.views.aligned import AlignedViews, CropFlip, SightView
from mmssl.stream.views.clip_augmentation import ClipAugmentation
from mmssl.stream.views.colour_spaces import colours


def plain(x: torch.Tensor, shown) -> torch.Tensor:
    """Without the normalisation."""
    return x * torch.tensor(shown.std).view(-1, 1, 1) + torch.tensor(shown.mean).view(-1, 1, 1)


def seen_by(sights, augmentation, pictures, id_=0, pass_=0):
    view = AlignedViews(sights, augmentation)
    batch = batch_of(view, [sample_of(pictures, id_, pass_)], make_draws)
    return {name: plain(batch[name], shown)[0] for name, shown in sights.items()}, batch


@pytest.mark.parametrize("coarse", [1, 2, 4])
@pytest.mark.parametrize("id_", range(4))
def test_every_sight_shows_the_same_place(coarse: int, id_: int) -> None:
    """The image says where each pixel is; all others, also of lower resolution, must agree with it."""
    fine, small = arrays(96, 128), arrays(96 // coarse, 128 // coarse)
    sights = {name: sight(name, 32) for name in ("rgb", "depth", "normals", "segmentation", "flow")}
    seen, batch = seen_by(sights, CropFlip(), {**small, "image": fine["image"]}, id_)
    assert batch["present"].all()
    inner = (slice(2, -2), slice(2, -2))
    x, y = seen["rgb"][0][inner], seen["rgb"][1][inner]
    flipped = bool(x[:, -1].mean() < x[:, 0].mean())
    width, height = (float((plane.max() - plane.min()) * 32 / 27) for plane in (x, y))
    assert 0.3 < width <= 1.05 and 0.3 < height <= 1.05  # noqa: PT018
    pixel = coarse / 96
    assert (seen["depth"][0][inner].exp() - (1 + 4 * x + 2 * y)).abs().max() < 4 * pixel
    assert (seen["depth"][1] == 1).all()
    turn = 2 * (x - 0.5) * (-1 if flipped else 1)
    assert (seen["normals"][0][inner] - turn.sin()).abs().max() < 3 * pixel
    assert (seen["normals"][2][inner] + turn.cos()).abs().max() < 3 * pixel
    classes = seen["segmentation"].argmax(0)[inner]
    assert (classes - (x * CLASSES - 0.5)).abs().max() < 0.5 + CLASSES * 1.5 * pixel
    # in sides of the view: as stored, over the stored width of the crop
    u = (60 * x - 30) / (width * 128 / coarse) * (-1 if flipped else 1)
    v = (60 * y - 30) / (height * 96 / coarse)
    for found, wanted in ((seen["flow"][0][inner], u), (seen["flow"][1][inner], v)):
        assert (found - wanted).abs().max() < 0.1 * wanted.abs().max() + 0.02


def test_crops_and_flips_differ_between_samples_and_passes_and_repeat() -> None:
    sights = {name: sight(name) for name in EVERY}
    view = AlignedViews(sights, CropFlip())
    samples = [sample_of(arrays(60, 80), id_, pass_) for id_, pass_ in ((0, 0), (1, 0), (0, 1), (2, 5))]
    together = batch_of(view, samples, make_draws)
    for number, sample in enumerate(samples):
        alone = batch_of(view, [sample], make_draws)
        for name in EVERY:
            assert torch.equal(alone[name][0], together[name][number]), name
    for name in set(EVERY) - {"segmentation"}:
        for a in range(4):
            for b in range(a):
                assert not torch.equal(together[name][a], together[name][b])
    other = AlignedViews(sights, CropFlip())
    seed = make_draws([0], 0, seed=8, name="views")
    moved = other.finish(other.prepare([other.read(samples[0], seed)], seed), seed)
    assert not torch.equal(moved["rgb"][0], together["rgb"][0])


def test_colours_are_derived_from_the_same_crop() -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    sights = {name: sight(name, 40) for name in ("rgb", "L", "ab", "Y", "CbCr", "O3", "O12")}
    seen, _ = seen_by(sights, CropFlip(), {"image": image}, id_=5)
    pixels = (seen["rgb"] * 255).round().to(torch.uint8)[None]
    for name in sights:
        torch.testing.assert_close(seen[name], colours(name, pixels)[0], atol=2e-4, rtol=1e-4)


def test_without_augmentation_it_is_the_largest_square_in_the_centre() -> None:
    sights = {name: sight(name, 96) for name in EVERY}
    pictures = arrays(96, 128)
    seen, _ = seen_by(sights, None, pictures)
    middle = slice(16, 112)
    torch.testing.assert_close(
        seen["rgb"], torch.from_numpy(pictures["image"][:, middle]).permute(2, 0, 1) / 255, atol=1e-6, rtol=0
    )
    depth = torch.from_numpy(pictures["depth"][:, middle]).float()
    torch.testing.assert_close(seen["depth"][0].exp(), depth, atol=6e-4, rtol=0)
    assert torch.equal(
        seen["segmentation"].argmax(0), torch.from_numpy(pictures["segmentation"][:, middle]).long()
    )
    flow = torch.from_numpy(pictures["flow"][:, middle]).permute(2, 0, 1).float() / 96
    torch.testing.assert_close(seen["flow"], flow, atol=1e-4, rtol=0)


def test_a_sight_alone_is_that_of_the_aligned_look() -> None:
    pictures = arrays(40, 64)
    both = {name: sight(name) for name in EVERY}
    together = batch_of(AlignedViews(both, None), [sample_of(pictures)], make_draws)
    for name in EVERY:
        view = SightView(sight(name, optional=True))
        item = view.read(sample_of(pictures), make_draws([0]))
        alone = view.finish(view.prepare([item], make_draws([0])), make_draws([0]))
        assert torch.equal(alone, together[name])
        assert view.fields == (both[name].field,)
        assert view.optional == ()
    with pytest.raises(Unreadable, match="depth: absent"):
        SightView(sight("depth", optional=True)).read(
            sample_of({"image": pictures["image"]}), make_draws([0])
        )


def test_what_a_sample_lacks_is_zero_and_marked() -> None:
    names = ("rgb", "depth", "normals", "segmentation", "flow")
    sights = {name: sight(name, optional=name != "rgb") for name in names}
    view = AlignedViews(sights, CropFlip())
    assert view.fields == ("image",)
    assert view.optional == ("depth", "normals", "segmentation", "flow")
    full = arrays(40, 50)
    only = [sample_of({"image": full["image"], name: full[name]}, i) for i, name in enumerate(names[1:])]
    batch = batch_of(view, [sample_of(full, 9), *only, sample_of({"image": full["image"]}, 7)], make_draws)
    wanted = torch.eye(5, dtype=torch.bool)
    wanted[0], wanted[:, 0] = True, True
    assert torch.equal(batch["present"], torch.cat([wanted, wanted[:1] & (torch.arange(5) == 0)]))
    for column, name in enumerate(names):
        shown = batch[name].flatten(1).abs().sum(1) > 0
        assert torch.equal(shown, batch["present"][:, column]), name
        assert batch[name].isfinite().all()
    nobody = batch_of(view, only[:0] + [sample_of({"image": full["image"]}, i) for i in (1, 2)], make_draws)
    assert {name: x.shape for name, x in nobody.items()} == {
        **{name: (2, s.channels, 24, 24) for name, s in sights.items()}, "present": (2, 5),
    }  # fmt: skip


def test_unknown_pixels_are_zeros_and_a_crop_without_known_ones_is_absent() -> None:
    pictures = arrays(48, 48)
    hole = np.zeros((48, 48), bool)
    hole[:, 24:] = True
    pictures["depth"][hole], pictures["normals"][hole], pictures["flow"][hole] = 0, 0, np.nan
    pictures["segmentation"][hole] = 255
    sights = {name: sight(name, 48) for name in ("depth", "normals", "segmentation", "flow")}
    seen, batch = seen_by(sights, None, pictures)
    assert batch["present"].all()
    assert torch.equal(seen["depth"][1], torch.from_numpy(~hole).float())
    for name in sights:
        assert (batch[name][..., 24:] == 0).all(), name
        assert (batch[name][..., :24].abs().sum(1) > 0).any(), name
    # Crops of a tenth of the area: some of them fall into the hole.
    small = CropFlip(scale=(0.1, 0.1), ratio=(1, 1))
    view = AlignedViews({**sights, "rgb": sight("rgb")}, small)
    batch = batch_of(view, [sample_of(pictures, i) for i in range(40)], make_draws)
    known = batch["depth"][:, 1].flatten(1).any(1)
    assert 0 < known.sum() < 40
    for column in range(4):
        assert torch.equal(batch["present"][:, column], known)
    assert batch["present"][:, 4].all()


@pytest.mark.parametrize("name", ["depth", "normals", "segmentation", "flow"])
def test_a_picture_without_a_known_pixel_is_refused_or_absent(name: str) -> None:
    pictures = arrays(20, 20)
    pictures[name] = np.full_like(pictures[name], {"flow": np.nan, "segmentation": 255}.get(name, 0))
    sights = {"rgb": sight("rgb"), name: sight(name)}
    with pytest.raises(Unreadable, match=f"{name}: no pixel of it is known"):
        AlignedViews(sights, None).read(sample_of(pictures), make_draws([0]))
    batch = batch_of(
        AlignedViews({**sights, name: sight(name, optional=True)}, None), [sample_of(pictures)], make_draws
    )
    assert batch["present"].tolist() == [[True, False]]


def test_faults_name_the_field_and_what_was_expected() -> None:
    pictures = arrays(40, 60)
    view = AlignedViews({"rgb": sight("rgb"), "depth": sight("depth")}, CropFlip())
    draws = make_draws([0])
    with pytest.raises(Unreadable, match=r"depth: 40x40 pixels beside image of 60x40"):
        view.read(sample_of({**pictures, "depth": pictures["depth"][:, :40]}), draws)
    view.read(sample_of({**pictures, "depth": pictures["depth"][:, :59]}), draws)  # within 2 %
    with pytest.raises(Unreadable, match="depth: absent; the sample has image"):
        view.read(sample_of({"image": pictures["image"]}), draws)
    classes = AlignedViews({"s": sight("segmentation"), "rgb": sight("rgb")}, CropFlip())
    pictures["segmentation"][3, 3] = CLASSES + 3
    with pytest.raises(Unreadable, match=rf"class id {CLASSES + 3}; expected 0 … 5 of {CLASSES} classes"):
        classes.read(sample_of(pictures), draws)
    some = AlignedViews({"depth": sight("depth", optional=True), "flow": sight("flow", optional=True)}, None)
    with pytest.raises(Unreadable, match="depth: absent, like all of depth, flow"):
        some.read(sample_of({"image": pictures["image"]}), draws)


def test_sights_of_videos_are_refused() -> None:
    two = sight("flow")
    stack = type(two)(two.sees, two.field, two.size, 4, two.mean * 2, two.std * 2)
    clip = type(two)("rgb", "image", 24, 3, (0.5,) * 3, (0.5,) * 3, frames=8)
    for shown, what in ((stack, "'x': 2 flow fields"), (clip, "'x': a clip")):
        with pytest.raises(MmsslError, match=what):
            AlignedViews({"x": shown}, None)


def test_fields_are_decoded_once_and_cut_once_for_each_size() -> None:
    sights = {
        "rgb": sight("rgb", 32),
        "L": sight("L", 32),
        "ab": sight("ab", 16),
        "right": sight("L", field="image_right"),
    }
    view = AlignedViews(sights, CropFlip())
    assert view.fields == ("image", "image_right")
    pictures = arrays(40, 40)
    item = view.read(sample_of({**pictures, "image_right": pictures["image"]}), make_draws([0]))
    assert set(item.pixels) == {("image", 32), ("image", 16), ("image_right", 24)}


def test_batches_can_be_cut_and_joined() -> None:
    view = AlignedViews({name: sight(name) for name in EVERY}, CropFlip())
    samples = [sample_of(arrays(30, 30), i) for i in range(4)]
    made = view.prepare([view.read(s, make_draws([s.id])) for s in samples], make_draws(range(4)))
    batch = Batch(id=torch.arange(4), views=made)
    draws = make_draws(range(4))
    whole = view.finish(made, draws)
    parts = [view.finish(part.views, draws) for part in batch.chunks(2)]
    for name, x in whole.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), x)


def test_augmentations_that_make_no_sense_are_refused() -> None:
    for key, value in (
        ("scale", (0.5, 0.2)),
        ("ratio", (2, 1)),
        ("scale", (0, 1)),
        ("scale", (0.1, 1.5)),
        ("flip", 1.5),
    ):
        with pytest.raises(ValidationError, match=key):
            CropFlip(**{key: value})


def test_side_by_side_shows_all_and_greys_what_is_absent() -> None:
    sights = {name: sight(name, 16 if name == "depth" else 24, optional=name != "rgb") for name in EVERY}
    pictures = arrays(30, 30)
    view = AlignedViews(sights, None)
    batch = batch_of(view, [sample_of(pictures), sample_of({"image": pictures["image"]}, 1)], make_draws)
    sheet = side_by_side(sights, batch)
    assert sheet.shape == (2, 3, 24, 24 * len(EVERY))
    assert sheet.min() >= 0 and sheet.max() <= 1  # noqa: PT018
    torch.testing.assert_close(sheet[..., :24], plain(batch["rgb"], sights["rgb"]), atol=1e-5, rtol=0)
    absent = torch.cat([sheet[1, :, :, 24 * EVERY.index(name) :][..., :24] for name in EVERY[7:]])
    assert (absent == 0.5).all()


def test_colours_of_rgb_alone_may_change() -> None:
    """The same crop with and without them: rgb differs, and nothing else does."""
    sights = {name: sight(name) for name in EVERY}
    bright = ClipAugmentation(scale=(0.2, 1.0), jitter=1.0, brightness=0.5, grey=0.0, blur=0.0)
    plainly, _ = seen_by(sights, CropFlip(), arrays(60, 80))
    coloured, _ = seen_by(sights, bright, arrays(60, 80))
    changed = [name for name in EVERY if not torch.equal(plainly[name], coloured[name])]
    assert changed == [name for name, shown in sights.items() if shown.sees == "rgb"]
    assert changed


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_as_many_samples_are_mirrored_as_asked(share: float) -> None:
    pictures = arrays(30, 30)
    view = AlignedViews({"rgb": sight("rgb")}, CropFlip(flip=share))
    red = batch_of(view, [sample_of(pictures, i) for i in range(200)], make_draws)["rgb"][:, 0]
    mirrored = (red[:, :, 0].mean(1) > red[:, :, -1].mean(1)).float().mean()
    assert abs(mirrored - share) < 0.12  # three standard deviations of 200 tosses
    if share in (0.0, 1.0):
        assert mirrored == share
