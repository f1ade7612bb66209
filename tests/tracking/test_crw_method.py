"""CRW as a method: nodes of patches and of cells, what it leaves, what it asks; and its ResNet."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from mmssl.errors import MmsslError
from mmssl.losses.random_walk import cycle_loss, round_trips
from mmssl.methods import DataInfo, build_method
from mmssl.methods.tracking.crw import CRW
from mmssl.models.artifact import load_encoder, save_encoder
from mmssl.models.encoder import Encoder, EncoderConfig, build_encoder
from mmssl.models.feature_map import FeatureMap
from mmssl.stream.batch import Batch

pytestmark = pytest.mark.usefixtures("one_thread")

NET = {
    "image_size": 32, "stem": "small_stride2",
    "kwargs": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]},
}  # fmt: skip


def tiny_crw(**settings: Any) -> CRW:
    torch.manual_seed(0)
    encoder = NET | settings.pop("encoder", {})
    config = {"name": "crw", "patch": 16, "step": 8, "width": 12, "encoder": encoder, **settings}
    method = build_method(config, DataInfo(samples=10, fields=frozenset({"video"})))
    assert isinstance(method, CRW)
    return method


def noise_clips(b: int = 2, t: int = 4, nodes: str = "patches", seed: int = 0) -> Batch:
    """Each frame a slightly different noise than the one before: nodes can be told apart."""
    generator = torch.Generator().manual_seed(seed)
    shape, name = ((9, 3, 16, 16), "nodes") if nodes == "patches" else ((3, 32, 32), "frames")
    first = torch.randn(b, 1, *shape, generator=generator)
    frames = first + 0.3 * torch.randn(b, t, *shape, generator=generator)
    return Batch(clip={name: frames}, id=torch.arange(b))


def test_every_patch_is_encoded_on_its_own_and_keeps_its_place() -> None:
    method, batch = tiny_crw().eval(), noise_clips()
    h, q = method.embed(batch.clip)
    assert q.shape == (2, 4, 9, 12)
    torch.testing.assert_close(q.norm(dim=-1), torch.ones(2, 4, 9))
    for b, t, n in ((0, 0, 0), (1, 2, 5), (1, 3, 8)):
        alone = method.encoder(batch.clip["nodes"][b, t, n][None])[0]
        torch.testing.assert_close(h[b, t, n], alone)


def test_cells_are_those_of_the_feature_map_row_by_row() -> None:
    method, batch = tiny_crw(nodes="cells").eval(), noise_clips(nodes="cells")
    h, q = method.embed(batch.clip)
    assert q.shape == (2, 4, 64, 12)
    maps = method.encoder.feature_map(batch.clip["frames"][1])
    for t, row, column in ((0, 0, 3), (2, 5, 1)):
        torch.testing.assert_close(h[1, t, row * 8 + column], maps[t, :, row, column])


@pytest.mark.parametrize("nodes", ["patches", "cells"])
def test_the_loss_is_the_mean_over_walks_of_two_and_more_frames(nodes: str) -> None:
    method, batch = tiny_crw(nodes=nodes, frames=5, dropout=0.0), noise_clips(t=5, nodes=nodes)
    loss = method(batch)
    method.train()
    with torch.no_grad():
        walks = list(round_trips(method.embed(batch.clip)[1], 0.05))
    expected = sum(float(cycle_loss(p)) for p in walks[1:]) / 3
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-4)
    assert set(loss.parts) == {f"{name}_{k}" for name in ("loss", "cycle") for k in (1, 2, 3, 4)}
    loss.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


def test_edges_are_dropped_in_training_only() -> None:
    batch = noise_clips()
    method = tiny_crw(dropout=0.3).eval()
    with torch.no_grad():
        assert float(method(batch).total) == float(method(batch).total)
        method.train()
        assert float(method(batch).total) != float(method(batch).total)
        torch.manual_seed(5)
        first = float(method(batch).total)
        torch.manual_seed(5)
        assert float(method(batch).total) == first


def test_it_asks_for_every_length_whether_walks_come_back() -> None:
    answers = tiny_crw().eval().pretext(noise_clips())
    assert list(answers) == ["cycle_1", "cycle_2", "cycle_3"]
    for k, answer in enumerate(answers.values(), 1):
        assert answer.values.shape == (2 * 9,)
        assert answer.chance == pytest.approx(1 / 9)
        assert (answer.curve, answer.at) == ("cycle", k)
        assert "9 patches" in answer.protocol


def test_a_few_steps_on_a_batch_teach_it_the_batch() -> None:
    method, batch = tiny_crw(dropout=0.0), noise_clips(seed=1)
    optimizer = torch.optim.Adam(method.parameters(), lr=2e-3)
    losses = []
    for _ in range(15):
        loss = method(batch)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
    assert losses[-1] < 0.2 * losses[0]
    assert loss.parts["cycle_3"] > 0.8  # of 9 nodes


def test_under_autocast_the_walk_stays_in_float32() -> None:
    method, batch = tiny_crw(dropout=0.0), noise_clips()
    full = method(batch).total.detach()
    with torch.autocast("cpu", torch.bfloat16):
        half = method(batch).total
    half.backward()
    assert half.dtype == torch.float32
    assert float(half.detach()) == pytest.approx(float(full), rel=0.1)


def test_pictures_show_the_patches_of_the_first_frame_and_those_found_for_them() -> None:
    method, batch = tiny_crw().eval(), noise_clips()
    batch.clip["nodes"] = batch.clip["nodes"][:, :1].repeat(1, 4, 1, 1, 1, 1)  # nothing moves
    pictures = method.pictures(batch)
    assert set(pictures) == {"patch", "found"}
    assert pictures["patch"].shape == (9, 3, 16, 16)
    assert 0 <= pictures["found"].min() <= pictures["found"].max() <= 1


def test_it_leaves_an_image_encoder_whose_stages_can_be_looked_at(tmp_path: Path) -> None:
    encoder = tiny_crw().eval().encoders()["image"]
    save_encoder(encoder, tmp_path, {})
    loaded = load_encoder(tmp_path)
    assert isinstance(loaded, Encoder)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        for stage in (3, None):
            a, b = FeatureMap(encoder, stage)(x), FeatureMap(loaded.eval(), stage)(x)
            assert a.shape == (1, 16, 8, 8)
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"frames": 2}, "frames"),
        ({"temperature": 0}, "temperature"),
        ({"dropout": 1.0}, "dropout"),
        ({"patch": 30}, "2 × 2"),
        ({"nodes": "pixels"}, "nodes"),
        ({"encoder": {"name": "vit_tiny_patch16_224", "stem": "default", "kwargs": {}}}, "cells"),
        ({"encoder": {"kwargs": {"padding": "circular"}}}, "padding"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(MmsslError, match=words):
        tiny_crw(**settings)


def test_what_a_recipe_leaves_out_of_the_encoder_is_the_papers() -> None:
    config = CRW.Config(encoder={"image_size": 64}, augmentation={"flip": 0.0})
    assert config.encoder == EncoderConfig(name="resnet18_stride8", image_size=64)
    assert config.augmentation is not None
    assert config.augmentation.scale == (0.5, 1.0)


def test_a_transformer_walks_on_its_patch_tokens() -> None:
    vit = {"name": "vit_tiny_patch16_224", "stem": "default", "kwargs": {"depth": 1}}
    method = tiny_crw(nodes="cells", encoder=vit)
    _, q = method.embed(noise_clips(nodes="cells").clip)
    assert q.shape == (2, 4, 4, 12)


def test_the_resnet_is_resnet18_with_two_strides_taken_away() -> None:
    """Against timm's own, whose strides are set by hand: same names of weights, same maps."""
    torch.manual_seed(0)
    plain = timm.create_model("resnet18", num_classes=0).eval()
    for module in (*plain.layer3.modules(), *plain.layer4.modules()):
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    net = timm.create_model("resnet18_stride8", padding="zeros", num_classes=0).eval()
    net.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = net.forward_features(x)
        assert maps.shape == (1, 512, 8, 8)
        torch.testing.assert_close(maps, plain.forward_features(x))
    assert [info["reduction"] for info in net.feature_info] == [2, 4, 8, 8, 8]


def test_reflections_hide_where_the_border_is_and_zeros_tell() -> None:
    even = torch.full((1, 3, 64, 64), 0.7)
    spread = {}
    for padding in ("reflect", "zeros"):
        for stem in ("default", "small_stride2"):
            config = EncoderConfig(name="resnet18_stride8", stem=stem, kwargs={"padding": padding})
            torch.manual_seed(0)
            with torch.no_grad():
                maps = build_encoder(config).eval().feature_map(even)
            spread[padding, stem] = float(maps.flatten(2).std(dim=2).max() / maps.abs().max())
    assert spread["reflect", "default"] < 1e-5
    assert spread["reflect", "small_stride2"] < 1e-5
    assert spread["zeros", "default"] > 0.01
    assert spread["zeros", "small_stride2"] > 0.01
