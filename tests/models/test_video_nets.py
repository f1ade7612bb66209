"""Video networks against torchvision and timm, sizes that are published, and what may see what."""

import itertools
import math

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torchvision.models import ResNet, video
from torchvision.models.resnet import BasicBlock

from mmssl.errors import MmsslError
from mmssl.models.artifact import load_encoder, save_encoder
from mmssl.models.batch_norm import GlobalBatchNorm, globalise
from mmssl.models.clip import build_clip_encoder
from mmssl.models.clip.r2d3d import R2D3D
from mmssl.models.clip.recurrent import Recurrent, RecurrentConfig
from mmssl.models.clip.video_net import VideoNet, VideoNetConfig
from mmssl.models.clip.video_vit import VideoViT, VideoViTConfig
from mmssl.models.layout import channels_last
from mmssl.models.patches import tubelets, untubelets
from mmssl.models.positions import sincos_space_time

LAPTOP = VideoNetConfig(
    name="r2d3d",
    frames=5,
    image_size=48,
    layers=(1, 1, 1, 1),
    channels=(16, 32, 64, 128),
    stem="small_stride2",
    norm="group",
)
VIT = VideoViTConfig(frames=4, image_size=16, patch=8, width=24, depth=2, heads=2, stride=0.1)


@pytest.mark.parametrize(
    ("name", "weights", "classifier"),
    [
        ("r3d_18", video.R3D_18_Weights.DEFAULT, 512 * 400 + 400),
        ("mc3_18", video.MC3_18_Weights.DEFAULT, 512 * 400 + 400),
        ("r2plus1d_18", video.R2Plus1D_18_Weights.DEFAULT, 512 * 400 + 400),
        ("s3d", video.S3D_Weights.DEFAULT, 1024 * 400 + 400),
    ],
)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_sizes_are_the_published_ones_without_the_classifier(name, weights, classifier, norm):
    with torch.device("meta"):
        net = VideoNet(VideoNetConfig(name=name, norm=norm))
    assert sum(p.numel() for p in net.parameters()) == weights.meta["num_params"] - classifier


@pytest.mark.parametrize(("name", "suffix"), [("mc3_18", ".pth"), ("s3d", ".safetensors")])
def test_torchvisions_weights_give_torchvisions_features(name, suffix, tmp_path):
    reference = getattr(video, name)(weights=None).eval()
    path = tmp_path / f"kinetics{suffix}"
    state = reference.state_dict()
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    ours = build_clip_encoder(VideoNetConfig(name=name, weights=str(path), frames=8, image_size=32)).eval()
    clips = torch.randn(2, 8, 3, 32, 32)
    volumes = clips.transpose(1, 2)
    if name == "s3d":
        expected = reference.features(volumes).mean(dim=(2, 3, 4))
    else:
        reference.fc = nn.Identity()
        expected = reference(volumes)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips), expected, rtol=1e-3, atol=1e-5)
    with pytest.raises(MmsslError, match="another network than video_net"):
        build_clip_encoder(LAPTOP.model_copy(update={"weights": str(path)}))


def test_on_a_single_frame_r2d3d_is_the_resnet_of_its_slices():
    """With one frame a 3×3×3 kernel meets zeros before and after: only its middle slice acts."""
    net = R2D3D((1, 2, 1, 1), (64, 128, 256, 512), "default").eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    state = {}
    for key, x in net.state_dict().items():
        part, *rest = key.split(".")
        if part in ("spatial", "temporal"):
            stage = int(rest[0]) + (1 if part == "spatial" else 3)
            key = ".".join([f"layer{stage}", *rest[1:]])
        state[key] = x[:, :, x.shape[2] // 2] if x.ndim == 5 else x
    reference = ResNet(BasicBlock, [1, 2, 1, 1])
    reference.fc = nn.Identity()
    reference.load_state_dict(state)
    reference.eval()
    clips = torch.randn(2, 1, 3, 64, 64)
    maps = net(clips.transpose(1, 2))
    assert maps.shape == (2, 512, 1, 2, 2)
    torch.testing.assert_close(maps.mean(dim=(2, 3, 4)), reference(clips[:, 0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_early_stages_see_single_frames_and_late_ones_time(norm):
    net = VideoNet(LAPTOP.model_copy(update={"norm": norm})).eval()
    clips = torch.randn(1, 5, 3, 48, 48)
    other = clips.clone()
    other[:, 3] = torch.randn(3, 48, 48)
    maps, changed = (net.net.frame_maps(x[0]) for x in (clips, other))
    same = [torch.allclose(a, b) for a, b in zip(maps, changed, strict=True)]
    assert same == [True, True, True, False, True]
    assert not torch.allclose(net(clips), net(clips.flip(1)))
    assert torch.allclose(net.net.frame_maps(clips[0].flip(0)).flip(0), maps, atol=1e-5)


@pytest.mark.parametrize(
    ("stem", "cells"), [("small", 8), ("small_stride2", 4), ("small_stride4", 2), ("default", 2)]
)
def test_r2d3d_shrinks_space_as_its_stem_says_and_time_by_four(stem, cells):
    net = VideoNet(LAPTOP.model_copy(update={"stem": stem, "image_size": 64})).eval()
    for frames, t in ((1, 1), (4, 1), (5, 2), (9, 3)):
        maps = net.feature_map(torch.randn(1, frames, 3, 64, 64))
        assert maps.shape == (1, 128, t, cells, cells)
    tokens = net.tokens(torch.randn(2, 5, 3, 64, 64))
    assert tokens.shape == (2, 2 * cells * cells, 128)
    assert sum(p.numel() for p in net.parameters()) < 1_200_000


def test_group_norms_keep_the_clips_of_a_batch_apart():
    clips = torch.randn(3, 8, 3, 32, 32, dtype=torch.float64)  # rounding grows from norm to norm
    config = VideoNetConfig(name="s3d", frames=8, image_size=32, norm="group")
    net = VideoNet(config).double().train()
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())
    torch.testing.assert_close(net(clips)[:1], net(clips[:1]), rtol=1e-6, atol=1e-9)


def test_batch_norms_of_volumes_become_global_ones():
    net = VideoNet(LAPTOP.model_copy(update={"norm": "batch"})).train()
    clips = torch.randn(3, 5, 3, 48, 48)
    expected = net(clips)
    globalise(net)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(m, GlobalBatchNorm) for m in norms)
    torch.testing.assert_close(net(clips), expected)


def test_channels_last_for_two_and_three_dimensions():
    net = R2D3D((1, 1, 1, 1), (8, 8, 8, 8), "small").eval()
    volumes = torch.randn(1, 3, 4, 16, 16)
    expected = net(volumes)
    channels_last(net)
    for module in net.modules():
        if isinstance(module, nn.Conv3d) and module.kernel_size[0] > 1:
            assert module.weight.is_contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(module, nn.Conv2d) and module.kernel_size[0] > 1:
            assert module.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(net(volumes), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [LAPTOP, VIT], ids=["r2d3d", "video_vit"])
def test_a_video_network_encodes_the_blocks_of_a_recurrent_one(block, tmp_path):
    encoder = build_clip_encoder(RecurrentConfig(blocks=3, block=block, context=12)).eval()
    assert isinstance(encoder, Recurrent)
    assert encoder.frames == 3 * block.frames
    size = block.image_size
    clips = torch.randn(2, encoder.frames, 3, size, size)
    z = encoder.encode(clips)
    for number in range(3):
        alone = encoder.g_enc(clips[:, number * block.frames : (number + 1) * block.frames])
        torch.testing.assert_close(z[:, number], alone, rtol=1e-4, atol=1e-5)
    save_encoder(encoder, tmp_path, {})
    assert torch.equal(load_encoder(tmp_path).eval()(clips), encoder(clips))


@pytest.mark.parametrize(
    "config",
    [LAPTOP, LAPTOP.model_copy(update={"norm": "batch"}), VideoNetConfig(name="s3d", image_size=32), VIT],
    ids=["r2d3d_group", "r2d3d_batch", "s3d", "video_vit"],
)
def test_a_folder_gives_the_same_network_back(config, tmp_path):
    encoder = build_clip_encoder(config).eval()
    assert encoder.seconds == pytest.approx((config.frames - 1) * config.stride)
    save_encoder(encoder, tmp_path, {})
    again = load_encoder(tmp_path).eval()
    clips = torch.randn(2, config.frames, 3, config.image_size, config.image_size)
    assert torch.equal(again(clips), encoder(clips))
    assert encoder(clips).shape == (2, encoder.dim)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "r3d_18", "channels": (8, 8, 8, 8)}, "channels: expected with name: r2d3d only"),
        ({"name": "s3d", "frames": 4}, "frames >= 5"),
        ({"name": "s3d", "image_size": 16}, "image_size >= 17"),
    ],
)
def test_settings_that_do_not_fit_a_network(settings, message):
    with pytest.raises(ValueError, match=message):
        VideoNetConfig(**settings)


def test_s3d_takes_the_smallest_clip_that_its_settings_allow():
    net = VideoNet(VideoNetConfig(name="s3d", frames=5, image_size=17)).eval()
    assert net.feature_map(torch.randn(1, 5, 3, 17, 17)).shape == (1, 1024, 1, 1, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 5}, r"frames: expected a multiple of tubelet \(2\)"),
        ({"image_size": 60}, r"image_size: expected a multiple of patch \(16\)"),
        ({"width": 100}, r"width: expected an even multiple of heads \(12\)"),
    ],
)
def test_settings_that_do_not_fit_a_transformer(settings, message):
    with pytest.raises(ValueError, match=message):
        VideoViTConfig(**settings)


def test_the_default_transformer_has_the_sizes_of_vit_b():
    with torch.device("meta"):
        ours = VideoViT(VideoViTConfig())
        image = timm.create_model("vit_base_patch16_224", num_classes=0)
    assert ours.config.grid == (8, 14, 14)
    of_image = 768 * 3 * 16 * 16 + 768 + 197 * 768  # patch convolution, class token and learned positions
    of_clip = 768 * 3 * 2 * 16 * 16
    expected = sum(p.numel() for p in image.parameters()) - of_image + of_clip
    assert sum(p.numel() for p in ours.parameters()) == expected
    assert round(expected / 1e6) == 86


def test_on_one_frame_the_transformer_is_timms():
    ours = VideoViT(VIT.model_copy(update={"frames": 1, "tubelet": 1})).eval()
    vit = timm.models.VisionTransformer(
        img_size=16, patch_size=8, num_classes=0, embed_dim=24, depth=2, num_heads=2, class_token=False,
        global_pool="avg",
    ).eval()  # fmt: skip
    state = ours.state_dict()
    state["patch_embed.proj.weight"] = state.pop("embed.weight")[:, :, 0]
    state["patch_embed.proj.bias"] = state.pop("embed.bias")
    state["fc_norm.weight"], state["fc_norm.bias"] = state.pop("norm.weight"), state.pop("norm.bias")
    vit.load_state_dict(state | {"pos_embed": ours.positions[None]})
    frames = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(ours(frames[:, None]), vit(frames), rtol=1e-4, atol=1e-5)


def test_tokens_are_a_convolution_over_space_and_time_in_its_grid():
    ours = VideoViT(VIT).eval()
    ours.blocks = nn.Identity()
    clips = torch.randn(2, 4, 3, 16, 16)
    expected = ours.embed(clips.transpose(1, 2)) + ours.positions.T.unflatten(1, (2, 2, 2))
    expected = ours.norm(expected.movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(ours.feature_map(clips), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.tokens(clips), expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_some_tokens_are_those_of_their_places():
    ours = VideoViT(VIT).eval()
    ours.blocks = nn.Identity()
    rows = ours.rows(torch.randn(2, 4, 3, 16, 16))
    where = torch.tensor([[7, 0, 3], [2, 5, 1]])
    some = ours.encode(torch.stack([row[w] for row, w in zip(rows, where, strict=True)]), where)
    everything = ours.encode(rows)
    for clip in range(2):
        torch.testing.assert_close(some[clip], everything[clip, where[clip]], rtol=1e-4, atol=1e-5)


@given(
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    s=st.integers(1, 3),
    p=st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_tubelets_are_invertible_and_in_the_order_of_a_convolution(grid, s, p):
    t, h, w = grid
    clips = torch.rand(2, t * s, 3, h * p, w * p)
    rows = tubelets(clips, s, p)
    assert rows.shape == (2, t * h * w, 3 * s * p * p)
    assert torch.equal(untubelets(rows, s, p, grid), clips)
    for number, (a, y, x) in enumerate(itertools.product(range(t), range(h), range(w))):
        cut = clips[1, a * s : a * s + s, :, y * p : y * p + p, x * p : x * p + p]
        assert torch.equal(rows[1, number].view(3, s, p, p), cut.transpose(0, 1))


@pytest.mark.parametrize("dim", [6, 16, 24])
def test_positions_of_space_and_time_one_by_one(dim):
    grid = (2, 3, 4)
    found = sincos_space_time(grid, dim)
    assert found.shape == (24, dim)
    space = dim // 6
    pairs = (dim // 2 - 2 * space, space, space)
    for number, place in enumerate(itertools.product(*map(range, grid))):
        row = []
        for coordinate, n in zip(place, pairs, strict=True):
            angles = [coordinate / 10000 ** (i / n) for i in range(n)]
            row += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        torch.testing.assert_close(found[number], torch.tensor(row))
    assert len({tuple(row) for row in found.tolist()}) == 24
