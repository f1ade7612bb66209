"""Runs of a tracker: what is stored, and that a run that was stopped goes on where it was."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_tracking import Given, features, sequence

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking import experiments, runs
from mmssl.evaluate.tracking.experiments import anchored
from mmssl.evaluate.tracking.results import LAYOUTS
from mmssl.evaluate.tracking.runs import follow_all
from mmssl.evaluate.tracking.trajectory import Trajectory
from mmssl.tracking.tracker import PRESETS

pytestmark = pytest.mark.usefixtures("one_thread")
UDT = PRESETS["udt"]
EXPERIMENTS = ("ope", "tre", "sre", "vot_reset", "vot_anchor")


@pytest.fixture
def counted(monkeypatch):
    """Sequences that a tracker was started in, in order; the run stops before job number ``stop_at``."""
    seen = {"started": [], "stop_at": None}
    real = runs.lockstep

    def lockstep(trackers, jobs, lanes):
        for index, *found in real(trackers, jobs, lanes):
            if seen["stop_at"] == len(seen["started"]):
                raise KeyboardInterrupt
            seen["started"].append(jobs[index].frames.name)
            yield index, *found

    monkeypatch.setattr(runs, "lockstep", lockstep)
    return seen


def three():
    return [anchored(sequence(12, seed)) for seed in range(3)]


def equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].runs.keys() == b[name].runs.keys()
        for run, its in a[name].runs.items():
            other = b[name].runs[run]
            if isinstance(its, Trajectory):
                assert (its.codes == other.codes).all()
                np.testing.assert_array_equal(its.regions, other.regions)
            else:
                np.testing.assert_array_equal(its, other)


def test_a_stopped_run_goes_on_and_ends_the_same(tmp_path, counted):
    sequences = three()
    whole = follow_all(features(), UDT, sequences, "ope", folder=tmp_path / "whole", lanes=1)
    counted["started"].clear()
    counted["stop_at"] = 1
    with pytest.raises(KeyboardInterrupt):
        follow_all(features(), UDT, sequences, "ope", folder=tmp_path / "stopped", lanes=1)
    assert (tmp_path / "stopped" / "walk0.txt").is_file()
    assert not (tmp_path / "stopped" / "walk1.txt").exists()
    counted["started"].clear()
    counted["stop_at"] = None
    again = follow_all(features(), UDT, sequences, "ope", folder=tmp_path / "stopped", lanes=1)
    assert counted["started"] == ["walk1", "walk2"]
    assert list(again) == ["walk0", "walk1", "walk2"]
    equal(again, whole)
    for name in whole:
        text = (tmp_path / "whole" / f"{name}.txt").read_text()
        assert (tmp_path / "stopped" / f"{name}.txt").read_text() == text
        assert again[name].frames == 12
        assert again[name].seconds > 0


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_reads_back_what_it_wrote(tmp_path, experiment, monkeypatch):
    monkeypatch.setattr(experiments, "SEGMENTS", 3)
    monkeypatch.setattr(experiments, "SHORTEST", 4)
    sequences = [anchored(sequence(8, seed)) for seed in range(2)]
    kept = follow_all(features(), UDT, sequences, experiment, folder=tmp_path)
    bare = follow_all(features(), UDT, sequences, experiment)
    counts = {"ope": 1, "tre": 3, "sre": 12, "vot_reset": 1, "vot_anchor": 2}
    for name, its in kept.items():
        assert len(its.runs) == counts[experiment]
        assert its.seconds > 0
        for run, boxes in its.runs.items():
            if not isinstance(boxes, Trajectory):
                np.testing.assert_allclose(boxes, bare[name].runs[run], atol=5.1e-5)

    def never(*_):
        raise AssertionError("all of it was there")

    monkeypatch.setattr(runs, "lockstep", never)
    monkeypatch.setattr(runs, "supervise", never)
    equal(follow_all(features(), UDT, sequences, experiment, folder=tmp_path), kept)


def test_only_what_was_made_by_the_same_thing_is_kept(tmp_path, counted):
    sequences = three()

    def tracked(seed=0, config=UDT, of=sequences):
        counted["started"].clear()
        follow_all(features(seed), config, of, "ope", folder=tmp_path, lanes=2)
        return sorted(counted["started"])

    assert tracked() == ["walk0", "walk1", "walk2"]
    assert tracked() == []
    assert tracked(of=sequences[:1]) == []
    assert tracked(config=UDT.model_copy(update={"rate": 0.02})) == ["walk0", "walk1", "walk2"]
    assert tracked(seed=1) == ["walk0", "walk1", "walk2"], "other weights"
    assert tracked(seed=1) == []
    moved = replace(sequences[1], truth=sequences[1].truth + 1)
    assert tracked(seed=1, of=[sequences[0], moved, sequences[2]]) == ["walk1"]
    (tmp_path / "walk2.txt").write_text("1,1,5,5\n")
    assert tracked(seed=1, of=[sequences[0], moved, sequences[2]]) == ["walk2"], "a damaged file"


def test_lanes_change_nothing(tmp_path):
    sequences = [sequence(length, seed) for seed, length in enumerate((5, 12, 8))]
    one = follow_all(features(), UDT, sequences, "ope", lanes=1)
    three_ = follow_all(features(), UDT, sequences, "ope", lanes=3)
    for name in one:
        np.testing.assert_allclose(one[name].runs["ope"], three_[name].runs["ope"], atol=1e-3)


def test_it_follows_the_square():
    """Random features of a filter that learns online do follow something so distinct."""
    its = follow_all(features(), UDT, [one := sequence(24, 5)], "ope")["walk5"].runs["ope"]
    assert np.abs(its[-1, :2] - one.truth[-1, :2]).max() < 6


def test_got10ks_own_folders(tmp_path):
    follow_all(features(), UDT, [sequence(8, 0)], "ope", folder=tmp_path, layout=LAYOUTS["got10k"])
    lines = (tmp_path / "walk0" / "walk0_001.txt").read_text().splitlines()
    assert len(lines) == 8
    assert len((tmp_path / "walk0" / "walk0_time.txt").read_text().splitlines()) == 8


def test_the_real_error_is_shown_and_what_was_done_stays(tmp_path, counted):
    class Torn(Given):
        def __getitem__(self, number):
            if number == 3:
                raise MmsslError(f"0004.jpg: frame {number} of {self.name} cannot be read: cut short")
            return super().__getitem__(number)

    good, torn = sequence(8, 0), sequence(8, 1)
    torn = replace(torn, frames=Torn(torn.frames.frames, "torn"))
    for experiment in ("ope", "vot_reset"):
        with pytest.raises(MmsslError, match=r"0004.jpg: frame 3 of torn cannot be read: cut short"):
            follow_all(features(), UDT, [good, torn], experiment, folder=tmp_path / experiment, lanes=1)
        assert list(json.loads((tmp_path / experiment / "finished.json").read_text())) == ["walk0"]


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "finished.json").write_text("[1]")
    with pytest.raises(MmsslError, match=r"finished.json: expected a mapping"):
        follow_all(features(), UDT, [sequence(4)], "ope", folder=tmp_path)
