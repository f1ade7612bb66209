"""The views as the stream calls them: shapes, ranges, determinism, odd input, presets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv
from view_tools import MEAN, STD, make_draws

from mmssl.config import parse
from mmssl.errors import MmsslError
from mmssl.stream.views.centre import CentreCrop
from mmssl.stream.views.contrastive import ContrastiveAugmentation, ContrastiveViews
from mmssl.stream.views.masked import RandomCrop

PRESETS = {
    "simclr": (ContrastiveAugmentation.simclr(),) * 2,
    "small": (ContrastiveAugmentation.small_images(),) * 2,
    "moco_v1": (ContrastiveAugmentation.moco_v1(),) * 2,
    "moco_v2": (ContrastiveAugmentation.moco_v2(),) * 2,
    "moco_v3": ContrastiveAugmentation.moco_v3(),
}


def make(view, images, draws) -> torch.Tensor:
    return view.finish(view.prepare(images, draws), draws)


def all_views(size: int) -> list:
    contrastive = [ContrastiveViews(size, preset, MEAN, STD) for preset in PRESETS.values()]
    return [*contrastive, RandomCrop(size, MEAN, STD), CentreCrop(size, MEAN, STD)]


@pytest.mark.parametrize("preset", PRESETS)
def test_shape_type_and_range(photographs, preset: str) -> None:
    view = ContrastiveViews(48, PRESETS[preset], MEAN, STD)
    draws = make_draws(range(40))
    cropped = view.prepare(photographs * 10, draws)
    assert cropped.shape == (40, 2, 3, 48, 48)
    assert cropped.dtype == torch.uint8
    x = view.finish(cropped, draws)
    assert x.shape == cropped.shape
    assert x.dtype == torch.float32
    raw = x * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    assert raw.min() > -1e-4
    assert raw.max() < 1 + 1e-4
    assert not torch.equal(x[:, 0], x[:, 1])


@pytest.mark.parametrize("index", range(len(PRESETS) + 2))
def test_a_sample_gets_the_same_view_in_any_batch(photographs, index: int) -> None:
    """Alone, among others, in another place: the same pixels; in another pass: other ones."""
    view = all_views(40)[index]
    ids = np.array([11, 3, 2**33 + 5, 40, 12, 13, 14, 15])
    images = photographs * 2
    draws = make_draws(ids, passes=4)
    together = make(view, images, draws)
    for i in range(len(ids)):
        alone = make(view, images[i : i + 1], make_draws(ids[i : i + 1], passes=4))
        torch.testing.assert_close(alone[0], together[i], atol=1e-4, rtol=0)
    assert torch.equal(make(view, images, draws), together)
    reversed_ = make(view, images[::-1], make_draws(ids[::-1], passes=4))
    torch.testing.assert_close(reversed_.flip(0), together, atol=1e-4, rtol=0)
    later = make(view, images, make_draws(ids, passes=5))
    assert torch.equal(later, together) == isinstance(view, CentreCrop)


def test_large_batches_are_worked_on_in_parts_with_the_same_result() -> None:
    """96 pixels: more samples than one part holds."""
    view = ContrastiveViews(96, PRESETS["moco_v3"], MEAN, STD)
    draws = make_draws(range(90))
    x = torch.randint(0, 256, (90, 2, 3, 96, 96), dtype=torch.uint8)
    together = view.finish(x, draws)
    for part in (slice(0, 7), slice(30, 45), slice(80, 90)):
        torch.testing.assert_close(view.finish(x[part], draws.rows(part)), together[part], atol=1e-4, rtol=0)


def test_shares_of_grey_blur_solarisation_and_flip() -> None:
    count = 2000
    ramp = torch.stack([torch.arange(16).expand(16, 16) * k for k in (5, 9, 14)]).to(torch.uint8)
    images = [ramp] * count
    still = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "jitter": 0.0, "grey": 0.0, "blur": 0.0, "flip": 0.0}
    draws = make_draws(range(count))

    def share(update: dict, changed) -> float:
        view = ContrastiveViews(16, [ContrastiveAugmentation(**(still | update))], (0, 0, 0), (1, 1, 1))
        return float(changed(make(view, images, draws)[:, 0]).float().mean())

    plain = ramp.float() / 255
    different = lambda x: (x - plain).abs().amax((1, 2, 3)) > 1e-4  # noqa: E731
    assert share({}, different) == 0
    assert share({"flip": 0.5}, lambda x: x[:, 0, 0, 0] > x[:, 0, 0, -1]) == pytest.approx(0.5, abs=0.05)
    assert share({"grey": 0.2}, lambda x: (x[:, 0] - x[:, 2]).abs().amax((1, 2)) < 1e-4) == pytest.approx(
        0.2, abs=0.04
    )
    assert share({"blur": 0.3, "blur_sigma": (1.0, 2.0)}, different) == pytest.approx(0.3, abs=0.05)
    assert share({"solarise": 0.2}, different) == pytest.approx(0.2, abs=0.04)
    assert share({"jitter": 0.8}, different) == pytest.approx(0.8, abs=0.04)


def test_an_asymmetric_pair_treats_its_views_differently(photographs) -> None:
    first, second = ContrastiveAugmentation.moco_v3()
    assert (first.blur, first.solarise) == (1.0, 0.0)
    assert (second.blur, second.solarise) == (0.1, 0.2)
    assert first.model_copy(update={"blur": 0.1, "solarise": 0.2}) == second
    x = make(ContrastiveViews(64, (first, second), MEAN, STD), photographs * 20, make_draws(range(80)))
    roughness = (x[..., 1:] - x[..., :-1]).abs().mean((0, 2, 3, 4))
    assert roughness[0] < 0.8 * roughness[1]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(1, 60), st.integers(1, 60)),
            st.sampled_from([(1, 1), (1, 900), (900, 1), (2, 1), (500, 3)]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([1, 2, 7, 32, 65]),
)
def test_images_of_any_size_make_every_view(sizes: list[tuple[int, int]], size: int) -> None:
    images = [torch.full((3, h, w), 200, dtype=torch.uint8) for h, w in sizes]
    draws = make_draws(range(len(sizes)))
    for view in all_views(size):
        x = make(view, images, draws)
        assert x.shape[0] == len(sizes)
        assert x.shape[-3:] == (3, size, size)
        assert x.isfinite().all()


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
def test_centre_crop_is_that_of_torchvision(photographs, kernel: str) -> None:
    view = CentreCrop(112, MEAN, STD, kernel=kernel)
    assert view.resize == 128
    ours = view.prepare(photographs, make_draws(range(4)))
    for i, image in enumerate(photographs):
        resized = tv.resize(image.contiguous().float(), [128], interpolation=kernel, antialias=True)
        expected = tv.center_crop(resized.clamp(0, 255), [112, 112])
        difference = (ours[i].float() - expected).abs()
        assert difference.max() <= (8 if kernel == "bicubic" else 1.01)  # see the crops' test
        assert (difference > 1.01).float().mean() <= 0.005
        assert difference.mean() <= 0.5


def test_small_images_of_the_right_size_are_evaluated_as_they_are() -> None:
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(CentreCrop(32, MEAN, STD).prepare(list(images), make_draws(range(5))), images)


def test_a_very_long_image_is_cut_before_it_is_enlarged() -> None:
    image = torch.zeros(3, 2, 60000, dtype=torch.uint8)
    image[:, :, 29990:30010] = 200
    x = CentreCrop(64, MEAN, STD).prepare([image], make_draws([0]))
    assert (x == 200).all()


def test_bad_settings_are_refused_with_their_name() -> None:
    for bad in ({"scale": (0.5, 0.2)}, {"scale": (0.5, 2.0)}, {"grey": 1.5}, {"hue": 0.7}, {"blurr": 1}):
        with pytest.raises(MmsslError, match=next(iter(bad))):
            parse(ContrastiveAugmentation, bad, "recipe.yaml", "augmentation")
    with pytest.raises(MmsslError, match="expected at least 1"):
        ContrastiveViews(32, (), MEAN, STD)


def test_presets_are_the_papers() -> None:
    simclr = ContrastiveAugmentation.simclr(0.5)
    assert (simclr.brightness, simclr.contrast, simclr.saturation, simclr.hue) == (0.4, 0.4, 0.4, 0.1)
    assert (simclr.scale, simclr.jitter, simclr.grey, simclr.blur) == ((0.08, 1.0), 0.8, 0.2, 0.5)
    v2 = ContrastiveAugmentation.moco_v2()
    assert (v2.scale, v2.brightness, v2.hue, v2.blur) == ((0.2, 1.0), 0.4, 0.1, 0.5)
    assert ContrastiveAugmentation.moco_v1().blur == 0
    assert ContrastiveAugmentation.small_images().blur == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_the_gpu_finishes_as_the_cpu_does(photographs) -> None:
    view = ContrastiveViews(64, PRESETS["moco_v3"], MEAN, STD)
    draws = make_draws(range(40))
    x = view.prepare(photographs * 10, draws)
    on_gpu = view.finish(x.cuda(), draws)
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), view.finish(x, draws), atol=1e-2, rtol=0)
