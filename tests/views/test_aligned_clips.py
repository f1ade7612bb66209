"""One moment of a video in several sights: what fits, what is shown of it, one cut for all, one decode."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.shards import encode
from mmssl.shards.flow.matroska import flow_mkv
from mmssl.sights import SIGHTS
from mmssl.stream.clips.spread import Spread, SpreadClips
from mmssl.stream.flow import FlowReader
from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.video import VideoReader
from mmssl.stream.video.pyav import PyAVReader
from mmssl.stream.views.aligned import CropFlip
from mmssl.stream.views.aligned_clips import AlignedClips, SightClips, room, shown_at
from mmssl.stream.views.clip import ClipAugmentation, ClipView
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.shown import Shown

FPS = 10
LEVEL = 12
"""Grey levels from one frame of ``moving`` to the next."""
S = 16


def moving(frames: int = 16, fields: int | None = None) -> dict[str, tuple[str, bytes]]:
    """Frame i of 64 x 48 is of grey level LEVEL · i; field i of 32 x 24 has u = i, v = -i pixels."""
    fields = frames - 1 if fields is None else fields
    levels = [np.full((48, 64, 3), LEVEL * i, np.uint8) for i in range(frames)]
    flow = [
        np.stack([np.full((24, 32), i), np.full((24, 32), -i)], axis=2).astype(float) for i in range(fields)
    ]
    return {"video": ("mp4", encode.h264(levels, FPS, crf=1)), "flow": ("mkv", mkv(flow))}


def mkv(fields: list[np.ndarray]) -> bytes:
    height, width = fields[0].shape[:2]
    packets = [encode.flow_png(field) for field in fields]
    return flow_mkv(packets, [i / FPS for i in range(len(fields))], (width, height))


def shown(sees: str = "rgb", channels: int = 3, **settings: Any) -> Shown:
    """Channels in grey levels, and in sides of the view."""
    unit = 1 / 255 if sees == "rgb" else 1.0
    field = "flow" if sees == "flow" else "video"
    values: dict[str, Any] = {"size": S, "mean": (0.0,) * channels, "std": (unit,) * channels} | settings
    return Shown(sees, settings.pop("field", field), channels=channels, **values)


def draws(pass_: int = 0, id_: int = 0) -> Draws:
    return Draws(0, "views", np.array([id_]), np.array([pass_]))


def look(
    view: AlignedClips, members: dict[str, tuple[str, bytes]], pass_: int = 0, id_: int = 0
) -> dict[str, Tensor]:
    d = draws(pass_, id_)
    return view.finish(view.prepare([view.read(Sample(id_, "k", "shard", pass_, members), d)], d), d)


def numbers_of(seen: Tensor) -> list[int]:
    """Which frames of ``moving`` are shown: (1, T, 3, S, S) or (1, 3, S, S)."""
    return (seen.mean(dim=(-1, -2, -3)).reshape(-1) / LEVEL).round().int().tolist()


def test_all_sights_show_one_moment() -> None:
    view = AlignedClips(
        {
            "now": shown(),
            "later": shown(after=0.3),
            "clip": shown(frames=3, stride=0.2, after=0.1),
            "stack": shown("flow", 6, after=0.1),
            "fields": shown("flow", 2, frames=2, stride=0.4),
        }
    )
    members, starts = moving(), set()
    for pass_ in range(60):
        seen = look(view, members, pass_)
        (t,) = numbers_of(seen["now"])
        starts.add(t)
        assert numbers_of(seen["later"]) == [t + 3]
        assert numbers_of(seen["clip"]) == [t + 1, t + 3, t + 5]
        u, v = (seen["stack"].mean((2, 3))[0] * 24).reshape(3, 2).T  # the centre's side is 24 pixels of flow
        assert u.tolist() == pytest.approx([t + 1, t + 2, t + 3], abs=1e-3)
        assert v.tolist() == pytest.approx([-t - 1, -t - 2, -t - 3], abs=1e-3)
        assert (seen["fields"][0, :, 0].mean((1, 2)) * 24).tolist() == pytest.approx([t, t + 4], abs=1e-3)
        assert seen["present"].tolist() == [[True] * 5]
    # of 16 frames and 15 fields the clip needs 5 more, the two fields 4 more fields, the stack 3
    assert starts == set(range(11))
    assert [seen[name].shape[1:] for name in view.shown] == [
        (3, S, S), (3, S, S), (3, 3, S, S), (6, S, S), (2, 2, S, S),
    ]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 8), st.floats(0, 1), st.data())
def test_moments_are_those_from_which_everything_fits(
    count: int, fields: int, frames: int, after: float, data: st.DataObject
) -> None:
    """Against a search over all moments, on irregular times."""
    gaps = data.draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    times = np.concatenate([[0.0], np.cumsum(gaps)])[:count] / 20
    sight = shown("flow", 2 * fields, frames=frames, stride=0.15, after=after)
    fitting = [
        t
        for t in times
        if all(
            np.searchsorted(times, t + after + 0.15 * k - 1e-9) <= max(0, count - fields)
            for k in range(frames)
        )
    ]
    assert [t for t in times if t <= room(sight, times) + 1e-9] == fitting
    moment = data.draw(st.sampled_from(list(times)))
    found = shown_at(sight, times, np.array([moment])).reshape(frames, fields)
    for k, stack in enumerate(found):
        asked = moment + after + 0.15 * k
        nearest = min(abs(times - asked))
        assert list(stack) == [min(stack[0] + i, count - 1) for i in range(fields)]
        if stack[0] < count - fields:
            assert abs(times[stack[0]] - asked) == pytest.approx(nearest)
        else:
            assert stack[0] == max(0, count - fields)


@pytest.mark.parametrize(("frames", "fields"), [(1, 1), (2, 1), (3, 2)])
def test_nothing_is_too_short(frames: int, fields: int) -> None:
    view = AlignedClips({"clip": shown(frames=4, stride=0.1), "stack": shown("flow", 8)})
    seen = look(view, moving(frames, fields))
    assert numbers_of(seen["clip"]) == [min(i, frames - 1) for i in range(4)]
    u = seen["stack"].mean((2, 3))[0, ::2] * 24
    assert u.tolist() == pytest.approx([min(i, fields - 1) for i in range(4)], abs=1e-4)


def test_video_and_flow_are_cut_and_mirrored_alike() -> None:
    """Grey levels and flow both say where in the frame a pixel comes from, at two resolutions."""
    row, column = (np.arange(96) + 0.5) / 96, (np.arange(128) + 0.5) / 128
    where = np.stack(np.broadcast_arrays(column[None], row[:, None], 0.5), axis=2)
    video = encode.h264([np.rint(255 * where).astype(np.uint8)] * 2, FPS, crf=1)
    small = where.reshape(24, 4, 32, 4, 3).mean((1, 3))[..., :2] * 20
    members = {"video": ("mp4", video), "flow": ("mkv", mkv([small]))}
    view = AlignedClips({"a": shown(std=(1.0,) * 3), "b": shown("flow", 2)}, CropFlip(scale=(0.2, 0.8)))
    flips = 0
    for pass_ in range(40):
        seen = look(view, members, pass_)
        x, y = seen["a"][0, 0].mean(0), seen["a"][0, 1].mean(1)  # where each column and row comes from
        u, v = seen["b"][0, 0].mean(0), seen["b"][0, 1].mean(1)
        wide, high = (x[-3] - x[2]) / (S - 5) * S, (y[-3] - y[2]) / (S - 5) * S  # shares of the frame
        flips += bool(wide < 0)
        # 20 pixels of a frame of 32 x 24 are so many sides of the crop; mirrored, they lead the other way
        inner = slice(2, -2)
        torch.testing.assert_close(u[inner], (20 * x / (32 * wide))[inner], atol=0.04, rtol=0.04)
        torch.testing.assert_close(v[inner], (20 * y / (24 * high))[inner], atol=0.04, rtol=0.04)
    assert 10 <= flips <= 30


def test_every_field_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[tuple[type, list[int]]] = []
    for reader in (PyAVReader, FlowReader):

        def spy(self: Any, numbers: Any, *rest: Any, real: Any = reader.read) -> Tensor:
            reads.append((type(self), list(numbers)))
            return real(self, numbers, *rest)

        monkeypatch.setattr(reader, "read", spy)
    view = AlignedClips(
        {"now": shown(), "L": shown("L", 1), "clip": shown(frames=3, stride=0.1), "a": shown("flow", 4),
         "b": shown("flow", 2, frames=2, stride=0.1)}
    )  # fmt: skip
    seen = look(view, moving())
    (t,) = numbers_of(seen["now"])
    assert reads == [(PyAVReader, [t, t + 1, t + 2]), (FlowReader, [t, t + 1])]
    assert issubclass(PyAVReader, VideoReader)


def test_colours_stay_unless_the_augmentation_changes_them() -> None:
    sights = {"rgb": shown(frames=2, stride=0.1), "L": shown("L", 1), "flow": shown("flow", 2)}
    geometry = {"scale": (0.5, 1.0), "flip": 0.5}
    plain = AlignedClips(sights, CropFlip(**geometry))
    loud = AlignedClips(sights, ClipAugmentation(**geometry, jitter=1.0, grey=0.0, blur=0.0))
    members, changed = moving(), 0
    for pass_ in range(8):
        a, b = look(plain, members, pass_), look(loud, members, pass_)
        assert torch.equal(a["flow"], b["flow"])
        assert torch.equal(a["L"], b["L"])
        changed += not torch.allclose(a["rgb"], b["rgb"], atol=3.0)
    assert changed >= 6


def test_colour_views_of_frames_are_those_of_their_definition() -> None:
    rgb = np.array([200, 60, 30])
    frames = [np.broadcast_to(rgb, (32, 32, 3)).astype(np.uint8)] * 2
    sights = {
        "L": shown("L", 1, mean=SIGHTS["L"].mean, std=SIGHTS["L"].std),
        "ab": shown("ab", 2, frames=2, stride=0.1),
    }
    seen = look(AlignedClips(sights), {"video": ("mp4", encode.h264(frames, FPS, crf=1))})
    # CIE Lab of sRGB (200, 60, 30) under D65: 45.6, 53.7, 48.4; video keeps colours within a few levels
    assert float(seen["L"].mean() * 25 + 50) == pytest.approx(45.6, abs=1.5)
    assert seen["ab"].shape == (1, 2, 2, S, S)
    assert seen["ab"].mean((0, 1, 3, 4)).tolist() == pytest.approx([53.7, 48.4], abs=4)


def test_what_a_sample_lacks_is_zeros_and_marked() -> None:
    view = AlignedClips({"rgb": shown(), "flow": shown("flow", 4, optional=True)})
    assert (view.fields, view.optional) == (("video",), ("flow",))
    whole = moving()
    samples = [Sample(i, "k", "s", 0, whole if i else {"video": whole["video"]}) for i in range(2)]
    d = Draws(0, "views", np.arange(2), np.zeros(2, np.int64))
    batch = view.finish(view.prepare([view.read(s, draws(id_=s.id)) for s in samples], d), d)
    assert batch["present"].tolist() == [[True, False], [True, True]]
    assert not batch["flow"][0].any()
    alone = look(view, {"video": whole["video"]})
    assert alone["flow"].shape == (1, 4, S, S)
    assert not alone["flow"].any()
    assert alone["present"].tolist() == [[True, False]]
    unknown = look(view, whole | {"flow": ("mkv", mkv([np.full((24, 32, 2), np.nan)] * 15))})
    assert not unknown["flow"].any()
    assert unknown["present"].tolist() == [[True, False]]
    # a sample is shown the same whoever is in its batch
    second = look(view, whole, id_=1)
    assert torch.equal(batch["rgb"][1], second["rgb"][0])
    assert torch.equal(batch["flow"][1], second["flow"][0])


def test_one_known_field_is_enough() -> None:
    """Fields across a cut are unknown, and what is around them is shown all the same."""
    fields = [np.full((24, 32, 2), np.nan), np.full((24, 32, 2), 3.0), np.full((24, 32, 2), np.nan)]
    view = AlignedClips({"rgb": shown(), "flow": shown("flow", 6)})
    seen = look(view, moving() | {"flow": ("mkv", mkv(fields))})
    assert seen["present"].tolist() == [[True, True]]
    torch.testing.assert_close(seen["flow"].mean((2, 3))[0] * 24, torch.tensor([0.0, 0, 3, 3, 0, 0]))


def test_what_cannot_be_shown_is_named() -> None:
    with pytest.raises(MmsslError, match="'far': depth of videos"):
        AlignedClips({"far": shown("depth", 2)})
    view = AlignedClips({"rgb": shown(), "flow": shown("flow", 2)})
    whole = moving()
    unknown = mkv([np.full((24, 32, 2), np.nan)] * 3)
    for members, field, reason in (
        ({"video": whole["video"]}, "flow", "absent; the sample has video"),
        (whole | {"flow": ("mkv", whole["flow"][1][:-40])}, "flow", "cut short"),
        (whole | {"flow": ("mkv", unknown)}, "flow", "no pixel of it is known"),
        (whole | {"flow": ("png", encode.flow_png(np.zeros((24, 32, 2))))}, "flow", "a single picture"),
        (whole | {"video": ("mp4", b"no video")}, "video", "not a readable video"),
    ):
        with pytest.raises(Unreadable, match=reason) as failed:
            look(view, members)
        assert failed.value.field == field


@pytest.mark.parametrize("clips", [1, 3])
def test_evaluations_see_frames_and_clips_where_clip_view_does(clips: int) -> None:
    members, unit = moving(), ((0.0,) * 3, (1 / 255,) * 3)
    pairs = (
        (SightClips(shown(frames=4, stride=0.2), clips), SpreadClips(clips, 4, 0.2)),
        (SightClips(shown(), clips), Spread(clips)),
    )
    for sight, sampler in pairs:
        expected = look(ClipView(sampler, S, *unit), members)  # type: ignore[arg-type]
        found = look(sight, members)
        torch.testing.assert_close(found["frames"], expected["frames"], atol=1e-3, rtol=0)
        assert torch.equal(found["times"], expected["times"])


def test_evaluations_see_stacks_of_flow_spread_over_the_video() -> None:
    found = look(SightClips(shown("flow", 4), clips=3), moving(fields=12))
    assert found["frames"].shape == (1, 3, 4, S, S)
    u = found["frames"].mean((3, 4))[0, :, ::2] * 24
    # thirds of 1.2 s have their middles at 0.2, 0.6 and 1.0 s; the last stack of two ends with field 11
    torch.testing.assert_close(u, torch.tensor([[2.0, 3.0], [6.0, 7.0], [10.0, 11.0]]), atol=1e-3, rtol=0)
    assert found["times"].tolist() == [pytest.approx([0.2, 0.6, 1.0])]
