"""Image methods on videos: both views are of one frame, and passes go through all of them."""

import numpy as np
import pytest
from tiny_videos import encode, number, numbered

from mmssl.methods import DataInfo, build_method
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.frame_views import FrameViews


def test_one_frame_a_pass_and_all_of_them_in_the_end() -> None:
    data = encode(numbered(6))
    view = build_method({"name": "simclr", "field": "video"}, DataInfo(4, frozenset({"video"}))).views[
        "image"
    ]
    assert isinstance(view, FrameViews)
    assert view.fields == ("video",)
    seen = set()
    for pass_ in range(60):
        draws = Draws(0, "image", np.array([3]), np.array([pass_]))
        sample = Sample(3, "clip", "train/000000.tar", pass_, {"video": ("mp4", data)})
        frame = view.read(sample, draws)
        seen.add(number(frame.permute(1, 2, 0).numpy()))
        again = Sample(3, "clip", "train/000000.tar", pass_, {"video": ("mp4", data)})
        assert (view.read(again, draws) == frame).all()
    assert seen == set(range(6))
    assert view.prepare([frame], draws).shape == (1, 2, 3, 224, 224)


def test_a_broken_video_is_unreadable() -> None:
    view = build_method(
        {"name": "moco_v2", "field": "video_left"}, DataInfo(4, frozenset({"video_left"}))
    ).views
    sample = Sample(0, "clip", "train/000000.tar", 0, {"video_left": ("mp4", b"no video at all")})
    with pytest.raises(Unreadable, match="video_left"):
        view["image"].read(sample, Draws(0, "image", np.array([0]), np.array([0])))
