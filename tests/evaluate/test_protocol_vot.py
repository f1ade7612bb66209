"""VOT's two experiments: hand-made trajectories with known answers, and the definitions in plain loops."""

import numpy as np
import pytest
from tracked_truth import annotated

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.protocols import BETTER_LOWER, VotAnchor, VotReset, by_attribute, corners
from mmssl.evaluate.tracking.trajectory import FAILURE, INIT, REGION, UNKNOWN, Trajectory

SIZE = (320, 240)
TALL = 20
"""Height of the true box in px: overlaps are its twentieths."""


def still(frames, name="bag", **more):
    """A target that does not move: 10 × 20 px."""
    return annotated([[50, 50, 10, TALL]] * frames, name, size=SIZE, **more)


def run(overlaps, codes=None):
    """A run whose box covers these shares (twentieths) of the true one; by default a start and regions."""
    heights = np.round(np.asarray(overlaps, float) * TALL)
    boxes = np.tile([50.0, 50, 10, 0], (len(heights), 1))
    boxes[:, 3] = heights
    boxes[heights == 0] = [200, 200, 10, 10]
    codes = np.array([INIT] + [REGION] * (len(boxes) - 1)) if codes is None else np.asarray(codes)
    return Trajectory(codes, np.where(codes[:, None] == REGION, corners(boxes), np.nan))


def failing(frames, failures, overlap=1.0):
    """A run that fails at these frames and starts again five frames later."""
    codes = np.full(frames, REGION)
    codes[0] = INIT
    for frame in failures:
        codes[frame : frame + 5] = UNKNOWN
        codes[frame] = FAILURE
        codes[frame + 5 : frame + 6] = INIT
    return run(np.full(frames, overlap), codes)


class TestReset:
    def test_a_tracker_that_never_fails_scores_its_overlap(self):
        sequence = still(400)
        judged = VotReset(2018).judge([run([0.5] * 400)], sequence)
        assert judged.values == {
            "EAO": pytest.approx(50),
            "accuracy": pytest.approx(50),
            "failures": 0,
            "failures per 100 frames": 0,
        }
        assert next(iter(judged.values)) == "EAO"
        assert judged.counts == {"frames": 400, "runs": 1, "invalid truth": 0}

    def test_accuracy_leaves_out_ten_frames_from_each_start(self):
        """Frames 10 and 11 at a half, then a failure at 12, a start at 17, and 27 … 29 in full."""
        shares, trial = np.r_[[0.5] * 12, [1.0] * 18], failing(30, [12])
        judged = VotReset(2018).judge([run(shares, trial.codes)], still(30))
        assert judged.values["accuracy"] == pytest.approx(100 * (2 * 0.5 + 3) / 5)
        assert judged.values["failures"] == 1
        assert judged.values["failures per 100 frames"] == pytest.approx(100 / 30)
        assert np.isnan(judged.values["EAO"])  # no sequence of 100 frames

    def test_accuracy_averages_repetitions_frame_by_frame(self):
        """In frame 10 one run is past its burn-in, in 11 both are; in 12 the second one fails."""
        first = run([0.5] * 13)
        late = run([1.0] * 13, [INIT] + [REGION] * 11 + [FAILURE])
        late.codes[1] = INIT
        judged = VotReset(2018).judge([first, late], still(13))
        assert judged.values["accuracy"] == pytest.approx(100 * (0.5 + 0.75 + 0.5) / 3)
        assert judged.values["failures"] == 0.5

    @pytest.mark.parametrize(("year", "low", "high"), [(2016, 108, 371), (2017, 100, 356), (2019, 46, 291)])
    def test_eao_of_one_early_failure(self, year, low, high):
        """Ten frames tracked, a failure, then all the rest: Φ(n) = (10 / (n − 1) + 1) / 2."""
        judged = VotReset(year).judge([failing(600, [11])], still(600))
        wanted = np.mean([(10 / (n - 1) + 1) / 2 for n in range(low, high + 1)])
        assert judged.values["EAO"] == pytest.approx(100 * wanted)
        assert len(judged.curves["expected overlap"].x) == high

    def test_a_failure_is_continued_to_the_length_of_the_longest_run(self):
        """The tail after the restart is too short for the interval: only the fragment that failed tells."""
        judged = VotReset(2019).judge([failing(100, [80])], still(100))
        curve = judged.curves["expected overlap"].y
        assert len(curve) == 100
        assert curve[99] == pytest.approx(79 / 99)
        assert judged.values["EAO"] == pytest.approx(
            100 * np.mean([(1 if n <= 80 else 79 / (n - 1)) for n in range(46, 101)])
        )

    @pytest.mark.parametrize(("frame", "restarts"), [(94, True), (95, False), (97, False)])
    def test_a_failure_without_a_restart_leaves_its_fragment_open(self, frame, restarts):
        """Of more than its 100 frames only the other sequence tells then; a closed one tells of zeros."""
        protocol, short, long = VotReset(2019), still(100, "short"), still(150, "long")
        judged = {
            "short": protocol.judge([failing(100, [frame])], short),
            "long": protocol.judge([run([1.0] * 150)], long),
        }
        curve = protocol.combine(judged, [short, long]).curves["expected overlap"].y
        assert curve[99] == pytest.approx((1 + (frame - 1) / 99) / 2)
        assert curve[119] == pytest.approx((1 + (frame - 1) / 119) / 2 if restarts else 1)

    def test_repetitions_share_the_weight_of_their_sequence(self):
        """15 perfect repetitions of one sequence, one of another that is lost at once and stays lost."""
        good, bad = still(200, "good"), still(200, "bad")
        protocol = VotReset(2018)
        judged = {
            "good": protocol.judge([run([1.0] * 200)] * 15, good),
            "bad": protocol.judge([run([0.0] * 200)], bad),
        }
        total = protocol.combine(judged, [good, bad])
        assert total.values["EAO"] == pytest.approx(50)
        assert total.values["accuracy"] == pytest.approx(50)
        assert total.counts["runs"] == 16

    @pytest.mark.parametrize("seed", range(4))
    def test_eao_is_the_definition_s_in_plain_loops(self, seed):
        draw = np.random.default_rng(seed)
        sequences, judged, fragments = [], {}, []
        protocol = VotReset(2019)
        for name, frames in (("a", 90), ("b", 140), ("c", 60)):
            sequence = still(frames, name)
            runs = []
            for _ in range(3):
                failures = np.flatnonzero(draw.random(frames // 12) < 0.3) * 12 + 9
                codes = failing(frames, failures).codes
                shares = draw.integers(0, TALL + 1, frames) / TALL
                runs.append(run(shares, codes))
                starts = [0, *[f + 5 for f in failures if f + 5 < frames], frames]
                for k in range(len(starts) - 1):
                    seen = [shares[t] if codes[t] == REGION else 0.0 for t in range(starts[k], starts[k + 1])]
                    fragments.append((seen, k < len(starts) - 2))
            sequences.append(sequence)
            judged[name] = protocol.judge(runs, sequence)
        phi = []
        for n in range(46, 141):
            tell = []
            for seen, failed in fragments:
                if failed or len(seen) >= n:
                    tell.append(sum((seen + [0.0] * n)[1:n]) / (n - 1))
            phi.append(sum(tell) / len(tell))
        total = protocol.combine(judged, sequences)
        assert total.values["EAO"] == pytest.approx(100 * sum(phi) / len(phi))

    def test_the_years_before_2015_have_no_eao(self):
        assert "EAO" not in VotReset(2014).ceiling([still(50)]).values
        assert "EAO" in VotReset(2015).ceiling([still(150)]).values
        with pytest.raises(MmsslError, match="VOT 2020"):
            VotReset(2020)

    def test_the_ceiling_is_a_hundred(self):
        ceiling = VotReset(2018).ceiling([still(200, "a"), still(150, "b")])
        assert ceiling.values["EAO"] == ceiling.values["accuracy"] == 100
        assert {"failures", "failures per 100 frames"} == BETTER_LOWER & set(ceiling.values)

    def test_frames_without_truth_do_not_count(self):
        truth = np.tile([50.0, 50, 10, TALL], (30, 1))
        truth[20] = np.nan
        judged = VotReset(2018).judge([run([0.5] * 30)], annotated(truth, size=SIZE))
        assert judged.values["accuracy"] == pytest.approx(50)
        assert judged.counts["invalid truth"] == 1

    def test_runs_that_do_not_fit_are_refused_by_name(self):
        protocol = VotReset(2018)
        with pytest.raises(MmsslError, match="bag: expected 30 frames in each run, found 29"):
            protocol.judge([run([1.0] * 30), run([1.0] * 29)], still(30))
        with pytest.raises(MmsslError, match="bag: no run"):
            protocol.judge([], still(30))
        with pytest.raises(MmsslError, match="bag: expected the code 1"):
            protocol.judge([run([1.0] * 30, [REGION] * 30)], still(30))


def toolkit(runs):
    """EAO of VOT's Python toolkit from (overlaps, failed at), frame by frame."""
    curve, active = [0.0] * 755, [0] * 755
    for overlaps, done in runs:
        seen = [o if t < done else 0.0 for t, o in enumerate(overlaps)]
        for j in range(1, 755):
            if j < len(seen):
                curve[j] += sum(seen[1 : j + 1]) / j
                active[j] += 1
            elif done < len(seen):
                curve[j] += sum(seen[1:]) / (j - 1)
                active[j] += 1
    means = [total / n if n else 0.0 for total, n in zip(curve, active, strict=True)]
    return sum(means[115:]) / len(means[115:])


class TestAnchor:
    def test_a_failure_counts_from_the_first_of_ten_frames(self):
        """Frame 0 is the given one and counts 0; 20 frames follow at a half, then nothing."""
        sequence = still(100, anchors=(0,))
        judged = VotAnchor().judge({0: run([1.0] + [0.5] * 20 + [0.0] * 79)}, sequence)
        assert judged.values["robustness"] == pytest.approx(100 * 21 / 100)
        assert judged.values["accuracy"] == pytest.approx(100 * 20 * 0.5 / 21)
        assert next(iter(judged.values)) == "EAO"

    def test_nine_bad_frames_are_no_failure_and_a_tenth_of_overlap_is_bad(self):
        sequence = still(60, anchors=(0,))
        nine = [1.0] + [1.0] * 20 + [0.0] * 9 + [1.0] * 30
        assert VotAnchor().judge({0: run(nine)}, sequence).values["robustness"] == 100
        ten = [1.0] + [1.0] * 20 + [0.1] * 10 + [1.0] * 29
        assert VotAnchor().judge({0: run(ten)}, sequence).values["robustness"] == pytest.approx(100 * 21 / 60)
        more = [1.0] + [1.0] * 20 + [0.15] * 10 + [1.0] * 29
        assert VotAnchor().judge({0: run(more)}, sequence).values["robustness"] == 100

    def test_a_frame_without_truth_ends_a_streak(self):
        truth = np.tile([50.0, 50, 10, TALL], (40, 1))
        truth[15] = np.nan
        sequence = annotated(truth, "bag", size=SIZE, anchors=(0,))
        shares = [1.0] * 10 + [0.0] * 12 + [1.0] * 18
        assert VotAnchor().judge({0: run(shares)}, sequence).values["robustness"] == 100

    def test_negative_anchors_run_backward(self):
        """The target stands still in the first half only; from 29 back to 0, then, all is found."""
        truth = np.tile([50.0, 50, 10, TALL], (60, 1))
        truth[30:, 0] = 250
        sequence = annotated(truth, "bag", size=SIZE, anchors=(0, -29))
        judged = VotAnchor().judge({0: run([1.0] * 60), -29: run([1.0] * 30)}, sequence)
        assert judged.values["robustness"] == pytest.approx(100 * (30 + 30) / 90)
        assert judged.values["accuracy"] == pytest.approx(100 * 58 / 60)

    def test_sequences_weigh_by_frames_in_robustness_and_by_progress_in_accuracy(self):
        long = still(200, "long", anchors=(0, 100), attributes=("OCC",))
        short = still(50, "short", anchors=(0,))
        protocol = VotAnchor()
        judged = {
            "long": protocol.judge({0: run([1.0] * 200), 100: run([0.0] * 100)}, long),
            "short": protocol.judge({0: run([0.5] * 50)}, short),
        }
        total = protocol.combine(judged, [long, short])
        assert total.values["robustness"] == pytest.approx(100 * (200 * 200 / 300 + 50) / 250)
        assert total.values["accuracy"] == pytest.approx(100 * (199 + 49 * 0.5) / 250)
        table = by_attribute(protocol, judged, [long, short])
        assert table["OCC"].values == judged["long"].values

    def test_eao_of_a_tracker_that_stays_on_is_its_overlap(self):
        sequence = still(800, anchors=(0,))
        judged = VotAnchor().judge({0: run([0.5] * 800)}, sequence)
        assert judged.values["EAO"] == pytest.approx(50)
        assert np.isnan(VotAnchor().judge({0: run([0.5] * 115)}, still(115, anchors=(0,))).values["EAO"])

    def test_eao_of_one_failure(self):
        """Perfect for 30 frames after the anchor: Φ(n) = 30 / n, and 30 / (n − 1) past the run's end."""
        judged = VotAnchor().judge({0: run([1.0] * 31 + [0.0] * 269)}, still(300, anchors=(0,)))
        wanted = np.mean([30 / (n if n < 300 else n - 1) for n in range(115, 755)])
        assert judged.values["EAO"] == pytest.approx(100 * wanted)

    @pytest.mark.parametrize("seed", range(3))
    def test_eao_is_the_definition_s_in_plain_loops(self, seed):
        draw = np.random.default_rng(seed)
        sequences, judged, seen = [], {}, []
        for name, frames in (("a", 300), ("b", 900), ("c", 120)):
            sequence = still(frames, name, anchors=(0, 50, 1 - frames))
            runs = {}
            for anchor, length in ((0, frames), (50, frames - 50), (1 - frames, frames)):
                lost = int(draw.integers(12, 2 * length))
                shares = draw.integers(5, TALL + 1, length) / TALL
                shares[lost:] = 0
                runs[anchor] = run(shares)
                shares[0] = 0
                seen.append((shares, lost if lost + 10 <= length else length))
            sequences.append(sequence)
            judged[name] = VotAnchor().judge(runs, sequence)
        total = VotAnchor().combine(judged, sequences)
        assert total.values["EAO"] == pytest.approx(100 * toolkit(seen))

    def test_the_ceiling_misses_the_given_frames_only(self):
        ceiling = VotAnchor().ceiling([still(200, anchors=(0, -150))])
        assert ceiling.values["robustness"] == 100
        assert ceiling.values["accuracy"] == pytest.approx(100 * (199 + 150) / (200 + 151))

    def test_missing_runs_and_anchors_are_named(self):
        with pytest.raises(MmsslError, match="bag: no run from anchor -20"):
            VotAnchor().judge({0: run([1.0] * 30)}, still(30, anchors=(0, -20)))
        with pytest.raises(MmsslError, match="bag: expected 21 frames in the run from anchor -20, found 30"):
            VotAnchor().judge({-20: run([1.0] * 30)}, still(30, anchors=(-20,)))
        with pytest.raises(MmsslError, match="bag: has no anchors"):
            VotAnchor().judge({}, still(30))
