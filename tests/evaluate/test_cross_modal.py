"""Retrieval between views: ranks against torchmetrics, ties against us, the right samples and sights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_rooms import WITHOUT_DEPTH, build_clips, build_rooms, net
from torchmetrics.retrieval import RetrievalHitRate

from mmssl.errors import MmsslError
from mmssl.evaluate import Subject, evaluate, parse_evaluation
from mmssl.evaluate.cross_modal import ranks
from mmssl.methods import build_method
from mmssl.methods.base import DataInfo

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    return build_rooms(tmp_path_factory.mktemp("rooms"))


def cmc(data, **views):
    torch.manual_seed(0)
    settings = {"name": "cmc", "negatives": "batch", "loss": "info_nce", "head": [8], "views": views}
    return build_method(settings, data, "test")


def still_method():
    views = {
        name: {"encoder": net(sees).model_dump(), "optional": name == "far"}
        for name, sees in (("L", "L"), ("far", "depth"), ("rgb", "rgb"))
    }
    data = DataInfo(24, frozenset({"image", "label", "meta"}), frozenset({"depth"}))
    return cmc(data, **views)


def ask(shards, method, folder=None, split="val", **options):
    subject = Subject(
        {} if method is None else method.encoders(), shards, method=method, folder=folder, queries=split,
        batch_size=5,
    )  # fmt: skip
    scores = evaluate(subject, [parse_evaluation({"name": "cross_modal", **options}, "x.yaml")])
    return {(score.evaluation, score.metric): score for score in scores}


def test_ranks_are_those_of_torchmetrics():
    similarity = torch.randn(40, 40, generator=torch.Generator().manual_seed(1))
    similarity += 1.5 * torch.eye(40)
    rank = ranks(similarity)
    rows = torch.arange(40).repeat_interleave(40)
    for k in (1, 3, 10, 40):
        hits = RetrievalHitRate(top_k=k)(similarity.flatten(), torch.eye(40).bool().flatten(), indexes=rows)
        assert float((rank <= k).float().mean()) == pytest.approx(float(hits))
    order = np.argsort(-similarity.numpy(), axis=1)
    assert rank.tolist() == [order[row].tolist().index(row) + 1 for row in range(40)]


def test_what_is_as_similar_or_no_number_is_ranked_first():
    assert ranks(torch.ones(5, 5)).tolist() == [5] * 5
    assert ranks(torch.full((3, 3), float("nan"))).tolist() == [3] * 3
    assert ranks(torch.tensor([[0.5, 0.5], [0.2, 0.3]])).tolist() == [2, 1]


def test_views_of_a_sample_find_one_another(rooms, monkeypatch, tmp_path):
    """Embeddings that are functions of the id alone: everything is found, whatever the batches."""
    method = still_method()

    def embed(batch):
        assert batch.views["far"].shape[1:] == (2, 16, 16)
        z = torch.nn.functional.one_hot(batch.id, 24).float()
        return dict.fromkeys(method.names, z)

    monkeypatch.setattr(method, "embed", embed)
    scores = ask(rooms, method, tmp_path, shown=3, k=[1, 5, 50])
    assert len(scores) == 6 * 4
    first = scores["cross_modal/L_to_far", "R@1"]
    assert (first.value, first.chance, first.headline) == (100, pytest.approx(100 / 12), True)
    assert scores["cross_modal/L_to_rgb", "R@5"].chance == pytest.approx(100 * 5 / 14)
    assert scores["cross_modal/rgb_to_L", "R@50"].chance == 100
    median = scores["cross_modal/far_to_rgb", "median rank"]
    assert (median.value, median.chance, median.better, median.ceiling) == (1, 6.5, "lower", 1)
    assert f"{len(WITHOUT_DEPTH)} unreadable or without L or far left out" in first.protocol
    assert "left out" not in scores["cross_modal/L_to_rgb", "R@1"].protocol
    pictures = sorted(path.stem for path in (tmp_path / "pictures").iterdir())
    pairs = [("L", "far"), ("L", "rgb"), ("far", "rgb")]
    assert pictures == sorted(f"cross_modal_{a}_to_{b}" for x, y in pairs for a, b in ((x, y), (y, x)))
    pixels = np.asarray(Image.open(tmp_path / "pictures" / "cross_modal_L_to_far.png"))
    assert pixels.shape[1] > 6 * 96
    assert pixels.shape[0] > 3 * 96


def test_a_collapsed_method_finds_nothing(rooms, monkeypatch):
    method = still_method()
    monkeypatch.setattr(
        method, "embed", lambda batch: dict.fromkeys(method.names, torch.ones(len(batch), 4) / 2)
    )
    for (_, metric), score in ask(rooms, method, k=[1]).items():
        assert score.value == (0 if metric == "R@1" else (len_of(score)))


def len_of(score):
    return int(score.protocol.split(" of val")[0].rpartition(" ")[2])


def test_scores_are_those_of_the_method_s_own_embeddings(rooms):
    """Against a loop over samples one by one, through the encoders that evaluations question."""
    method = still_method().eval()
    scores = ask(rooms, method, pairs=[["rgb", "far"]], k=[1, 5])
    assert {name for name, _ in scores} == {"cross_modal/rgb_to_far", "cross_modal/far_to_rgb"}
    subject = Subject(method.encoders(), rooms)
    z = {}
    for name in ("rgb", "far"):
        features = subject.features("val", name)
        with torch.no_grad():
            vectors = method.heads[name](features.x).double().numpy()
        z[name] = dict(zip(features.ids.tolist(), vectors, strict=True))
    ids = sorted(z["far"])
    for a, b in (("rgb", "far"), ("far", "rgb")):
        found = []
        for i in ids:
            cosine = {j: z[a][i] @ z[b][j] / np.linalg.norm(z[a][i]) / np.linalg.norm(z[b][j]) for j in ids}
            found.append(sum(value >= cosine[i] - 1e-6 for value in cosine.values()))
        assert scores[f"cross_modal/{a}_to_{b}", "median rank"].value == np.median(found)
        for k in (1, 5):
            expected = 100 * np.mean(np.array(found) <= k)
            assert scores[f"cross_modal/{a}_to_{b}", f"R@{k}"].value == pytest.approx(expected)


def test_no_more_samples_than_asked_for_evenly_spaced(rooms, monkeypatch):
    method, seen = still_method(), []
    own = method.embed
    monkeypatch.setattr(method, "embed", lambda batch: seen.extend(batch.id.tolist()) or own(batch))
    score = next(iter(ask(rooms, method, samples=4, pairs=[["L", "rgb"]]).values()))
    assert seen == [0, 4, 9, 13]
    assert score.chance == 25
    part = ask(rooms, method, split="sequence=s1", pairs=[["L", "rgb"]])
    assert next(iter(part.values())).protocol.count("19 of sequence=s1") == 1


def test_videos_and_their_flow(tmp_path):
    shards = build_clips(tmp_path, train=4, val=6)
    views = {
        "rgb": {"encoder": net().model_dump()},
        "flow": {"encoder": net("flow", channels=4).model_dump()},
    }
    method = cmc(DataInfo(4, frozenset({"video", "flow", "label"})), **views)
    scores = ask(shards, method, tmp_path, k=[1], shown=2)
    assert scores["cross_modal/rgb_to_flow", "R@1"].chance == pytest.approx(100 / 6)
    assert (tmp_path / "pictures" / "cross_modal_flow_to_rgb.png").is_file()


def test_bad_input(rooms):
    method = still_method()
    with pytest.raises(MmsslError, match="pairs: expected views among L, far, rgb, found 'depth'"):
        ask(rooms, method, pairs=[["L", "depth"]])
    with pytest.raises(MmsslError, match="brings several views into one space, with its heads; found an enc"):
        ask(rooms, None)
    replaced = replace(Subject({}, rooms).part("val"), ids=frozenset({3}), samples=1)
    subject = Subject(method.encoders(), rooms, method=method)
    subject._parts["val"] = replaced
    with pytest.raises(MmsslError, match="val: no sample has L and far"):
        evaluate(subject, [parse_evaluation({"name": "cross_modal"}, "x.yaml")])
