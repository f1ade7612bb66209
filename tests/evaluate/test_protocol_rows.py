"""Every row of the table of protocols, by hand: thresholds, the first frame, invalid and absent truth."""

import numpy as np
import pytest
from tracked_truth import NAN, annotated

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.protocols import PROTOCOLS, OnePass, by_attribute

BALL = [10, 10, 10, 10]
FAR = [100, 100, 10, 10]


def judge(name, boxes, sequence):
    return PROTOCOLS[name].judge(np.array(boxes, dtype=float), sequence)


def two_frames(name, box, truth=BALL, **more):
    """What the second of two frames does, where the first is perfect, as a function of the threshold."""
    judged = judge(name, [BALL, box], annotated([BALL, truth], **more))
    first = {"success": judged.curves["success"].x < 1, "precision": np.ones(51), "normalised precision": 1}
    return {name: 2 * curve.y - first.get(name, 1) for name, curve in judged.curves.items()}


@pytest.mark.parametrize("name", ["otb", "pysot", "lasot", "got10k_otb", "got10k_lasot"])
@pytest.mark.parametrize(("box", "tie"), [([10, 10, 10, 5], 10), ([10, 10, 6, 10], 12), ([13, 10, 3, 5], 3)])
def test_an_overlap_at_the_threshold_does_not_exceed_it(name, box, tie):
    assert two_frames(name, box)["success"].tolist() == [1.0] * tie + [0.0] * (21 - tie)


@pytest.mark.parametrize(("box", "tie"), [([10, 10, 10, 5], 10), ([10, 10, 6, 10], 12), ([13, 10, 3, 5], 3)])
def test_trackingnet_s_threshold_counts_when_it_is_reached(box, tie):
    judged = judge("trackingnet", [BALL, box], annotated([BALL, BALL]))
    assert (2 * judged.curves["success"].y - 1).tolist() == [1.0] * (tie + 1) + [0.0] * (20 - tie)


@pytest.mark.parametrize("name", ["otb", "pysot", "lasot", "got10k_otb", "got10k_lasot"])
def test_a_centre_error_at_the_threshold_is_within_it(name):
    """3, 4, 5: the error is 5 px exactly; at 20 px the box is out of reach by a hair, or just within."""
    assert two_frames(name, [13, 14, 10, 10])["precision"].tolist() == [0.0] * 5 + [1.0] * 46
    assert two_frames(name, [30, 10, 10, 10])["precision"][20] == 1
    assert two_frames(name, [30.001, 10, 10, 10])["precision"][20] == 0


def test_otb_rounds_centre_errors_to_four_decimals():
    assert two_frames("otb", [30.00004, 10, 10, 10])["precision"][20] == 1
    assert two_frames("pysot", [30.00004, 10, 10, 10])["precision"][20] == 0


def test_the_centre_of_a_box_is_that_of_its_pixels():
    """Columns 10 … 19 have their centre at 14.5, the single column 14 at 14: half a pixel, not one."""
    assert two_frames("otb", [14, 10, 1, 10])["precision"].tolist() == [0.0] + [1.0] * 50


@pytest.mark.parametrize("name", ["pysot", "lasot", "got10k_lasot"])
def test_normalised_precision_measures_in_true_widths_and_heights(name):
    """Two of ten columns are 0.20; the same two pixels of a height of 40 are 0.05."""
    shares = two_frames(name, [12, 10, 10, 10])["normalised precision"]
    assert shares.tolist() == [0.0] * 20 + [1.0] * 31
    tall = [10, 10, 10, 40]
    judged = judge(name, [tall, [10, 12, 10, 40]], annotated([tall, tall]))
    assert judged.values["normalised precision at 0.20"] == 100
    assert judged.values["normalised precision AUC"] == pytest.approx(100 * (5 * 0.5 + 46) / 51)


@pytest.mark.parametrize("name", ["otb", "lasot", "got10k_otb", "got10k_lasot", "trackingnet"])
def test_the_first_frame_is_the_truth_whatever_was_predicted(name):
    sequence = annotated([BALL, BALL])
    assert judge(name, [FAR, BALL], sequence).values == judge(name, [BALL, BALL], sequence).values


def test_pysot_scores_the_first_frame_as_it_was_predicted():
    judged = judge("pysot", [FAR, BALL], annotated([BALL, BALL]))
    assert judged.values["success at 0.5"] == 50
    assert judged.values["precision at 20 px"] == 50


def test_got10k_leaves_the_first_frame_out():
    size = (320, 240)
    judged = judge("got10k", [FAR, BALL, FAR], annotated([BALL] * 3, size=size))
    assert judged.values == {"AO": 50.0, "SR at 0.5": 50.0, "SR at 0.75": 50.0}
    assert judged.counts["frames"] == 2


MISS, HIT = 0.0, 1.0
EMPTY = [-1, -1, 0, 0]
"""A line of zeros, counted from 0."""


@pytest.mark.parametrize(
    ("name", "truth", "success", "precision"),
    [
        ("otb", EMPTY, MISS, HIT),
        ("otb", [0, 0, 0, 0], MISS, HIT),
        ("otb", NAN, MISS, HIT),
        ("otb", [20, 20, 0, 10], MISS, HIT),
        ("otb", [-1, 10, 10, 10], MISS, HIT),  # column 0 of a file that counts from 1
        ("pysot", EMPTY, MISS, HIT),
        ("pysot", NAN, MISS, HIT),
        ("pysot", [20, 20, 0, 10], MISS, MISS),
        ("pysot", [-15, 10, 10, 10], MISS, HIT),
        ("lasot", EMPTY, MISS, HIT),
        ("lasot", NAN, MISS, HIT),
        ("lasot", [20, 20, 0, 10], MISS, HIT),
        ("got10k_otb", EMPTY, MISS, MISS),
        ("got10k_otb", NAN, MISS, MISS),
        ("got10k_otb", [20, 20, 0, 10], MISS, MISS),
        ("got10k_lasot", EMPTY, MISS, MISS),
        ("got10k_lasot", [20, 20, 0, 10], MISS, MISS),
        ("trackingnet", NAN, MISS, MISS),
    ],
)
def test_a_truth_that_is_no_box(name, truth, success, precision):
    judged = judge(name, [BALL, FAR], annotated([BALL, truth]))
    assert (2 * judged.curves["success"].y[:-1] - 1 == success).all()
    assert (2 * judged.curves["precision"].y - 1 == precision).all()
    assert judged.counts["frames"] == 2
    assert judged.counts["invalid truth"] == (0 if name == "got10k_lasot" else 1) * (truth[0] != -15)


def test_a_truth_cut_by_the_image_is_a_box_like_any_other():
    """The column that OTB's files call 1 is column 0 here."""
    edge = [0, 0, 8, 8]
    for name in ("otb", "pysot", "lasot", "got10k_otb", "got10k_lasot"):
        assert judge(name, [BALL, edge], annotated([BALL, edge])).values["success at 0.5"] == 100
    outside = [-4, 10, 10, 10]
    for name in ("pysot", "got10k_otb", "got10k_lasot", "trackingnet"):
        judged = judge(name, [BALL, outside], annotated([BALL, outside]))
        assert judged.curves["success"].y[:-1].min() == 1


def test_frames_with_nan_truth_leave_got10k_lasot_s_denominator():
    judged = judge("got10k_lasot", [BALL, FAR, FAR], annotated([BALL, NAN, BALL]))
    assert judged.values["success at 0.5"] == 50
    assert judged.counts["frames"] == 2
    assert judged.counts["invalid truth"] == 1


@pytest.mark.parametrize("name", ["pysot", "lasot"])
def test_absent_frames_cannot_hit_but_stay_in_the_denominator(name):
    absent = np.array([False, True, True, False])
    judged = judge(name, [BALL] * 4, annotated([BALL, BALL, EMPTY, BALL], absent=absent))
    assert judged.values["success at 0.5"] == 50
    assert judged.values["precision at 20 px"] == 50
    assert judged.values["normalised precision at 0.20"] == 50
    assert judged.counts == {
        "frames": 4,
        "absent": 2,
        "invalid truth": 0,
        "frames without a predicted box": 0,
    }


@pytest.mark.parametrize("name", ["otb", "got10k_otb", "got10k_lasot", "trackingnet"])
def test_other_protocols_know_no_absent_flags(name):
    flagged = annotated([BALL] * 2, absent=np.array([False, True]))
    assert judge(name, [BALL, FAR], flagged).values == judge(name, [BALL, FAR], annotated([BALL] * 2)).values


@pytest.mark.parametrize("name", ["otb", "pysot", "got10k_otb", "got10k_lasot", "trackingnet"])
@pytest.mark.parametrize("lost", [NAN, [float("inf"), 10, 10, 10]])
def test_a_prediction_that_is_no_box_misses_in_both(name, lost):
    judged = judge(name, [BALL, lost], annotated([BALL, BALL]))
    assert (judged.curves["success"].y[1:-1] == 0.5).all()
    assert (judged.curves["precision"].y == 0.5).all()
    assert judged.counts["frames without a predicted box"] == 1


def test_lasot_repeats_the_last_box_in_place_of_none():
    truth = [BALL, BALL, [12, 10, 10, 10], BALL, NAN]
    lost = [0, 0, 0, 0]
    shown = judge("lasot", [BALL, NAN, lost, BALL, NAN], annotated(truth))
    meant = judge("lasot", [BALL, BALL, BALL, BALL, BALL], annotated(truth))
    assert shown.values == meant.values
    assert shown.counts["frames without a predicted box"] == 3


def test_trackingnet_rounds_halves_to_even_before_anything_else():
    """[10.5, 11.5, …] becomes [10, 12, …]; 0.4 px are nothing."""
    judged = judge("trackingnet", [BALL, [10.4, 9.6, 10.5, 9.5]], annotated([BALL, BALL]))
    assert judged.values["success AUC"] == pytest.approx(100)
    judged = judge("trackingnet", [BALL, [10.5, 11.5, 10, 10]], annotated([BALL, [10, 12, 10, 10]]))
    assert judged.values["precision AUC"] == pytest.approx(100)


def test_trackingnet_takes_areas_by_the_trapezoidal_rule():
    """One of two frames is off by 10 of 10 columns: no overlap, 10 px, one target size."""
    judged = judge("trackingnet", [BALL, [20, 10, 10, 10]], annotated([BALL, BALL]))
    assert judged.values["success AUC"] == pytest.approx(100 * (0.5 + 0.05 * (1 - 0.5) / 2))
    within = 50 - 10 + 2.5 / 2  # px of the 50 in which the second frame is a hit, with the ramp up to 10
    assert judged.values["precision AUC"] == pytest.approx(100 * (0.5 + 0.5 * within / 50))
    assert judged.values["normalised precision AUC"] == pytest.approx(50)


def test_got10k_drops_frames_in_which_nothing_is_visible():
    cover = np.array([0, 8, 0, 1])
    sequence = annotated([BALL] * 4, cover=cover, size=(320, 240))
    judged = judge("got10k", [BALL, BALL, FAR, FAR], sequence)
    assert judged.values["AO"] == 50
    assert judged.counts == {
        "frames": 2,
        "covered": 1,
        "invalid truth": 0,
        "frames without a predicted box": 0,
    }


def test_got10k_cuts_boxes_to_the_image_by_intersection_and_leaves_its_input_alone():
    """The visible 5 columns of both agree; moving the box into the image instead would make them 10."""
    sequence = annotated([BALL, [0, 10, 5, 10]], size=(40, 30))
    boxes = np.array([BALL, [-5.0, 10, 10, 10]])
    before = boxes.copy(), sequence.truth.copy()
    assert PROTOCOLS["got10k"].judge(boxes, sequence).values["AO"] == 100
    np.testing.assert_array_equal(boxes, before[0])
    np.testing.assert_array_equal(sequence.truth, before[1])
    right = annotated([BALL, [35, 10, 5, 10]], size=(40, 30))
    assert judge("got10k", [BALL, [35, 10, 50, 10]], right).values["AO"] == 100
    gone = annotated([BALL, [35, 10, 5, 10]], size=(40, 30))
    assert judge("got10k", [BALL, [45, 10, 5, 10]], gone).values["AO"] == 0


def test_got10k_s_success_rates_are_strict():
    sequence = annotated([BALL] * 3, size=(40, 30))
    judged = judge("got10k", [BALL, [10, 10, 10, 5], [10, 10, 10, 7.5]], sequence)
    assert judged.values == {"AO": pytest.approx(62.5), "SR at 0.5": 50.0, "SR at 0.75": 0.0}


def test_got10k_pools_frames_and_the_others_average_sequences():
    size = (320, 240)
    long, short = annotated([BALL] * 9, "long", size=size), annotated([BALL] * 3, "short", size=size)
    for name, expected in (("got10k", 100 * 8 / 10), ("otb", 100 * (1 + 1 / 3) / 2)):
        protocol = PROTOCOLS[name]
        judged = {
            "long": judge(name, [BALL] * 9, long),
            "short": judge(name, [BALL, FAR, FAR], short),
        }
        total = protocol.combine(judged, [long, short])
        assert total.values["AO" if name == "got10k" else "success at 0.5"] == pytest.approx(expected)
        assert total.counts["frames"] == sum(one.counts["frames"] for one in judged.values())


def test_runs_of_one_sequence_are_pooled_frame_by_frame():
    runs = [judge("otb", [BALL] * 3 + [FAR], annotated([BALL] * 4)), judge("otb", [BALL], annotated([BALL]))]
    protocol = PROTOCOLS["otb"]
    assert isinstance(protocol, OnePass)
    assert protocol.pool(runs).values["success at 0.5"] == pytest.approx(80)


def test_sequences_without_a_frame_that_counts_are_left_out_and_told():
    sequences = [annotated([NAN, NAN], "blank"), annotated([BALL, BALL], "ball")]
    protocol = PROTOCOLS["got10k_lasot"]
    judged = {one.name: protocol.judge(np.array([BALL, BALL], float), one) for one in sequences}
    assert np.isnan(judged["blank"].values["success AUC"])
    total = protocol.combine(judged, sequences)
    assert total.values["success at 0.5"] == 100
    assert total.counts["sequences without a frame that counts"] == 1
    got10k = PROTOCOLS["got10k"]
    only = annotated([BALL], "only", size=(40, 30))
    assert np.isnan(got10k.combine({"only": judge("got10k", [BALL], only)}, [only]).values["AO"])


def test_a_table_by_attribute():
    sequences = [
        annotated([BALL, BALL], "a", attributes=("OCC", "IV")),
        annotated([BALL, BALL], "b", attributes=("OCC",)),
        annotated([BALL, BALL], "c"),
    ]
    boxes = {"a": [BALL, BALL], "b": [BALL, FAR], "c": [BALL, FAR]}
    judged = {one.name: judge("otb", boxes[one.name], one) for one in sequences}
    table = by_attribute(PROTOCOLS["otb"], judged, sequences)
    assert {name: one.values["success at 0.5"] for name, one in table.items()} == {"IV": 100, "OCC": 75}


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_the_headline_comes_first_and_the_ceiling_is_the_truth_s(name):
    sequence = annotated([BALL] * 5, size=(40, 30))
    ceiling = PROTOCOLS[name].ceiling([sequence])
    headline, value = next(iter(ceiling.values.items()))
    assert headline == ("AO" if name == "got10k" else "success AUC")
    assert value == pytest.approx(100 if name in ("got10k", "trackingnet") else 100 * 20 / 21)
    assert PROTOCOLS[name].name == name


@pytest.mark.parametrize("boxes", [[BALL], [BALL] * 3, [[10, 10, 10]] * 2])
@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_a_wrong_number_of_boxes_is_refused_by_name(name, boxes):
    with pytest.raises(MmsslError, match=r"ball: expected boxes of shape \(2, 4\)"):
        judge(name, boxes, annotated([BALL, BALL], size=(40, 30)))


def test_a_sequence_that_was_not_judged_is_named():
    sequences = [annotated([BALL, BALL], "ball"), annotated([BALL, BALL], "kite")]
    judged = {"ball": judge("otb", [BALL, BALL], sequences[0])}
    with pytest.raises(MmsslError, match="not judged: kite"):
        PROTOCOLS["otb"].combine(judged, sequences)
    with pytest.raises(MmsslError, match="no sequence"):
        PROTOCOLS["otb"].combine(judged, [])
