"""The online tracker: its formulas against the filter's own code, and what it follows."""

import cv2
import numpy as np
import pytest
import torch
from moving_patch import HEIGHT, WIDTH, film, random_features, texture, truth

from mmssl.errors import MmsslError
from mmssl.models.encoder import EncoderConfig, build_encoder
from mmssl.models.feature_map import FeatureMap
from mmssl.tracking.boxes import centres as centres_of
from mmssl.tracking.boxes import iou
from mmssl.tracking.tracker import LEAST, PRESETS, Tracker, TrackerConfig, Trackers

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def features() -> FeatureMap:
    return random_features()


def followed(features, frames, box, config=PRESETS["dcfnet"]):
    tracker = Tracker(features, config)
    tracker.init(frames[0], box)
    return np.stack([box, *(tracker.update(frame)[0] for frame in frames[1:])])


def path(steps, start=(70.0, 60.0)):
    return np.array(start) + np.concatenate([[[0, 0]], np.cumsum(steps, axis=0)])


# What it follows


@pytest.mark.parametrize("preset", ["dcfnet", "udt"])
def test_a_moving_patch_is_followed_to_a_pixel_and_a_half(features, preset):
    rng = np.random.default_rng(1)
    centres, still = path(rng.integers(-6, 7, (12, 2))), np.ones(13)
    boxes = followed(features, film(centres, still), truth(centres, still)[0], PRESETS[preset])
    assert np.abs(centres_of(boxes) - centres).max() < 1.5
    assert iou(boxes, truth(centres, still)).min() > 0.8


def test_parts_of_pixels_add_up(features):
    centres, still = path(np.full((24, 2), (0.7, -0.4))), np.ones(25)
    boxes = followed(features, film(centres, still), truth(centres, still)[0])
    # A cell is 3 · 32 / 125 = 0.77 pixels; to be wrong by half of one in every frame would end 9 pixels off.
    assert np.abs(centres_of(boxes) - centres).max() < 1.4
    assert np.abs(boxes[:, 2:] - 32).max() < 2


@pytest.mark.parametrize("growth", [1.015, 1 / 1.015])
def test_what_comes_nearer_or_goes_away_changes_its_box(features, growth):
    ground = texture(5, HEIGHT, WIDTH, 3).astype(np.uint8)
    frames = []
    for zoom in growth ** np.arange(16):
        place = np.array([[zoom, 0, 90 * (1 - zoom)], [0, zoom, 80 * (1 - zoom)]])
        pixels = cv2.warpAffine(ground, place, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        frames.append(torch.from_numpy(pixels).permute(2, 0, 1))
    boxes = followed(features, frames, np.array([70.0, 65, 40, 30]))
    assert boxes[-1, 2] / boxes[0, 2] == pytest.approx(growth**15, rel=0.06)
    assert np.abs(centres_of(boxes) - centres_of(boxes[:1])).max() < 2
    assert boxes[-1, 2] / boxes[0, 2] == pytest.approx(boxes[-1, 3] / boxes[0, 3])


def test_scales_are_powers_around_the_present_size(features):
    trackers = Trackers(features, TrackerConfig(scales=3, scale_step=1.1, scale_penalty=0.9))
    assert trackers._factors == pytest.approx([1 / 1.1, 1, 1.1])  # not [−1.5, −.5, .5] as exponents
    assert trackers._weights == pytest.approx([0.9, 1, 0.9])
    five = Trackers(features, TrackerConfig(scales=5, scale_step=2.0))
    assert five._factors == pytest.approx([0.25, 0.5, 1, 2, 4])


def test_what_stands_still_is_answered_with_one(features):
    frame = film(path(np.zeros((0, 2))), np.ones(1))[0]
    tracker = Tracker(features, TrackerConfig(scales=1))
    tracker.init(frame, np.array([54.5, 44.5, 32, 32]))
    box, score = tracker.update(frame)
    assert box == pytest.approx([54.5, 44.5, 32, 32])
    assert score == pytest.approx(1, abs=0.02)
    _, elsewhere = tracker.update(
        torch.from_numpy(texture(9, HEIGHT, WIDTH, 3).astype(np.uint8)).permute(2, 0, 1)
    )
    assert elsewhere < 0.5


def test_a_transformers_or_resnets_map_serves_as_well():
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="resnet18", image_size=128))
    centres, still = path([[5, 3], [4, -4], [-6, 5], [3, 3]]), np.ones(5)
    boxes = followed(FeatureMap(encoder, stage=1), film(centres, still), truth(centres, still)[0])
    # A cell is 4 pixels of the crop, 3 of the frame.
    assert np.abs(boxes[:, :2] - truth(centres, still)[:, :2]).max() < 4.5


def test_bf16_features_find_nearly_the_same(features):
    centres, still = path(np.full((5, 2), 3.0)), np.ones(6)
    frames, box = film(centres, still), truth(centres, still)[0]
    half = followed(features, frames, box, TrackerConfig(precision="bf16"))
    assert np.abs(half - followed(features, frames, box)).max() < 1.6


# Many at once


def test_many_targets_are_found_where_each_is_found_alone(features):
    rng = np.random.default_rng(3)
    films, boxes = [], []
    for seed in range(3):
        centres, still = path(rng.integers(-4, 5, (6, 2)), start=(60 + 20 * seed, 70)), np.ones(7)
        films.append(film(centres, still, size=24 + 6 * seed, seed=seed))
        boxes.append(truth(centres, still, size=24 + 6 * seed)[0])
    films[1] = [frame[:, :140, :170] for frame in films[1]]
    alone = [followed(features, frames, box) for frames, box in zip(films, boxes, strict=True)]
    together = Trackers(features, PRESETS["dcfnet"])
    together.init([films[0][0], films[1][0]], np.stack(boxes[:2]))
    for step in range(1, 7):
        if step == 3:  # the first leaves, the third joins
            together.keep([1])
            together.add([films[2][0]], boxes[2][None])
        if step < 3:
            found, scores = together.update([films[0][step], films[1][step]])
            expected = [alone[0][step], alone[1][step]]
        else:
            found, scores = together.update([films[1][step], films[2][step - 2]])
            expected = [alone[1][step], alone[2][step - 2]]
        assert np.abs(found - np.stack(expected)).max() < 1e-3
        assert np.isfinite(scores).all()
    together.keep([])
    together.add([], np.empty((0, 4)))
    assert together.update([])[0].shape == (0, 4)


# Learning


def test_the_filter_learns_linearly(features):
    centres, still = path([[4, 2]]), np.ones(2)
    frames, box = film(centres, still), truth(centres, still)[0]
    trackers = Trackers(features, TrackerConfig(rate=0.25))
    trackers.init(frames[:1], box[None])
    alpha, x = trackers._alpha.clone(), trackers._x.clone()
    found, _ = trackers.update(frames[1:])
    fresh = Trackers(features, TrackerConfig())
    fresh.init(frames[1:], found)
    torch.testing.assert_close(trackers._alpha, 0.75 * alpha + 0.25 * fresh._alpha, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(trackers._x, 0.75 * x + 0.25 * fresh._x, atol=1e-2, rtol=1e-4)


def test_sizes_stay_within_their_limits(features):
    ground = texture(0, HEIGHT, WIDTH, 3).astype(np.uint8)
    frame = torch.from_numpy(ground).permute(2, 0, 1)
    config = TrackerConfig(scale_step=1.9, scale_penalty=50.0, rate=0.0)  # always another size
    trackers = Trackers(features, config)
    starts = np.array([[40.0, 40, 60, 50], [80.0, 70, 3, 12], [20.0, 20, 30, 6]])
    trackers.init([frame] * 3, starts)
    for _ in range(6):
        boxes, _ = trackers.update([frame] * 3)
        for start, size in zip(starts, boxes[:, 2:], strict=True):
            lowest = np.minimum(start[2:], np.maximum(0.2 * start[2:], LEAST))
            assert (size >= lowest - 1e-9).all()
            assert (size <= np.minimum(5 * start[2:], (WIDTH, HEIGHT)) + 1e-9).all()


# Bad input


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((10, 10, 0, 20), "above 0"),
        ((10, 10, 20, -3), "above 0"),
        ((10, float("nan"), 20, 20), "finite"),
        ((float("inf"), 10, 20, 20), "finite"),
        ((WIDTH + 5, 10, 20, 20), "outside the frame of 200x160"),
        ((10, -40, 20, 20), "outside the frame"),
    ],
)
def test_a_box_from_which_nothing_can_be_tracked_is_refused(features, box, words):
    frame = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    with pytest.raises(MmsslError, match=words):
        Tracker(features, PRESETS["udt"]).init(frame, np.array(box, dtype=np.float64))


@pytest.mark.parametrize(
    "box",
    [
        (90, 70, 1, 1),
        (-12, -10, 20, 20),
        (WIDTH - 3, HEIGHT - 2, 30, 30),
        (-50, -50, 400, 400),
        (9, 9, 0.5, 40),
    ],
)
def test_tiny_huge_and_half_hidden_targets_are_followed(features, box):
    frames = film(path(np.full((3, 2), 2.0)), np.ones(4))
    boxes = followed(features, frames, np.array(box, dtype=np.float64))
    assert np.isfinite(boxes).all()
    assert (boxes[:, 2:] > 0).all()


def test_a_target_may_leave_the_frame_and_flat_frames_say_nothing(features):
    centres, still = path(np.full((14, 2), (-9.0, 0)), start=(70, 60)), np.ones(15)
    boxes = followed(features, film(centres, still), truth(centres, still)[0])
    assert np.isfinite(boxes).all()
    flat = torch.full((3, HEIGHT, WIDTH), 77, dtype=torch.uint8)
    boxes = followed(features, [flat] * 4, np.array([50.0, 50, 20, 20]))
    assert boxes == pytest.approx(np.tile([50.0, 50, 20, 20], (4, 1)))


def test_frames_may_change_their_size(features):
    centres, still = path(np.full((4, 2), 2.0)), np.ones(5)
    frames = film(centres, still)
    boxes = followed(
        features, [*frames[:2], *(frame[:, :130, :150] for frame in frames[2:])], truth(centres, still)[0]
    )
    assert iou(boxes, truth(centres, still)).min() > 0.8


@pytest.mark.parametrize(
    "frame",
    [
        torch.zeros(1, 40, 40, dtype=torch.uint8),
        torch.zeros(3, 40, 40),
        torch.zeros(40, 40, dtype=torch.uint8),
    ],
)
def test_a_frame_of_another_shape_or_type_is_refused(features, frame):
    with pytest.raises(MmsslError, match=r"expected \(3, height, width\), uint8"):
        Tracker(features, PRESETS["udt"]).init(frame, np.array([1.0, 1, 9, 9]))


def test_every_target_needs_a_frame(features):
    trackers = Trackers(features, PRESETS["udt"])
    frame = torch.zeros(3, 40, 40, dtype=torch.uint8)
    trackers.init([frame, frame], np.array([[1.0, 1, 9, 9], [5, 5, 8, 8]]))
    with pytest.raises(MmsslError, match="1 frames for 2 targets"):
        trackers.update([frame])


def test_useless_encoders_are_named():
    encoder = build_encoder(EncoderConfig(name="resnet18", image_size=64))
    with pytest.raises(MmsslError, match="2x2 cells"):
        Tracker(FeatureMap(encoder), PRESETS["udt"])
    transformer = build_encoder(
        EncoderConfig(name="vit_tiny_patch16_224", image_size=64, kwargs={"patch_size": 8})
    )
    assert Trackers(FeatureMap(transformer), PRESETS["udt"]).cells.tolist() == [8, 8]
    with pytest.raises(MmsslError, match=r"tracker\.crop: vit_tiny_patch16_224 takes no crops of 125 pixels"):
        Trackers(FeatureMap(transformer), TrackerConfig(crop=125))
    broken = random_features()
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    frame = film(path(np.zeros((0, 2))), np.ones(1))[0]
    tracker = Tracker(broken, PRESETS["udt"])
    tracker.init(frame, np.array([50.0, 50, 30, 30]))
    with pytest.raises(MmsslError, match="not finite"):
        tracker.update(frame)


def test_an_even_number_of_scales_is_refused():
    with pytest.raises(ValueError, match="expected an odd number"):
        TrackerConfig(scales=4)
