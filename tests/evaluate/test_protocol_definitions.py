"""Every protocol against its definition in plain loops over frames and thresholds, in exact fractions."""

from fractions import Fraction
from itertools import pairwise
from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracked_truth import NAN, annotated

from mmssl.evaluate.tracking.protocols import PROTOCOLS
from mmssl.evaluate.tracking.protocols import curves as c

SIZE = (40, 30)
NUMBER = st.integers(-3, 12)
SIDE = st.integers(1, 12)
BOX = st.tuples(NUMBER, NUMBER, SIDE, SIDE).map(list)
ODD = st.sampled_from([NAN, [-1, -1, 0, 0], [0, 0, 0, 0], [3, 4, 0, 5], [-9, -9, 4, 4]])
FRAME = st.tuples(BOX | ODD, BOX | ODD, st.booleans())
CLIP = st.tuples(BOX, st.lists(FRAME, min_size=1, max_size=8))

HIT, MISS = "hit", "miss"


def overlap(a, b):
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    tall = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(tall, 0)
    union = a[2] * a[3] + b[2] * b[3] - shared
    return Fraction(shared, union) if union > 0 else Fraction(0)


def squares(a, b):
    """Squared centre error in px, and in sizes of ``b``; None where there is no size."""
    x = Fraction(2 * a[0] + a[2] - 2 * b[0] - b[2], 2)
    y = Fraction(2 * a[1] + a[3] - 2 * b[1] - b[3], 2)
    sized = b[2] > 0 and b[3] > 0
    return x**2 + y**2, ((x / b[2]) ** 2 + (y / b[3]) ** 2 if sized else None)


def unknown(box):
    return any(isnan(number) for number in box)


def empty(box):
    return unknown(box) or box[2] <= 0 or box[3] <= 0


def plain(name, boxes, truth, absent):
    """The denominator, and for each frame that can hit: overlap, squared errors; or MISS, or HIT."""
    boxes = [list(map(int, box)) if not unknown(box) else box for box in boxes]
    if name != "pysot":
        boxes[0] = truth[0]
    if name == "lasot":
        for t in range(1, len(boxes)):
            if empty(boxes[t]) and not unknown(truth[t]):
                boxes[t] = boxes[t - 1]
    frames, seen = len(truth), []
    for box, true, gone in zip(boxes, truth, absent, strict=True):
        if name in ("pysot", "lasot") and gone:
            continue
        if name == "got10k_lasot" and unknown(true):
            frames -= 1
            continue
        if name in ("otb", "lasot"):
            no_overlap = no_centre = unknown(true) or min(true[0] + 1, true[1] + 1, true[2], true[3]) <= 0
            instead = HIT
        elif name == "pysot":
            no_overlap, instead = empty(true), HIT
            centre = (true[0] + (true[2] - 1) / 2, true[1] + (true[3] - 1) / 2)
            no_centre = unknown(true) or min(centre) <= 0
        elif name == "got10k_otb":
            no_overlap = no_centre = empty(true)
            instead = MISS
        else:
            no_overlap, no_centre, instead = False, False, MISS
        lost = unknown(box)
        distance, relative = (None, None) if lost or unknown(true) else squares(box, true)
        seen.append(
            (
                MISS if no_overlap or lost else overlap(box, true),
                instead if no_centre else MISS if lost else distance,
                instead if no_centre else MISS if lost or relative is None else relative,
            )
        )
    return frames, seen


def share(values, frames, reaches):
    hits = sum(value == HIT or (value != MISS and reaches(value)) for value in values)
    return hits / frames if frames else float("nan")


def sequence_of(clip):
    first, rest = clip
    truth = [first] + [true for true, _, _ in rest]
    boxes = [[0, 0, 3, 3]] + [box for _, box, _ in rest]
    absent = [False] + [gone for _, _, gone in rest]
    return annotated(truth, absent=np.array(absent), size=SIZE), boxes, truth, absent


@pytest.mark.parametrize("name", ["otb", "pysot", "lasot", "got10k_otb", "got10k_lasot"])
@settings(max_examples=150, deadline=None)
@given(clip=CLIP)
def test_curves_are_the_definition_s(name, clip):
    sequence, boxes, truth, absent = sequence_of(clip)
    judged = PROTOCOLS[name].judge(np.array(boxes, float), sequence)
    frames, seen = plain(name, boxes, truth, absent)
    overlaps, distances, relatives = zip(*seen, strict=True) if seen else ((), (), ())
    for k in range(21):
        wanted = share(overlaps, frames, lambda value, k=k: value > Fraction(k, 20))
        assert judged.curves["success"].y[k] == pytest.approx(wanted, nan_ok=True)
    for k in range(51):
        wanted = share(distances, frames, lambda value, k=k: value <= k**2)
        assert judged.curves["precision"].y[k] == pytest.approx(wanted, nan_ok=True)
    if name in ("pysot", "lasot", "got10k_lasot"):
        for k in range(51):  # a tie of two roots of fractions may fall on either side
            least = share(relatives, frames, lambda value, k=k: value < Fraction(k, 100) ** 2)
            most = share(relatives, frames, lambda value, k=k: value <= Fraction(k, 100) ** 2)
            assert least - 1e-12 <= judged.curves["normalised precision"].y[k] <= most + 1e-12
    assert judged.counts["frames"] == frames
    curve = judged.curves["success"].y
    assert judged.values["success AUC"] == pytest.approx(100 * sum(curve) / 21)
    assert judged.values["success at 0.5"] == 100 * curve[10]
    assert judged.values["precision at 20 px"] == 100 * judged.curves["precision"].y[20]


@settings(max_examples=100, deadline=None)
@given(clip=CLIP)
def test_trackingnet_is_its_definition(clip):
    sequence, boxes, truth, _ = sequence_of(clip)
    judged = PROTOCOLS["trackingnet"].judge(np.array(boxes, float), sequence)
    boxes[0] = truth[0]
    pairs = [None if unknown(b) or unknown(t) else (b, t) for b, t in zip(boxes, truth, strict=True)]
    success, precision = [], []
    for k in range(21):
        kept = [pair for pair in pairs if pair and not empty(pair[1])]
        success.append(sum(overlap(*pair) >= Fraction(k, 20) for pair in kept) / len(pairs))
        near = [pair and squares(*pair)[0] <= Fraction(5 * k, 2) ** 2 for pair in pairs]
        precision.append(sum(map(bool, near)) / len(pairs))
    for found, wanted in (("success", success), ("precision", precision)):
        assert judged.curves[found].y.tolist() == pytest.approx(wanted)
        area = sum((a + b) / 2 / 20 for a, b in pairwise(wanted))
        assert judged.values[f"{found} AUC"] == pytest.approx(100 * area)


def cut(box):
    left, right = (min(max(v, 0), SIZE[0]) for v in (box[0], box[0] + box[2]))
    top, bottom = (min(max(v, 0), SIZE[1]) for v in (box[1], box[1] + box[3]))
    return [left, top, right - left, bottom - top]


@settings(max_examples=100, deadline=None)
@given(clip=CLIP, data=st.data())
def test_got10k_is_its_definition(clip, data):
    sequence, boxes, truth, _ = sequence_of(clip)
    cover = data.draw(st.lists(st.integers(0, 8), min_size=len(truth), max_size=len(truth)))
    shown = annotated(sequence.truth, cover=np.array(cover), size=SIZE)
    judged = PROTOCOLS["got10k"].judge(np.array(boxes, float), shown)
    counted = [
        Fraction(0) if unknown(box) else overlap(cut(box), cut(true))
        for box, true, visible in list(zip(boxes, truth, cover, strict=True))[1:]
        if visible and not unknown(true)
    ]
    assert judged.counts["frames"] == len(counted)
    if counted:
        assert judged.values["AO"] == pytest.approx(100 * float(sum(counted) / len(counted)))
        for name, threshold in (("SR at 0.5", Fraction(1, 2)), ("SR at 0.75", Fraction(3, 4))):
            wanted = sum(value > threshold for value in counted) / len(counted)
            assert judged.values[name] == pytest.approx(100 * wanted)


@pytest.mark.parametrize("name", list(PROTOCOLS))
@settings(max_examples=60, deadline=None)
@given(clip=CLIP)
def test_shares_lie_in_range_and_curves_never_turn(name, clip):
    sequence, boxes, _, _ = sequence_of(clip)
    given_, truth = np.array(boxes, float), sequence.truth.copy()
    judged = PROTOCOLS[name].judge(given_, sequence)
    np.testing.assert_array_equal(given_, np.array(boxes, float))
    np.testing.assert_array_equal(sequence.truth, truth)
    if not judged.counts["frames"]:
        return
    assert all(0 <= value <= 100 + 1e-9 for value in judged.values.values())
    for kind, curve in judged.curves.items():
        steps = np.diff(curve.y)
        assert (steps <= 0).all() if kind == "success" else (steps >= 0).all()
        assert 0 <= curve.y.min() <= curve.y.max() <= 1


@pytest.mark.parametrize("name", list(PROTOCOLS))
@settings(max_examples=40, deadline=None)
@given(
    pairs=st.lists(st.tuples(BOX, BOX), min_size=2, max_size=8),
    x=st.integers(4, 300),
    y=st.integers(4, 300),
)
def test_moving_both_changes_nothing(name, pairs, x, y):
    """From 4 px on, where all of every box is right of and below the origin."""

    def score(x, y):
        moved = np.array(pairs, float) + np.array([x, y, 0, 0])
        return PROTOCOLS[name].judge(moved[:, 0], annotated(moved[:, 1], size=(1000, 1000))).values

    assert score(x, y) == pytest.approx(score(4, 4))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_area_under_the_success_curve_tends_to_the_mean_overlap(overlaps):
    found = np.array(overlaps)
    fine = np.arange(10_001) / 10_000
    assert c.trapezoid(c.success(found, len(found), fine)) == pytest.approx(100 * found.mean(), abs=0.011)
    assert c.area(c.success(found, len(found))) == pytest.approx(
        100 * np.mean([(value > np.arange(21) / 20).mean() for value in found])
    )


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 9), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_pooling_runs_is_scoring_their_frames_together(lengths, seed):
    """GOT-10k drops the first frame of each run, OTB gives it away: both are seen in the pool."""
    draw = np.random.default_rng(seed)
    for name in ("got10k", "otb", "trackingnet"):
        protocol, runs, hits, frames = PROTOCOLS[name], {}, 0.0, 0
        for index, length in enumerate(lengths):
            boxes = draw.integers(1, 12, (2, length, 4)).astype(float)
            sequence = annotated(boxes[1], str(index), size=(60, 60))
            runs[str(index)] = (protocol.judge(boxes[0], sequence), sequence)
            found = runs[str(index)][0]
            hits += found.curves["success"].y[10] * found.counts["frames"]
            frames += found.counts["frames"]
        pooled = protocol.pool([judged for judged, _ in runs.values()])
        at_half = pooled.curves["success"].y[10]
        assert at_half == pytest.approx(hits / frames)
        assert pooled.counts["frames"] == frames
