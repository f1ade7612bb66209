"""Clip encoders that see flow: two channels a frame, the rest as with colours, statistics as sights say."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from mmssl.models.artifact import load_encoder, save_encoder
from mmssl.models.clip import build_clip_encoder
from mmssl.models.clip.frame_net import FrameNetConfig
from mmssl.models.clip.frames import FramesConfig
from mmssl.models.clip.recurrent import RecurrentConfig
from mmssl.models.clip.video_net import VideoNetConfig
from mmssl.models.encoder import EncoderConfig
from mmssl.stream.views.shown import Shown

IMAGE = EncoderConfig(
    name="resnet18", image_size=32, sees="flow", stem="small_stride2", kwargs={"layers": [1, 1, 1, 1]}
)
FRAMES = FramesConfig(net=FrameNetConfig(encoder=IMAGE, pool="flatten", width=8), frames=3, stride=0.2)


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "r2d3d"])
def test_only_the_first_convolution_differs(name: str) -> None:
    size = {"name": name, "frames": 8, "image_size": 32}
    rgb = build_clip_encoder(VideoNetConfig(**size))  # type: ignore[arg-type]
    flow = build_clip_encoder(VideoNetConfig(**size, sees="flow")).eval()  # type: ignore[arg-type]
    assert (flow.mean, flow.std) == ((0.0, 0.0), (0.02, 0.02))
    shapes = [{key: p.shape for key, p in net.state_dict().items()} for net in (rgb, flow)]
    different = [key for key in shapes[0] if shapes[0][key] != shapes[1][key]]
    assert len(different) == 1
    a, b = (shape[different[0]] for shape in shapes)
    assert (a[1], b[1], a[0], a[2:]) == (3, 2, b[0], b[2:])
    assert different[0].endswith("weight")
    assert isinstance(flow.get_submodule(different[0].removesuffix(".weight")), nn.Conv2d | nn.Conv3d)
    clips = torch.randn(2, 8, 2, 32, 32)
    seen = flow(clips)
    assert seen.shape == (2, rgb.dim)
    assert (seen - flow(clips.flip(2))).norm() > 0.01 * seen.norm()  # u and v are not the same to it


@pytest.mark.parametrize(
    "config",
    [
        VideoNetConfig(name="r2d3d", sees="flow", frames=4, image_size=32),
        FRAMES,
        RecurrentConfig(blocks=2, block=FRAMES, context=6),
    ],
)
def test_it_says_what_it_sees_and_comes_back_from_its_folder(config, tmp_path) -> None:
    encoder = build_clip_encoder(config).eval()
    shown = Shown.to(encoder, video=True)
    assert (shown.sees, shown.field, shown.channels, shown.frames) == ("flow", "flow", 2, encoder.frames)
    save_encoder(encoder, tmp_path, {})
    again = load_encoder(tmp_path).eval()
    clips = torch.randn(2, encoder.frames, 2, 32, 32)
    assert torch.equal(again(clips), encoder(clips))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean": (0.5,)}, "mean: expected 3 numbers to see rgb, found 1"),
        ({"sees": "flow", "std": (1.0, 1.0, 1.0)}, "std: expected 2 numbers to see flow, found 3"),
        ({"sees": "depth"}, "sees"),
    ],
)
def test_settings_that_do_not_fit(settings, message) -> None:
    with pytest.raises(ValidationError, match=message):
        VideoNetConfig(**settings)
