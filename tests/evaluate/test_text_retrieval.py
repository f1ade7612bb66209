"""Retrieval between pictures and words and the gap between them, against loops over single samples."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import pdist
from tiny_rooms import build_rooms, net
from tiny_words import EMPTY, build_pictures, build_videos, captions, clip_method, see_colours, still

from mmssl.errors import MmsslError
from mmssl.evaluate import Subject, evaluate, parse_evaluation
from mmssl.stream.decode import decode
from mmssl.stream.views.centre import CentreCrop

pytestmark = pytest.mark.usefixtures("one_thread")

READABLE = [number for number in range(20) if number != EMPTY]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return build_pictures(tmp_path_factory.mktemp("pictures"))


def ask(shards, method, name="text_retrieval", folder=None, split="val", **options):
    encoders = {} if method is None else method.encoders()
    subject = Subject(
        encoders, shards, method=method, folder=folder, queries=split, batch_size=6, frames=4, clips=2
    )
    scores = evaluate(subject, [parse_evaluation({"name": name, **options}, "x.yaml")])
    return {(score.evaluation, score.metric): score for score in scores}


def rank(similarity, right):
    """Of the best of ``right`` among the keys of ``similarity``, behind all that is as similar."""
    best = max(similarity[key] for key in right)
    return 1 + sum(key not in right and value >= best - 1e-6 for key, value in similarity.items())


def one_by_one(method):
    """Unit vectors of every readable sample of val, and (sample, text, unit vector) of each caption."""
    encoder, tokenizer = method.image, method.text.tokenizer
    crop = CentreCrop(encoder.image_size, encoder.mean, encoder.std)
    seen, said = {}, []
    with torch.no_grad():
        for number in READABLE:
            image = decode("image", "png", still("val", number).members["image.png"])
            x = crop.finish(crop.prepare([image], None), None)
            seen[number] = method.image_head(method.image(x))[0].double().numpy()
            for text in captions(number):
                y = method.text_head(method.text(tokenizer([text], 16)))[0].double().numpy()
                said.append((number, text, y / np.linalg.norm(y)))
    return {number: x / np.linalg.norm(x) for number, x in seen.items()}, said


def test_ranks_are_those_of_a_loop_over_samples(pictures):
    method = clip_method()
    scores = ask(pictures, method, k=[1, 5])
    seen, said = one_by_one(method)
    own = {number: {text for row, text, _ in said if row == number} for number in READABLE}
    texts = {text: y for _, text, y in said}
    to_text = [rank({text: x @ y for text, y in texts.items()}, own[number]) for number, x in seen.items()]
    to_image = [
        rank({n: x @ y for n, x in seen.items()}, {n for n in READABLE if text in own[n]})
        for _, text, y in said
    ]
    for name, ranks in (("image_to_text", to_text), ("text_to_image", to_image)):
        asked = {metric: score for (one, metric), score in scores.items() if one == f"text_retrieval/{name}"}
        for k in (1, 5):
            assert asked[f"R@{k}"].value == pytest.approx(100 * np.mean(np.array(ranks) <= k))
        assert asked["median rank"].value == np.median(ranks)
        assert asked["mean rank"].value == pytest.approx(np.mean(ranks))
        assert asked["R@1"].headline
        assert not asked["R@5"].headline
        low, high = asked["R@5"].interval
        assert low <= asked["R@5"].value <= high
    shared = sum(sum(text in other for other in own.values()) > 1 for _, text, _ in said)
    protocol = scores["text_retrieval/image_to_text", "R@1"].protocol
    assert shared > 0
    assert f"{shared} captions say the same of several images" in protocol
    assert f"19 images rank {len(texts)} different captions" in protocol
    assert "1 unreadable or without caption left out" in protocol
    chance = scores["text_retrieval/image_to_text", "R@1"].chance
    assert chance == pytest.approx(100 * np.mean([len(own[number]) / len(texts) for number in READABLE]))


def test_everything_is_found_where_words_say_what_is_seen(pictures, monkeypatch, tmp_path):
    """Each of three colours fills its rank: ties are against us, and only as far as they go."""
    method = see_colours(clip_method(), monkeypatch)
    scores = ask(pictures, method, folder=tmp_path, shown=3)
    to_text = scores["text_retrieval/image_to_text", "mean rank"]
    texts = {text for number in READABLE for text in captions(number)}
    expected = [
        rank({text: float(colour_of(text) == number % 3) for text in texts}, captions(number))
        for number in READABLE
    ]
    assert to_text.value == pytest.approx(np.mean(expected))
    names = {"text_retrieval_image_to_text", "text_retrieval_text_to_image", "text_retrieval_matrix"}
    assert {path.stem for path in (tmp_path / "pictures").iterdir()} == names
    for name in names:
        assert Image.open(tmp_path / "pictures" / f"{name}.png").height > 3 * 40


def colour_of(text):
    return next(n for n, colour in enumerate(("red", "green", "blue")) if colour in text.split())


def test_a_collapsed_method_finds_nothing(pictures, monkeypatch):
    method = clip_method()
    for name in ("encode_image", "encode_text"):
        monkeypatch.setattr(method, name, lambda x: torch.full((len(x), 4), 0.5))
    scores = ask(pictures, method)
    texts = {text for number in READABLE for text in captions(number)}
    worst = [len(texts) - len(set(captions(number))) + 1 for number in READABLE]
    assert scores["text_retrieval/image_to_text", "R@1"].value == 0
    assert scores["text_retrieval/image_to_text", "mean rank"].value == pytest.approx(np.mean(worst))


def test_no_more_samples_than_asked_for_evenly_spaced(pictures, monkeypatch):
    method = clip_method()
    scores = ask(pictures, method, samples=4)
    assert "4 images rank" in scores["text_retrieval/image_to_text", "R@1"].protocol
    own = {n: set(captions(n)) for n in (0, 6, 13, 19)}
    every = set().union(*own.values())
    expected = 100 * np.mean([len(texts) / len(every) for texts in own.values()])
    assert scores["text_retrieval/image_to_text", "R@1"].chance == pytest.approx(expected)


def test_samples_are_embedded_once_for_all_questions(pictures, monkeypatch):
    method, seen = clip_method(), []
    own = method.encode_image
    monkeypatch.setattr(method, "encode_image", lambda x: seen.append(len(x)) or own(x))
    subject = Subject(method.encoders(), pictures, method=method)
    questions = [parse_evaluation({"name": name}, "x") for name in ("text_retrieval", "modality_gap")]
    evaluate(subject, questions)
    assert sum(seen) == len(READABLE)


@pytest.mark.parametrize("clips", [False, True])
def test_videos(tmp_path, clips, monkeypatch):
    shards = build_videos(tmp_path / "videos")
    frames = {"kind": "frames", "frames": 2, "stride": 0.1, "net": {"encoder": net().model_dump()}}
    method = see_colours(clip_method(frames if clips else None, video=True), monkeypatch)
    scores = ask(shards, method, folder=tmp_path / "out", k=[1], shown=2)
    assert {name for name, _ in scores} == {"text_retrieval/video_to_text", "text_retrieval/text_to_video"}
    assert "6 videos rank" in scores["text_retrieval/video_to_text", "R@1"].protocol
    assert Image.open(tmp_path / "out" / "pictures" / "text_retrieval_video_to_text.png").width > 3 * 96


def test_gap_alignment_and_uniformity(pictures, tmp_path):
    method = clip_method()
    scores = ask(pictures, method, "modality_gap", tmp_path)
    seen, said = one_by_one(method)
    x, y = np.stack(list(seen.values())), np.stack([one for _, _, one in said])
    value = {name.removeprefix("modality_gap/"): score.value for (name, _), score in scores.items()}
    assert value["gap"] == pytest.approx(np.linalg.norm(x.mean(0) - y.mean(0)), abs=1e-5)
    each = [np.mean([np.sum((seen[n] - z) ** 2) for row, _, z in said if row == n]) for n in READABLE]
    assert value["alignment"] == pytest.approx(np.mean(each), abs=1e-5)
    for name, points in (("uniformity_seen", x), ("uniformity_said", y)):
        expected = np.log(np.mean(np.exp(-2 * pdist(points) ** 2)))
        assert value[name] == pytest.approx(expected, abs=1e-5)
    own = {number: set(captions(number)) for number in READABLE}
    right, wrong = [], []
    for _, text, z in said:
        for number in READABLE:
            (right if text in own[number] else wrong).append(z @ seen[number])
    assert value["cosine"] == pytest.approx(np.mean(right) - np.mean(wrong), abs=1e-5)
    figure = json.loads((tmp_path / "figures" / "modality_gap.json").read_text())
    assert list(figure["series"]) == ["right pairs", "wrong pairs"]
    for name, cosines in (("right pairs", right), ("wrong pairs", wrong)):
        assert sum(figure["series"][name]) == pytest.approx(100)
        centre = np.dot(figure["x"], figure["series"][name]) / 100
        assert centre == pytest.approx(np.mean(cosines), abs=0.026)  # half a bin


def test_the_image_tower_is_asked_by_its_name(pictures):
    method = clip_method()
    subject = Subject(method.encoders(), pictures, method=method)
    for name in ("knn", "linear", "health"):
        question = {"name": name, "encoder": "image"}
        if name == "linear":
            question |= {"labels": ["colour"], "epochs": 2}
        scores = evaluate(subject, [parse_evaluation(question, "x.yaml")])
        assert all(np.isfinite(score.value) for score in scores)
    with pytest.raises(MmsslError, match="encoder: expected one of image, text"):
        evaluate(subject, [parse_evaluation({"name": "knn"}, "x.yaml")])
    with pytest.raises(MmsslError, match="expected an encoder of images or clips, found one of texts"):
        evaluate(subject, [parse_evaluation({"name": "knn", "encoder": "text"}, "x.yaml")])


def test_bad_input(pictures, tmp_path):
    for name in ("text_retrieval", "modality_gap"):
        with pytest.raises(
            MmsslError, match=f"{name}: expected `encoders` to name .* found an encoder alone"
        ):
            ask(pictures, None, name)
    rooms = build_rooms(tmp_path)
    with pytest.raises(MmsslError, match="caption"):
        ask(rooms, clip_method())
