"""Captions to a tokenizer to BERT to the next encoder, as stages; and what a tokenizer stage refuses."""

import json
from pathlib import Path

import pytest
import torch
from caption_shards import Texts, miniworld, write_captions

from mmssl.errors import MmsslError
from mmssl.methods.artifact import load_method
from mmssl.models.artifact import load_encoder
from mmssl.models.text.tokenizer import WordPieces, load_tokenizer
from mmssl.pipeline.identity import identities
from mmssl.pipeline.plan import plan
from mmssl.pipeline.recipe import load_pipeline
from mmssl.pipeline.runner import run_pipeline
from mmssl.pipeline.tokenizer import make_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
WORLDS = miniworld()[0][:40]

RECIPE = """
name: words
shared:
  data: &data {{sources: [{{shards: {root}/set}}], workers: 0}}
  train: &train {{steps: 2, batch_size: 8, precision: fp32}}
stages:
  clip: {{kind: tokenizer, shards: {root}/set, vocabulary: 300}}
  pieces: {{kind: tokenizer, shards: {root}/set, vocabulary: 300}}
  mlm:
    kind: train
    data: *data
    method: {{name: bert, text: {{tokenizer: pieces, width: 16, heads: 2, layers: 1, context: 40}}}}
    train: *train
  tower:
    kind: train
    data: *data
    method:
      name: bert
      text: {{tokenizer: pieces, width: 16, heads: 2, layers: 1, context: 24, weights: mlm}}
    train: *train
  scores:
    kind: evaluate
    encoders: tower
    shards: {root}/set
    workers: 0
    evaluations: {{pretext: {{batch_size: 8}}}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_captions(tmp_path / "set", {"train": WORLDS, "val": WORLDS[:8]})
    path = tmp_path / "words.yaml"
    path.write_text(RECIPE.format(root=tmp_path))
    return path


def test_from_captions_to_a_tower(recipe: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(recipe)
    assert pipeline.inputs("tower") == {"method.text.tokenizer": "pieces", "method.text.weights": "mlm"}
    run_pipeline(pipeline, tmp_path / "runs")
    root = tmp_path / "runs" / "words"
    mlm, tower = (load_encoder(root / name / "encoders" / "text") for name in ("mlm", "tower"))
    learned = load_tokenizer(root / "pieces")
    assert mlm.tokenizer == tower.tokenizer == learned == load_tokenizer(root / "clip")
    assert json.loads((root / "tower/encoders/text/encoder.json").read_text())["started_from"] == str(
        root / "mlm/encoders/text"
    )
    assert load_method(root / "mlm") is not None
    scores = json.loads((root / "scores.json").read_text())["scores"]
    assert {score["evaluation"] for score in scores} == {"pretext/word", "pretext/next_sentence"}
    assert {step.action for step in plan(pipeline, tmp_path / "runs" / "words")} == {"skip"}
    other = load_pipeline(recipe, ["pieces.vocabulary=200"])
    again = {step.stage: step.action for step in plan(other, root)}
    assert again == {"clip": "skip"} | dict.fromkeys(["pieces", "mlm", "tower", "scores"], "re-run")


def test_clip_means_the_byte_pairs_even_beside_a_stage_of_that_name(recipe: Path) -> None:
    pipeline = load_pipeline(recipe, ["mlm.method.text.tokenizer=clip"])
    assert pipeline.inputs("mlm") == {}


def test_a_tokenizer_outside_is_told_apart_by_its_bytes(recipe: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(recipe, [f"mlm.method.text.tokenizer={tmp_path}/tok"])
    with pytest.raises(MmsslError, match=r"stages\.mlm\.method\.text\.tokenizer: .*no such file"):
        identities(pipeline)
    WordPieces.train(WORLDS[0], 80).save(tmp_path / "tok")
    before = identities(pipeline)["mlm"].fingerprint
    WordPieces.train(WORLDS[1], 80).save(tmp_path / "tok")
    assert identities(pipeline)["mlm"].fingerprint != before


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("mlm.method.text.tokenizer=peices", "no stage 'peices'; expected a tokenizer stage .*did you mean"),
        ("mlm.method.text.tokenizer=mlm", "is a stage of kind train; expected a tokenizer stage"),
        ("tower.method.text.weights=pieces", "is a stage of kind tokenizer; expected a train stage"),
        ("tower.method.text.weights=roberta-large", "nothing is ever downloaded.*hf download roberta-large"),
        ("pieces.vocabulary=10", "stages.pieces.vocabulary"),
    ],
)
def test_references_that_do_not_fit(recipe: Path, override: str, expected: str) -> None:
    with pytest.raises(MmsslError, match=expected):
        load_pipeline(recipe, [override])


def test_the_account_counts_what_was_there(tmp_path: Path) -> None:
    texts: list[Texts] = [["a disc", " ", "a star"], ["two discs ξ"], *[["star"]] * 30, b"\xff not JSON"]
    write_captions(tmp_path / "set", {"train": texts})
    tokenizer = make_tokenizer(str(tmp_path / "set"), "train", "caption", 100, tmp_path / "out")
    account = json.loads((tmp_path / "out" / "captions.json").read_text())
    kept = ["a disc", "a star", "two discs ξ", *["star"] * 30]
    lengths = sorted(len(row) + 2 for row in tokenizer.encode(kept))
    assert (account["samples"], account["captions"], account["empty"]) == (32, 34, 1)
    assert len(account["unreadable"]) == 1
    assert "k0032" in account["unreadable"][0]
    assert account["vocabulary"] == tokenizer.vocabulary
    assert account["tokens"] == sum(lengths) - 2 * len(lengths)
    assert account["length"]["longest"] == lengths[-1]
    assert account["length"]["quantile_50"] == lengths[len(lengths) // 2]
    assert torch.equal(tokenizer(kept, 8), load_tokenizer(tmp_path / "out")(kept, 8))


@pytest.mark.parametrize(
    ("texts", "field", "expected"),
    [
        ([["", " "]], "caption", "every caption is empty"),
        ([["a"]], "title", "no sample has 'title'; expected one of caption"),
        ([["a"], b"\xff"], "caption", "stopped: 1 of 2 samples have no readable caption"),
    ],
)
def test_captions_that_teach_nothing(tmp_path: Path, texts: list[Texts], field: str, expected: str) -> None:
    write_captions(tmp_path / "set", {"train": texts})
    with pytest.raises(MmsslError, match=expected):
        make_tokenizer(str(tmp_path / "set"), "train", field, 100, tmp_path / "out")
