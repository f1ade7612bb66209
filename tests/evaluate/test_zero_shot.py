"""Zero-shot against open_clip's classifier and scikit-learn's measures, prompts as data, bad input."""

import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, top_k_accuracy_score
from tiny_rooms import encoders, net
from tiny_words import COLOURS, UNLABELLED, build_pictures, build_videos, clip_method, see_colours

from mmssl.errors import MmsslError
from mmssl.evaluate import Subject, evaluate, parse_evaluation
from mmssl.evaluate.language.prompts import DATA, Prompts, class_words, load_prompts, told
from mmssl.evaluate.language.zero_shot import Answers, classifier
from mmssl.methods import build_method
from mmssl.methods.base import DataInfo
from mmssl.miniworld.vocabulary import CLASSES, captions

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return build_pictures(tmp_path_factory.mktemp("pictures"))


def ask(shards, method, folder=None, video_frames=4, **options):
    subject = Subject(
        method.encoders(), shards, method=method, folder=folder, batch_size=7, frames=video_frames, clips=2
    )
    scores = evaluate(subject, [parse_evaluation({"name": "zero_shot", **options}, "x.yaml")])
    return {(score.evaluation, score.metric): score for score in scores}


def test_what_is_seen_and_named_is_known(pictures, monkeypatch, tmp_path):
    scores = ask(pictures, see_colours(clip_method(), monkeypatch), tmp_path)
    first = scores["zero_shot/colour", "accuracy"]
    truth = [n % 3 for n in range(20) if n != UNLABELLED]
    assert first.value == 100
    assert first.chance == pytest.approx(100 * np.bincount(truth).max() / len(truth))
    assert "3 classes by their names in 7 sentences (simple)" in first.protocol
    assert "19 of val" in first.protocol
    assert "1 without label left out" in first.protocol
    assert {metric for _, metric in scores} == {"accuracy", "mean over classes"}  # of three, five are no feat
    table = json.loads((tmp_path / "tables" / "zero_shot_colour.json").read_text())
    assert [row[:4] for row in table["rows"]] == [
        [name, truth.count(n), 100, 100] for n, name in enumerate(COLOURS)
    ]
    assert Image.open(tmp_path / "pictures" / "zero_shot_colour.png").width > 90


def test_words_of_the_recipe_come_before_those_of_the_shard_set(pictures, monkeypatch):
    method = see_colours(clip_method(), monkeypatch)
    names = {"colour": {"red": "green", "green": "red"}}
    scores = ask(pictures, method, names=names, templates="a {} picture")
    assert scores["zero_shot/colour", "accuracy"].value == pytest.approx(100 * 5 / 19)
    nameless = {"size": {0: "red", 1: "blue"}}
    scores = ask(pictures, method, labels=["size"], names=nameless, templates=["a {} one", "the {}"])
    agree = [n for n in range(20) if (n % 3, n % 2) in ((0, 0), (2, 1))]
    # green is as unlike both, and what is as similar counts as more so
    assert scores["zero_shot/size", "accuracy"].value == pytest.approx(100 * len(agree) / 20)


def test_videos_frame_by_frame_and_clip_by_clip(tmp_path, monkeypatch):
    shards = build_videos(tmp_path)
    frames = {"kind": "frames", "frames": 2, "stride": 0.1, "net": {"encoder": net().model_dump()}}
    for image in (None, frames):
        method = clip_method(image, video=True)
        features = Subject(method.encoders(), shards, method=method, frames=4, clips=2).features(
            "val", "image"
        )
        asked = ask(shards, method)["zero_shot/colour", "accuracy"]
        assert ("mean over 2 clips" if image else "mean over 4 frames") in asked.protocol
        if image is None:  # the mean of features goes through the head
            with torch.no_grad():
                z = method.project_image(features.x)
                w, _ = classifier(method, load_prompts("simple"), list(COLOURS), torch.device("cpu"))
            right = ((z @ w.T).argmax(dim=1) == features.labels["colour"]).double().mean()
            assert asked.value == pytest.approx(100 * float(right))
        see_colours(method, monkeypatch)
        assert ask(shards, method)["zero_shot/colour", "accuracy"].value == 100


class AsOpenClip:
    """What ``build_zero_shot_classifier`` needs of a model."""

    def __init__(self, method):
        self.method = method

    def encode_text(self, tokens, normalize):
        assert normalize
        return torch.nn.functional.normalize(self.method.text_head(self.method.text(tokens)), dim=-1)


def test_classes_are_those_of_open_clip():
    method, words = clip_method(context=20), ["a cat", "dogs", "the moon", "stone bridge"]
    prompts = load_prompts("cifar10")
    with torch.no_grad():
        w, read = classifier(method, prompts, words, torch.device("cpu"))
        expected = open_clip.build_zero_shot_classifier(
            AsOpenClip(method), lambda texts: method.text.tokenizer(texts, 20), words,
            [lambda c, one=one: one.format(c) for one in prompts.templates], num_classes_per_batch=3,
        )  # fmt: skip
    assert read == []
    torch.testing.assert_close(w, expected.T, atol=1e-6, rtol=0)


def test_measures_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(3)
    similarity = torch.rand(200, 8, generator=generator).double()
    truth = torch.randint(0, 8, (200,), generator=generator)
    similarity[torch.arange(200), truth] += 0.3
    answers = Answers.of(similarity, truth)
    assert float((answers.rank == 1).double().mean()) == accuracy_score(truth, answers.answer)
    assert float((answers.rank <= 5).double().mean()) == top_k_accuracy_score(truth, similarity, k=5)
    assert answers.confusion(8).tolist() == confusion_matrix(truth, answers.answer).tolist()
    assert torch.equal(answers.answer, similarity.argmax(dim=1))


def test_scores_of_many_classes(pictures, monkeypatch):
    """Against scikit-learn, from embeddings one by one."""
    method = clip_method()
    scores = ask(pictures, method, templates="a {} picture")
    subject = Subject(method.encoders(), pictures, method=method)
    features = subject.features("val", "image")
    with torch.no_grad():
        z = method.project_image(features.x)
        w = method.encode_text(method.text.tokenizer([f"a {c} picture" for c in COLOURS], 16))
    kept = features.labels["colour"] >= 0
    answers, truth = (z @ w.T).argmax(dim=1)[kept], features.labels["colour"][kept]
    assert scores["zero_shot/colour", "accuracy"].value == pytest.approx(100 * accuracy_score(truth, answers))
    mean = scores["zero_shot/colour", "mean over classes"]
    assert mean.value == pytest.approx(100 * balanced_accuracy_score(truth, answers))
    assert mean.chance == pytest.approx(100 / 3)


def test_a_collapsed_method_knows_nothing(pictures, monkeypatch):
    for value in (0.5, float("nan")):
        method = clip_method()
        monkeypatch.setattr(method, "encode_image", lambda x, value=value: torch.full((len(x), 4), value))
        monkeypatch.setattr(method, "encode_text", lambda tokens: torch.full((len(tokens), 4), 0.5))
        assert ask(pictures, method)["zero_shot/colour", "accuracy"].value == 0


def test_sentences_that_cannot_be_read_whole_are_counted(pictures):
    scores = ask(pictures, clip_method(context=8), templates=["a {}", "a " + "very " * 9 + "{} one"])
    assert "3 of 6 sentences cut at 8 tokens" in scores["zero_shot/colour", "accuracy"].protocol


def test_prompts_that_come_along():
    for path in DATA.iterdir():
        prompts = load_prompts(path.stem)
        assert prompts.source == path.stem
        assert len(set(prompts.templates)) == len(prompts.templates)
    templates = [one("{}") for one in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert list(load_prompts("imagenet").templates) == templates
    assert list(load_prompts("simple").templates) == [t("{}") for t in open_clip.SIMPLE_IMAGENET_TEMPLATES]


@pytest.mark.parametrize("label", ["shape", "texture", "motion"])
def test_prompts_of_miniworld_are_its_captions(label):
    told_here = {
        text: {"shape": shape, "texture": texture, "motion": motion}[label]
        for shape in CLASSES["shape"]
        for texture in CLASSES["texture"]
        for motion in CLASSES["motion"]
        for text in captions(shape, texture, motion)
    }
    prompts = load_prompts(f"miniworld_{label}")
    for name, words in class_words(label, CLASSES[label], prompts, {}, 0).items():
        assert {told_here[text] for text in prompts.of(words)} == {name}


def test_names_as_words():
    assert told("ApplyEyeMakeup") == told("apply_eye_makeup") == "apply eye makeup"
    assert [told(name) for name in ("tree", "USA", "counter-clockwise")] == [
        "tree",
        "USA",
        "counter-clockwise",
    ]
    prompts = Prompts(("{}",), "x", {"a": "from the file", "other": "unused"})
    words = class_words("l", ["a", "b_b"], prompts, {"2": "third"}, 3)
    assert words == {"a": "from the file", "b_b": "b b", "2": "third"}


def test_bad_templates(tmp_path):
    def write(name, content):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    for content, expected in (
        (b"# about\n\na {}\na photo\n", r"a.txt: line 4: expected a sentence with one slot \{\} .*'a photo'"),
        (b"a {} {}\n", r"line 1: expected a sentence with one slot"),
        (b"# nothing\n", r"a.txt: no sentence; expected at least one"),
        (b"\xff\xfe{}", r"a.txt: expected text in UTF-8"),
    ):
        with pytest.raises(MmsslError, match=expected):
            load_prompts(write("a.txt", content))
    for content, expected in (
        (b"templates: [a]\n", r"b.yaml: templates: entry 1: expected a sentence with one slot"),
        (b"templates: x\n", r"b.yaml: templates: expected a list"),
        (b"templates: ['{}']\nnames: {a: 3}\n", r"b.yaml: names: expected a mapping"),
        (b"templates: ['{}']\nclasses: {}\n", r"b.yaml: classes: expected templates and names only"),
    ):
        with pytest.raises(MmsslError, match=expected):
            load_prompts(write("b.yaml", content))
    with pytest.raises(MmsslError, match=r"imagnet: no such file; expected one of actions, cifar10, .*slot"):
        load_prompts("imagnet")
    with pytest.raises(MmsslError, match=r"templates: entry 2: expected a sentence with one slot"):
        load_prompts(["a {}", "a"])
    with pytest.raises(MmsslError, match=r"templates: no sentence"):
        load_prompts([])


def test_bad_questions(pictures, tmp_path):
    method = clip_method()
    with pytest.raises(
        MmsslError, match=r"label 'size': no name for 0, 1; expected class names in the shard"
    ):
        ask(pictures, method, labels=["size"])
    with pytest.raises(
        MmsslError, match=r"names.colour: expected classes among red, green, blue, found 'pink'"
    ):
        ask(pictures, method, names={"colour": {"pink": "x"}})
    with pytest.raises(MmsslError, match=r"labels: shape expected in val; it has colour, size"):
        ask(pictures, method, labels=["shape"])
    with pytest.raises(MmsslError, match=r"labels: hue expected in val"):
        ask(pictures, method, templates={"hue": "imagenet"})
    with pytest.raises(MmsslError, match=r"templates.colour: missing; expected sentences"):
        ask(pictures, method, templates={"size": "simple"}, names={"size": {"0": "a", "1": "b"}})
    manifest = json.loads((pictures / "manifest.json").read_text()) | {"classes": {"size": ["0", "1"]}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    for split in ("train", "val"):
        (tmp_path / split).symlink_to(pictures / split)
    with pytest.raises(MmsslError, match=r"no label of val has class names; it has size; expected"):
        ask(tmp_path, method)
    other = build_method(
        {"name": "simclr", "encoder": net().model_dump()}, DataInfo(12, frozenset({"image"})), "test"
    )
    for wrong, found in ((None, "an encoder alone"), (other, "method 'simclr'")):
        subject = Subject(encoders("rgb"), pictures, method=wrong)
        with pytest.raises(MmsslError, match=f"pictures and text into one space, .*; found {found}"):
            evaluate(subject, [parse_evaluation({"name": "zero_shot"}, "x.yaml")])
