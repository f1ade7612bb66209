"""BERT beside transformers' own model for pre-training; what it leaves; that it learns."""

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from caption_shards import miniworld, write_captions
from transformers import BertForPreTraining

from mmssl.engine.config import OptimizerConfig, TrainConfig
from mmssl.engine.train import train
from mmssl.evaluate.base import Score
from mmssl.evaluate.pretext import Pretext, PretextConfig
from mmssl.evaluate.subject import Subject
from mmssl.methods import DataInfo, build_method
from mmssl.methods.artifact import load_method, save_method
from mmssl.methods.language.bert import BERT
from mmssl.models.text.tokenizer import WordPieces
from mmssl.stream import Source, Stream, StreamConfig, scan
from mmssl.stream.batch import Batch
from mmssl.stream.views.masked_text import NOT_ASKED

pytestmark = pytest.mark.usefixtures("one_thread")
TRAIN, VAL = miniworld()
STEPS = 240
SMALL = {"width": 32, "heads": 2, "layers": 2, "context": 64, "dropout": 0.0}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captions(tmp_path_factory.mktemp("captions") / "set", {"train": TRAIN, "val": VAL})


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    WordPieces.train([text for world in TRAIN for text in world], 400).save(folder)
    return str(folder)


def made(tokenizer: str, **text: object) -> BERT:
    torch.manual_seed(0)
    config = {"name": "bert", "text": {**SMALL, **text, "tokenizer": tokenizer}}
    method = build_method(config, DataInfo(len(TRAIN), frozenset({"caption"})))
    assert isinstance(method, BERT)
    return method


def batch_of(method: BERT, shards: Path, size: int = 24) -> Batch:
    config = StreamConfig(sources=(Source(shards=str(shards)),), workers=0)
    return next(scan(config, method.views, batch_size=size))


def test_loss_and_gradient_are_those_of_transformers(shards: Path, tokenizer: str) -> None:
    method = made(tokenizer)
    theirs = BertForPreTraining(method.encoder.bert.config).train()
    state = {
        f"bert.{key}": value
        for key, value in [
            *method.encoder.bert.state_dict().items(),
            *((f"pooler.{key}", value) for key, value in method.pooler.state_dict().items()),
        ]
    }
    state |= {f"cls.{key}": value for key, value in method.heads.state_dict().items()}
    theirs.load_state_dict(state)
    batch = batch_of(method, shards)
    loss = method.train()(batch)
    text = batch.text
    expected = theirs(
        input_ids=text["tokens"],
        attention_mask=(text["tokens"] != 0).long(),
        token_type_ids=text["segments"],
        labels=text["targets"],
        next_sentence_label=text["other"],
    )
    torch.testing.assert_close(loss.total, expected.loss)
    torch.testing.assert_close(loss.parts["mlm"] + loss.parts["nsp"], loss.total.detach())
    right = expected.prediction_logits.argmax(-1) == text["targets"]
    share = right.sum() / (text["targets"] != NOT_ASKED).sum()
    torch.testing.assert_close(loss.parts["mlm_accuracy"], share)
    loss.total.backward()
    expected.loss.backward()
    words = theirs.bert.embeddings.word_embeddings.weight.grad
    torch.testing.assert_close(method.encoder.bert.embeddings.word_embeddings.weight.grad, words)


def test_words_are_told_by_their_own_embeddings_and_every_parameter_learns(
    shards: Path, tokenizer: str
) -> None:
    method = made(tokenizer)
    tied = method.heads.predictions.decoder.weight
    assert tied is method.encoder.bert.embeddings.word_embeddings.weight
    method(batch_of(method, shards)).total.backward()
    assert [name for name, value in method.named_parameters() if value.grad is None] == []
    assert len(list(method.parameters())) == len({id(value) for value in method.parameters()})


def test_a_batch_in_which_nothing_can_be_asked(tokenizer: str, tmp_path: Path) -> None:
    root = write_captions(tmp_path / "unknown", {"train": [["ξ"], ["ψ"]]})
    method = made(tokenizer)
    loss = method(batch_of(method, root))
    assert loss.total == 0
    loss.total.backward()
    assert method.pretext(batch_of(method, root)) == {}


def _gradients_of_halves(rank: int, world: int, tokenizer: str, batch: Batch, expected: dict) -> None:
    method = made(tokenizer).double()
    method(batch.chunks(world)[rank]).total.backward()
    for name, value in method.named_parameters():
        assert value.grad is not None
        dist.all_reduce(value.grad)
        torch.testing.assert_close(value.grad / world, expected[name], rtol=1e-9, atol=1e-12)


def test_two_ranks_that_are_asked_differently_often_have_the_gradient_of_one(
    shards: Path, tokenizer: str, ranks: partial[None]
) -> None:
    method = made(tokenizer).double()
    batch = batch_of(method, shards)
    batch.text["targets"][:6] = NOT_ASKED
    batch.text["other"][15:] = NOT_ASKED
    method(batch).total.backward()
    expected = {name: value.grad for name, value in method.named_parameters()}
    ranks(_gradients_of_halves, 2, tokenizer, batch, expected)


def test_a_moved_method_still_has_its_tokenizer(shards: Path, tmp_path: Path, tokenizer: str) -> None:
    copy = tmp_path / "tok"
    WordPieces.train([text for world in TRAIN for text in world], 400).save(copy)
    method = made(str(copy)).eval()
    save_method(method, tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    copy.rename(tmp_path / "gone")
    again = load_method(tmp_path / "b")
    assert isinstance(again, BERT)
    assert again.encoder.tokenizer == method.encoder.tokenizer
    assert again.heads.predictions.decoder.weight is again.encoder.bert.embeddings.word_embeddings.weight
    batch = batch_of(method, shards)
    assert torch.equal(again.eval()(batch).total, method(batch).total)


def _asked(method: BERT, shards: Path) -> dict[str, Score]:
    subject = Subject({"text": method.encoder}, shards, method=method)
    return {score.evaluation: score for score in Pretext(PretextConfig(batch_size=32)).run(subject)}


def test_it_learns_the_words_of_unseen_worlds(shards: Path, tokenizer: str, tmp_path: Path) -> None:
    method = made(tokenizer, width=64, layers=2, context=40)
    before = _asked(method, shards)
    data = StreamConfig(sources=(Source(shards=str(shards)),), workers=0)
    steps = TrainConfig(
        steps=STEPS,
        batch_size=32,
        precision="fp32",
        optimizer=OptimizerConfig(name="adamw", base_lr=1.6e-2, weight_decay=0.01),
        warmup=2,
    )
    stream = Stream(data, method.views, batch_size=32, seed=0)
    train(method.train(), stream, steps, tmp_path, provenance={})
    after = _asked(method, shards)
    words, pairs = after["pretext/word"], after["pretext/next_sentence"]
    assert words.chance is not None
    assert before["pretext/word"].value < words.chance < 20
    assert words.value > 35
    assert pairs.chance == 50
