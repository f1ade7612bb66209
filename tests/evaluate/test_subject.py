"""Features of a real shard set: complete, in order, the same for any batches and workers; faults counted."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from mmssl.errors import MmsslError
from mmssl.evaluate import Subject, evaluate, parse_evaluation, untrained
from mmssl.models.encoder import EncoderConfig, build_encoder
from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard

CONFIG = EncoderConfig(name="resnet18", stem="small_stride2", image_size=32)
COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))
DAMAGED = 5
"""Row of the damaged image in the val split."""


def picture(label, seed):
    noise = np.random.default_rng(seed).normal(0, 25, (40, 48, 3))
    buffer = io.BytesIO()
    Image.fromarray((np.array(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def sample(split, number):
    """Class by colour; every seventh has no label; one image of val is cut off."""
    label = number % 3
    image = picture(label, hash_of(split, number))
    members = {"image.png": image[:200] if split == "val" and number == DAMAGED else image}
    if number % 7 or split == "train":
        members["label.json"] = json.dumps({"class": label}).encode()
    return RawSample(f"{split}{number:03}", members)


def hash_of(split, number):
    return number + (1000 if split == "val" else 0)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("colours")
    splits = {}
    for split, sizes in (("train", (20, 22)), ("val", (13, 10))):
        rows, first = [], 0
        for number, size in enumerate(sizes):
            tar, index = f"{split}/{number:06}.tar", f"{split}/{number:06}.index"
            written = write_shard(root / tar, [sample(split, first + row) for row in range(size)])
            written.index.at(first).save(root / index)
            rows.append(
                Shard(
                    file=tar, index=index, samples=size, first_id=first,
                    bytes=(root / tar).stat().st_size, sha256=written.sha256,
                )
            )  # fmt: skip
            first += size
        splits[split] = Split(samples=first, shards=tuple(rows))
    Manifest(name="colours", splits=splits, fields={"image": 1.0}, classes={"class": ["r", "g", "b"]}).save(
        root
    )
    return root


@pytest.fixture(scope="module")
def encoders():
    return untrained({"image": CONFIG}, seed=3)


def test_every_readable_sample_once_in_order(shards, encoders):
    features = Subject(encoders, shards).features("val")
    kept = [number for number in range(23) if number != DAMAGED]
    assert features.ids.tolist() == kept
    assert features.keys == [f"val{number:03}" for number in kept]
    assert features.labels["class"].tolist() == [number % 3 if number % 7 else -1 for number in kept]
    assert features.unreadable == 1
    assert features.x.shape == (22, 512)
    assert features.x.dtype == torch.float32


def test_features_are_the_encoder_s_own(shards, encoders):
    """Against an independent path: Pillow's resize and crop, then the encoder in evaluation mode."""
    features = Subject(encoders, shards).features("val")
    image = Image.open(io.BytesIO(picture(1, hash_of("val", 1)))).convert("RGB")
    width, height = image.size
    short = image.resize((width * 32 // height, 32), Image.Resampling.BICUBIC)
    left = round((short.width - 32) / 2)
    pixels = torch.from_numpy(np.asarray(short.crop((left, 0, left + 32, 32)), dtype=np.float32) / 255)
    x = (pixels - torch.tensor(CONFIG.mean)) / torch.tensor(CONFIG.std)
    with torch.no_grad():
        expected = encoders["image"].eval()(x.permute(2, 0, 1)[None])
    cosine = torch.nn.functional.cosine_similarity(features.x[1:2], expected)
    assert float(cosine) > 0.999


def test_independent_of_batch_size_and_workers(shards, encoders):
    one = Subject(encoders, shards, batch_size=23).features("train")
    other = Subject(encoders, shards, batch_size=5, workers=2).features("train")
    torch.testing.assert_close(one.x, other.x, rtol=1e-4, atol=1e-5)
    assert torch.equal(one.ids, other.ids)


def test_features_are_extracted_once(shards, encoders, monkeypatch):
    subject = Subject(encoders, shards)
    first = subject.features("val")
    monkeypatch.setattr("mmssl.evaluate.subject.scan", None)
    assert subject.features("val") is first


def test_thumbnails_match_their_ids(shards, encoders):
    tiles = Subject(encoders, shards).thumbnails("val", [22, 0, 13], 16)
    for tile, number in zip(tiles, [22, 0, 13], strict=True):
        assert tile.size == (16, 16)
        assert int(np.asarray(tile).mean((0, 1)).argmax()) == number % 3


def test_all_evaluations_on_a_real_shard_set(shards, encoders, tmp_path):
    subject = Subject(encoders, shards, folder=tmp_path)
    names = [
        {"name": "knn", "k": [5]},
        {"name": "linear", "epochs": 20},
        {"name": "map", "points": 20},
        {"name": "health"},
    ]
    scores = evaluate(subject, [parse_evaluation(data, "test.yaml") for data in names])
    found = {score.evaluation: score for score in scores}
    assert found["knn/class"].value == 100.0  # colour survives even random weights
    assert found["linear/class"].value > 90
    for words in (
        "gallery train (42)",
        "1 of val unreadable and left out",
        "4 without label",
        "32 px centre crop",
    ):
        assert words in found["knn/class"].protocol
    assert len(json.loads((tmp_path / "map.json").read_text())["keys"]) == 20
    again = evaluate(Subject(encoders, shards), [parse_evaluation(data, "test.yaml") for data in names])
    assert [score.as_dict() for score in again] == [score.as_dict() for score in scores]


def test_untrained_is_a_function_of_its_seed_and_forgets_weights():
    torch.manual_seed(99)
    start = torch.random.get_rng_state()
    one = untrained({"image": CONFIG.model_copy(update={"weights": "nowhere"})}, 1)["image"]
    assert torch.equal(torch.random.get_rng_state(), start)  # the caller's random numbers are untouched
    same, other = untrained({"image": CONFIG}, 1)["image"], untrained({"image": CONFIG}, 2)["image"]
    weight = "backbone.layer1.0.conv1.weight"
    assert torch.equal(one.state_dict()[weight], same.state_dict()[weight])
    assert not torch.equal(one.state_dict()[weight], other.state_dict()[weight])


def test_evaluation_mode_and_float32_whatever_came_in(shards):
    encoder = build_encoder(CONFIG).train().bfloat16()
    features = Subject({"image": encoder}, shards).features("val")
    assert not encoder.training
    assert features.x.dtype == torch.float32
    assert float(normalize(features.x, dim=1).std()) > 0


def test_bad_names_say_what_there_is(shards, encoders):
    with pytest.raises(MmsslError, match="expected one of image, found 'text'"):
        Subject(encoders, shards).encoder("text")
    with pytest.raises(MmsslError, match="no split 'test'; it has train, val"):
        Subject(encoders, shards).features("test")
