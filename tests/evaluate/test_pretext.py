"""The pretext evaluation: every case counts once, batches are whole, chance and curves are kept."""

import json

import numpy as np
import pytest
import torch
from tiny_sequences import video_shards

from mmssl.errors import MmsslError
from mmssl.evaluate import Subject, evaluate, parse_evaluation
from mmssl.evaluate.pretext import full
from mmssl.methods.base import Answers, DataInfo, Method, MethodConfig
from mmssl.stream.batch import Batch
from mmssl.stream.clips.blocks import Blocks
from mmssl.stream.clips.spread import Spread
from mmssl.stream.sample import Fault
from mmssl.stream.views.clip import ClipView

SAMPLES = 11


class AskedConfig(MethodConfig):
    name: str = "asked"


class AskedMethod(Method):
    """Its answers are functions of the sample's id, so that they can be added up by hand."""

    Config = AskedConfig

    def __init__(self, curious=True):
        super().__init__(AskedConfig(), DataInfo(SAMPLES))
        self.curious = curious
        self.seen = []

    @property
    def views(self):
        return {
            "clip": ClipView(Spread(2), 16, (0, 0, 0), (1, 1, 1)),
            "last": ClipView(Spread(1), 8, (0, 0, 0), (1, 1, 1)),
        }

    def forward(self, batch):
        raise NotImplementedError

    def encoders(self):
        return {}

    def pretext(self, batch):
        assert batch.clip["frames"].shape[1:] == (2, 3, 16, 16)
        assert batch.last["times"].shape == (len(batch), 1)
        self.seen.append(batch.id.tolist())
        ids = batch.id.double()
        if not self.curious:
            return {}
        among = f"{len(ids)} candidates"
        answers = {
            f"right {k}": Answers((ids % k == 0).double(), among, chance=1 / k, curve="right", at=k)
            for k in (4, 2)
        }
        error = Answers(ids, "how far", unit="s", chance=float(ids.max()), better="lower")
        return {**answers, "far off": error}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return video_shards(tmp_path_factory.mktemp("asked"), {"val": (4,) * SAMPLES})


def ask(shards, method, folder=None, **config):
    subject = Subject({}, shards, method=method, folder=folder)
    return evaluate(subject, [parse_evaluation({"name": "pretext", **config}, "test")])


def test_every_case_of_whole_batches_counts_once(shards):
    method = AskedMethod()
    scores = {score.evaluation: score for score in ask(shards, method, batch_size=4)}
    assert method.seen == [[0, 1, 2, 3], [4, 5, 6, 7]]  # three left: not a batch
    assert scores["pretext/right 4"].value == 25
    assert scores["pretext/right 2"].value == 50
    assert (scores["pretext/right 4"].chance, scores["pretext/right 4"].unit) == (25, "%")
    assert (
        "4 candidates; mean over 8 cases; val: 8 samples in 2 batches of 4"
        in scores["pretext/right 4"].protocol
    )
    assert "; 3 unreadable or short of a batch left out" in scores["pretext/right 4"].protocol
    error = scores["pretext/far off"]
    assert (error.value, error.unit, error.better, error.ceiling) == (3.5, "s", "lower", None)
    assert error.chance == 5  # of each batch its own: (3 + 7) / 2


def test_standard_error_is_that_of_batches(shards):
    (error,) = [s for s in ask(shards, AskedMethod(), batch_size=1) if s.evaluation == "pretext/far off"]
    expected = np.std(np.arange(SAMPLES)) / SAMPLES**0.5
    told = float(error.protocol.split("standard error ")[1].split()[0])
    assert told == pytest.approx(expected, rel=0.1)
    assert error.interval[0] < 5 < error.interval[1]
    (alone,) = [s for s in ask(shards, AskedMethod(), batch_size=11) if s.evaluation == "pretext/far off"]
    assert alone.interval is None
    assert "standard error" not in alone.protocol


class Drawing(AskedMethod):
    """Asks about a moment that is drawn."""

    @property
    def views(self):
        return {"clip": ClipView(Blocks(blocks=1, frames=1, stride=0.1), 16, (0, 0, 0), (1, 1, 1))}

    def pretext(self, batch):
        self.seen.append(batch.clip["times"].flatten().tolist())
        return {"far off": Answers(batch.id.double(), "how far", unit="s", chance=0.0, better="lower")}


def test_more_passes_ask_about_other_moments_of_the_same_samples(shards):
    once, thrice = Drawing(), Drawing()
    (alone,) = ask(shards, once, batch_size=5)
    (score,) = ask(shards, thrice, batch_size=5, passes=3)
    assert len(thrice.seen) == 6
    assert thrice.seen[:2] == once.seen
    assert len({tuple(thrice.seen[i] + thrice.seen[i + 1]) for i in (0, 2, 4)}) == 3
    assert score.value == alone.value == 4.5
    assert score.interval == alone.interval  # asked more often, it is still no more samples
    assert (
        "mean over 30 cases; val: 10 samples in 2 batches of 5, seen as in training, 3 times"
        in score.protocol
    )


def test_curves_become_figures_and_one_headline(shards, tmp_path):
    scores = ask(shards, AskedMethod(), tmp_path, batch_size=4)
    assert [score.headline for score in scores] == [True, False, True]
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["pretext_right.json"]
    figure = json.loads((tmp_path / "figures" / "pretext_right.json").read_text())
    assert figure["x"] == [2, 4]
    assert figure["series"] == {"trained": [50, 25]}
    assert figure["chance"] == [50, 25]
    assert figure["untrained"] == [["pretext/right 2", "mean"], ["pretext/right 4", "mean"]]
    assert figure["x_label"] == "steps ahead"


def rows(ids, fault=False):
    ids = torch.tensor(ids)
    faults = [Fault("s", "k", "video", "broken")] if fault else []
    return Batch(
        id=ids, key=[str(i) for i in ids.tolist()], label={"a": ids}, _rows=(ids.numpy(), ids.numpy()),
        clip={"frames": ids[:, None].float()}, _faults=faults,
    )  # fmt: skip


def test_batches_that_unreadable_samples_made_short_are_filled_up():
    found = list(full([rows([0, 1, 2]), rows([4, 5], True), rows([6]), rows([9, 10, 11, 12, 13])], 3))
    assert [batch.id.tolist() for batch in found] == [[0, 1, 2], [4, 5, 6], [9, 10, 11]]
    second = found[1]
    assert second.key == ["4", "5", "6"]
    assert second.label["a"].tolist() == second.clip["frames"][:, 0].tolist() == [4, 5, 6]
    assert second["_rows"][1].tolist() == [4, 5, 6]


def test_joined_batches_keep_their_faults():
    joined = Batch.join([rows([0]), rows([1], True)])
    assert len(joined) == 2
    assert len(joined.faults) == 1


def test_bad_input(shards):
    with pytest.raises(
        MmsslError, match="no method beside the encoder; expected `encoders` to name a train stage"
    ):
        ask(shards, None)
    with pytest.raises(
        MmsslError, match="64 is more than the readable samples of split 'val' \\(11 in all\\)"
    ):
        ask(shards, AskedMethod())
    with pytest.raises(MmsslError, match="method 'asked' has no question about its objective"):
        ask(shards, AskedMethod(curious=False), batch_size=4)
