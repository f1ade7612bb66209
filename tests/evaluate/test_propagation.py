"""Label propagation against plain loops in float64, and maps against networks built for the size."""

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_propagation import Colours, colours, unit
from torch.nn.functional import normalize

from mmssl.errors import MmsslError
from mmssl.evaluate.propagation import propagate as module
from mmssl.evaluate.propagation.maps import Maps
from mmssl.evaluate.propagation.propagate import PRESETS, propagate
from mmssl.evaluate.propagation.shard_set import Decoded
from mmssl.models.encoder import Encoder, EncoderConfig, build_encoder

CPU = torch.device("cpu")


def by_loops(maps, labels, rule):
    """The definition, one cell after the other."""
    maps = [m.double().numpy() for m in maps]
    known = [labels.double().numpy()]
    _, height, width = maps[0].shape
    for t in range(1, len(maps)):
        near = list(range(max(0, t - rule.previous), t)) if rule.previous else []
        if rule.first_anywhere:
            context = [(0, True)] + [(s, False) for s in near if s > 0 or rule.repeat_first]
        else:
            context = [(0, False)] + [(s, False) for s in near if s > 0]
        if rule.repeat_first:
            context += [(0, False)] * max(0, rule.previous - len(near))
        found = np.zeros_like(known[0])
        for y in range(height):
            for x in range(width):
                heard = []
                for s, anywhere in context:
                    for v in range(height):
                        for u in range(width):
                            if rule.window == "square":
                                inside = max(abs(y - v), abs(x - u)) <= rule.radius
                            else:
                                inside = np.hypot(y - v, x - u) < rule.radius
                            if inside or anywhere:
                                similarity = maps[t][:, y, x] @ maps[s][:, v, u]
                                heard.append((similarity, known[s][:, v, u]))
                heard = sorted(heard, key=lambda pair: -pair[0])[: rule.k]
                if heard:
                    weights = np.exp([similarity / rule.temperature for similarity, _ in heard])
                    found[:, y, x] = sum(w * label for w, (_, label) in zip(weights, heard, strict=True))
                    found[:, y, x] /= weights.sum()
        known.append(found)
    return known[1:]


@settings(max_examples=25, deadline=None)
@given(data=st.data(), preset=st.sampled_from(["dino", "crw"]))
def test_labels_are_carried_as_plain_loops_carry_them(data, preset):
    height, width = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 7))
    rule = PRESETS[preset].model_copy(
        update={
            "previous": data.draw(st.integers(0, 3)), "k": data.draw(st.integers(1, 6)),
            "radius": data.draw(st.integers(0, 4)), "temperature": data.draw(st.sampled_from([0.05, 0.5])),
        }
    )  # fmt: skip
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    maps = [unit(rng, 5, height, width) for _ in range(4)]
    labels = torch.from_numpy(rng.random((3, height, width))).float()
    kept, module.TILE = module.TILE, data.draw(st.sampled_from([2, 3, 16]))
    try:
        found = list(propagate(maps, labels, rule))
    finally:
        module.TILE = kept
    for ours, theirs in zip(found, by_loops(maps, labels, rule), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)


def test_the_first_frame_is_not_heard_twice_where_it_is_still_among_the_previous():
    """DINO's queue begins empty: at the second frame the first is the only context, once."""
    rng = np.random.default_rng(0)
    maps, labels = [unit(rng, 4, 3, 3) for _ in range(2)], torch.rand(2, 3, 3)
    rule = PRESETS["dino"].model_copy(update={"k": 9, "temperature": 1e6})
    (found,) = propagate(maps, labels, rule)
    means = labels.mean(dim=(1, 2), keepdim=True).expand_as(found)
    torch.testing.assert_close(found, means)  # of all nine cells alike


@pytest.mark.parametrize("preset", ["dino", "crw"])
def test_features_that_know_every_cell_carry_labels_exactly(preset):
    height, width = 20, 23
    ids = torch.eye(height * width).reshape(height * width, height, width)
    shifts = [(0, 0), (1, -2), (3, 1), (2, 4), (0, 3)]
    maps = [ids.roll(shift, dims=(1, 2)) for shift in shifts]
    labels = torch.nn.functional.one_hot(torch.randint(0, 4, (height, width)), 4).permute(2, 0, 1).float()
    rule = PRESETS[preset].model_copy(update={"temperature": 0.01})
    for shift, found in zip(shifts[1:], propagate(maps, labels, rule), strict=True):
        down, across = shift
        inner = slice(max(0, down), height + min(0, down)), slice(max(0, across), width + min(0, across))
        wanted = labels.roll(shift, dims=(1, 2))
        # What wraps around jumps further than the window; it comes from the first frame or not at all.
        assert torch.equal(found.argmax(0)[inner], wanted.argmax(0)[inner])


def test_a_cell_hears_nobody_beyond_the_radius():
    height, width = 1, 30
    same = torch.ones(1, height, width)
    labels = torch.zeros(2, height, width)
    labels[0], labels[0, 0, 0], labels[1, 0, 0] = 1, 0, 1
    rule = PRESETS["dino"].model_copy(update={"radius": 3, "k": 100, "previous": 0})
    (found,) = propagate([same, same], labels, rule)
    assert (found[1, 0, :4] > 0).all()
    assert (found[1, 0, 4:] == 0).all()
    disc = rule.model_copy(update={"window": "disc"})
    (found,) = propagate([same, same], labels, disc)
    assert (found[1, 0, :3] > 0).all()
    assert (found[1, 0, 3:] == 0).all()


def test_labels_stay_shares_and_more_context_than_there_is_does_no_harm():
    rng = np.random.default_rng(3)
    maps = [unit(rng, 6, 9, 11) for _ in range(5)]
    labels = torch.rand(4, 9, 11)
    labels /= labels.sum(0)
    for preset in PRESETS.values():
        for found in propagate(maps, labels, preset):
            torch.testing.assert_close(found.sum(0), torch.ones(9, 11))


def test_maps_of_a_stage_cover_the_frame_in_cells():
    encoder = build_encoder(EncoderConfig(name="resnet10t", image_size=64)).eval()
    frames = Decoded(torch.randint(0, 256, (5, 3, 50, 70), dtype=torch.uint8), "noise")
    maps = Maps(encoder, 1, 8, CPU)
    assert (maps.cell, maps.pooled) == (8, 2)
    size = maps.size((50, 70), None, square=False)
    assert size == (48, 72)
    found = list(maps(frames, (50, 70), size))
    assert len(found) == 5
    assert {one.shape[1:] for one in found} == {maps.grid(size)} == {(6, 9)}
    torch.testing.assert_close(found[4].norm(dim=0), torch.ones(6, 9))
    assert maps.size((480, 854), 480, square=False) == (480, 856)
    assert maps.size((240, 320), 320, square=True) == (320, 320)
    assert maps.size((3, 3), None, square=False) == (8, 8)


def test_maps_show_what_the_network_says_of_normalised_pixels():
    encoder = build_encoder(EncoderConfig(name="resnet10t", image_size=64)).eval()
    frames = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    maps = Maps(encoder, None, 8, CPU)
    assert maps.cell == 32
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (encoder.mean, encoder.std))
    with torch.inference_mode():
        wanted = encoder.backbone.forward_features((frames / 255 - mean) / std)
    (found,) = maps(Decoded(frames, "one"), (64, 96), (64, 96))
    torch.testing.assert_close(found, normalize(wanted, dim=1)[0], rtol=1e-4, atol=1e-5)


def test_strides_are_measured_because_small_stems_are_not_in_tables():
    for stem, cell in (("default", 8), ("small", 2), ("small_stride2", 4)):
        encoder = build_encoder(EncoderConfig(name="resnet10t", stem="default", image_size=32))
        if stem != "default":
            encoder = build_encoder(EncoderConfig(name="resnet18", stem=stem, image_size=32))
        assert Maps(encoder.eval(), 2, 1, CPU).cell == cell


@pytest.mark.parametrize("stage", [None, 0])
def test_a_transformer_is_set_to_the_size_of_the_frames_and_stays_as_it_was(stage):
    arguments = {"patch_size": 8, "depth": 2, "embed_dim": 48, "num_heads": 3}
    config = EncoderConfig(name="vit_tiny_patch16_224", image_size=32, kwargs=arguments)
    encoder = build_encoder(config).eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    maps = Maps(encoder, stage, 8, CPU)
    frames = torch.randint(0, 256, (1, 3, 48, 80), dtype=torch.uint8)
    found = {
        size: next(iter(maps(Decoded(frames, "one"), (48, 80), size)))
        for size in ((48, 80), (32, 32), (40, 48))
    }
    assert found[48, 80].shape == (48, 6, 10)
    other = timm.create_model(config.name, num_classes=0, img_size=32, dynamic_img_size=True, **arguments)
    other.load_state_dict(encoder.backbone.state_dict())
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (encoder.mean, encoder.std))
    with torch.inference_mode():
        wanted = other.eval().forward_intermediates(
            (frames / 255 - mean) / std, indices=[1 if stage is None else stage], norm=stage is None,
            intermediates_only=True,
        )[0][0]  # fmt: skip
    torch.testing.assert_close(found[48, 80], normalize(wanted, dim=0), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_a_network_that_cannot_change_its_size_is_named():
    config = EncoderConfig(name="mixer_s16_224", image_size=224)
    encoder = Encoder(config, Colours(4))
    with pytest.raises(MmsslError, match=r"mixer_s16_224 takes images of 224 px only"):
        Maps(encoder, None, 8, CPU)


def test_frames_that_change_size_are_named():
    class Growing(Decoded):
        def __getitem__(self, number):
            return super().__getitem__(number)[:, : 16 if number < 5 else 12]

    maps = Maps(colours(), None, 4, CPU)
    frames = Growing(torch.zeros(7, 3, 16, 16, dtype=torch.uint8), "growing")
    with pytest.raises(MmsslError, match="growing: frame 5 is 16x12 pixels; expected 16x16"):
        list(maps(frames, (16, 16), (16, 16)))
