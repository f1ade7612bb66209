"""Clip encoders: shapes, causality, and folders that give the same network back."""

import pytest
import torch

from mmssl.errors import MmsslError
from mmssl.models.artifact import build_any, load_encoder, save_encoder
from mmssl.models.clip import averaging, build_clip_encoder
from mmssl.models.clip.frame_net import FrameNetConfig, SpatialSoftmax
from mmssl.models.clip.frames import FramesConfig
from mmssl.models.clip.recurrent import Recurrent, RecurrentConfig
from mmssl.models.encoder import EncoderConfig, build_encoder

IMAGE = EncoderConfig(name="resnet18", stem="small_stride2", image_size=32, kwargs={"layers": [1, 1, 1, 1]})
NET = FrameNetConfig(encoder=IMAGE, pool="spatial_softmax", hidden=24, width=16)
FRAMES = FramesConfig(net=NET, frames=2, stride=0.5)
RECURRENT = RecurrentConfig(blocks=3, block=FRAMES, context=12)


@pytest.mark.parametrize(
    ("config", "frames", "dim"),
    [
        (FRAMES, 2, 16),
        (FRAMES.model_copy(update={"fuse": "concat"}), 2, 32),
        (FRAMES.model_copy(update={"fuse": "attention"}), 2, 16),
        (RECURRENT, 6, 12),
    ],
)
def test_a_folder_gives_the_same_network_back(tmp_path, config, frames, dim):
    encoder = build_clip_encoder(config).eval()
    assert (encoder.frames, encoder.dim, encoder.image_size, encoder.stride) == (frames, dim, 32, 0.5)
    save_encoder(encoder, tmp_path, {"stage": "cpc"})
    again = load_encoder(tmp_path).eval()
    clips = torch.randn(4, frames, 3, 32, 32)
    assert torch.equal(again(clips), encoder(clips))
    assert encoder(clips).shape == (4, dim)


def test_a_context_knows_the_past_only():
    encoder = build_clip_encoder(RECURRENT).eval()
    assert isinstance(encoder, Recurrent)
    clips = torch.randn(2, 6, 3, 32, 32)
    later = clips.clone()
    later[:, 4:] = torch.randn(2, 2, 3, 32, 32)
    c, c_later = (encoder.contexts(encoder.encode(x)) for x in (clips, later))
    torch.testing.assert_close(c[:, :2], c_later[:, :2])
    assert not torch.allclose(c[:, 2], c_later[:, 2])


def test_frames_that_attend_to_each_other_know_their_order():
    clips = torch.randn(3, 4, 3, 32, 32)
    config = FRAMES.model_copy(update={"frames": 4})
    mean, attention = (
        build_clip_encoder(config.model_copy(update={"fuse": fuse})).eval() for fuse in ("mean", "attention")
    )
    torch.testing.assert_close(mean(clips.flip(1)), mean(clips))
    assert (attention(clips.flip(1)) - attention(clips)).abs().max() > 1e-3
    frames = attention.net(clips.flatten(0, 1)).unflatten(0, (3, 4))
    for frame in range(4):  # what each finds in the others depends on all of them
        changed = frames.index_fill(1, torch.tensor(frame), 0.0)
        moved = (attention.attend(changed) - attention.attend(frames)).abs().amax(dim=(0, 2))
        assert (moved > 1e-4).all()


def test_blocks_do_not_see_each_other():
    encoder = build_clip_encoder(RECURRENT).eval()
    clips = torch.randn(1, 6, 3, 32, 32)
    z = encoder.encode(clips)
    for block in range(3):
        alone = encoder.g_enc(clips[:, 2 * block : 2 * block + 2])
        torch.testing.assert_close(z[:, block], alone)


def test_spatial_softmax_points_at_what_is_active():
    maps = torch.full((1, 1, 5, 9), -30.0)
    maps[0, 0, 1, 6] = 30.0  # second of 5 rows, seventh of 9 columns
    x, y = SpatialSoftmax(1)(maps)[0].tolist()
    assert (x, y) == pytest.approx((0.5, -0.5), abs=1e-5)


def test_an_image_encoder_on_clips_is_its_mean_over_frames():
    image = build_encoder(IMAGE).eval()
    clips = torch.randn(3, 4, 3, 32, 32)
    expected = torch.stack([image(frame) for frame in clips.unbind(1)]).mean(0)
    torch.testing.assert_close(averaging(image, 4, 0.1)(clips), expected, rtol=1e-4, atol=1e-5)


def test_an_image_encoder_starts_from_what_sees_the_frames_of_a_clip_encoder(tmp_path):
    trained = build_clip_encoder(RECURRENT)
    save_encoder(trained, tmp_path, {})
    started = build_encoder(IMAGE.model_copy(update={"weights": str(tmp_path)}))
    own, inner = started.backbone.state_dict(), trained.frame_encoder.backbone.state_dict()
    assert own.keys() == inner.keys()
    assert all(torch.equal(own[key], inner[key]) for key in own)
    with pytest.raises(MmsslError, match="another network than resnet34"):
        build_encoder(EncoderConfig(name="resnet34", image_size=32, weights=str(tmp_path)))


def test_weights_start_a_clip_encoder_and_the_frame_network_in_it(tmp_path):
    trained = build_clip_encoder(RECURRENT)
    save_encoder(trained, tmp_path / "clip", {})
    again = build_any(RECURRENT.model_copy(update={"weights": str(tmp_path / "clip")}))
    assert torch.equal(again.state_dict()["g_ar.weight_ih_l0"], trained.state_dict()["g_ar.weight_ih_l0"])
    image = build_encoder(IMAGE)
    save_encoder(image, tmp_path / "image", {})
    inner = IMAGE.model_copy(update={"weights": str(tmp_path / "image")})
    started = build_clip_encoder(FramesConfig(net=FrameNetConfig(encoder=inner)))
    assert torch.equal(
        started.state_dict()["net.encoder.backbone.conv1.weight"], image.backbone.state_dict()["conv1.weight"]
    )
    with pytest.raises(MmsslError, match="another network than frames"):
        build_clip_encoder(FRAMES.model_copy(update={"weights": str(tmp_path / "clip")}))
