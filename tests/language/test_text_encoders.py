"""Text encoders against the libraries they are built on; the folder they are kept in."""

import json
import pickle
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.transformer import TextTransformer
from safetensors.torch import save_file
from transformers import BertConfig, BertForPreTraining, BertModel

from mmssl.config import Config, parse
from mmssl.errors import MmsslError
from mmssl.models.artifact import build_any, load_encoder, save_encoder
from mmssl.models.text import (
    BertText,
    BertTextConfig,
    ClipText,
    ClipTextConfig,
    TextConfig,
    build_text_encoder,
)
from mmssl.models.text.tokenizer import WordPieces

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["a red circle moves left", "two dogs", "a"]


@pytest.fixture
def pieces(tmp_path: Path) -> str:
    WordPieces.train(TEXTS * 3, 80).save(tmp_path / "tok")
    return str(tmp_path / "tok")


def test_a_kind_selects_one() -> None:
    class Tower(Config):
        text: TextConfig

    tower = parse(Tower, {"text": {"kind": "bert", "width": 64}}, "recipe")
    assert tower.text == BertTextConfig(width=64)
    with pytest.raises(MmsslError, match=r"recipe: text"):
        parse(Tower, {"text": {"kind": "gru"}}, "recipe")


def test_clip_is_open_clips_own_tower() -> None:
    """The same weights in open_clip's tower give what is left when its projection is taken away."""
    ours = ClipText(ClipTextConfig(width=32, heads=2, layers=2, context=12)).eval()
    theirs = TextTransformer(context_length=12, width=32, heads=2, layers=2, output_dim=7).eval()
    theirs.load_state_dict(ours.net.state_dict() | {"text_projection": torch.randn(32, 7)})
    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=12)(TEXTS)
    assert torch.equal(ours.tokenizer(TEXTS, 12), tokens)
    torch.testing.assert_close(ours(tokens) @ theirs.text_projection, theirs(tokens))


def test_clip_reads_nothing_behind_the_end(pieces: str) -> None:
    encoder = ClipText(ClipTextConfig(width=32, heads=2, layers=2, context=12, tokenizer=pieces)).eval()
    tokens = encoder.tokenizer(["two dogs"], 12)
    end = int((tokens == encoder.tokenizer.end).int().argmax())
    changed, before = tokens.clone(), tokens.clone()
    changed[:, end + 1 :] = 7
    before[:, end - 1] = 7
    assert torch.equal(encoder(tokens), encoder(changed))
    assert not torch.allclose(encoder(tokens), encoder(before))


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_clip_gives_what_open_clips_tower_gives_of_all_tokens(pieces: str, activation: str) -> None:
    """Features and the gradient of every parameter; captions of all lengths, one without an end."""
    config = {"width": 32, "heads": 2, "layers": 3, "context": 12, "tokenizer": pieces}
    encoder = ClipText(ClipTextConfig.model_validate({**config, "activation": activation})).double()
    tokens = ragged(encoder, [7, 12, 2, 3, 7])
    tokens[3, 2] = encoder.tokenizer.mask  # its first token is then the one to pool at
    slope = torch.randn(5, 32, dtype=torch.float64)
    found, expected = encoder(tokens), encoder.net(tokens)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    parameters = dict(encoder.named_parameters())
    ours = torch.autograd.grad(found, list(parameters.values()), slope)
    theirs = torch.autograd.grad(expected, list(parameters.values()), slope)
    for name, one, other in zip(parameters, ours, theirs, strict=True):
        assert other.abs().max() > 0, name
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11, msg=name)


def test_clip_under_autocast_is_as_near_as_open_clips_tower(pieces: str) -> None:
    encoder = ClipText(ClipTextConfig(width=32, heads=2, layers=3, context=12, tokenizer=pieces)).eval()
    tokens = ragged(encoder, [7, 12, 2, 3, 7])
    exact = encoder.net(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        found, theirs = encoder(tokens), encoder.net(tokens)
    assert found.dtype == theirs.dtype == torch.float32
    assert (found - exact).abs().max() <= 1.5 * (theirs - exact).abs().max()


def test_clip_works_out_neither_padding_nor_what_nothing_depends_on(pieces: str) -> None:
    encoder = ClipText(ClipTextConfig(width=32, heads=2, layers=3, context=12, tokenizer=pieces)).eval()
    worked_out: list[int] = []
    for block in encoder.net.transformer.resblocks:
        block.mlp.register_forward_pre_hook(lambda _, args: worked_out.append(args[0].shape[0]))
    lengths = [7, 12, 2, 3, 7]
    encoder(ragged(encoder, lengths))
    assert worked_out == [sum(lengths), sum(lengths), len(lengths)]


def ragged(encoder: ClipText, lengths: list[int]) -> torch.Tensor:
    """Captions (B, context) of random tokens, so long with start and end."""
    tokenizer = encoder.tokenizer
    tokens = torch.randint(tokenizer.mask + 1, tokenizer.vocabulary, (len(lengths), encoder.context))
    tokens[:, 0] = tokenizer.start
    for row, length in zip(tokens, lengths, strict=True):
        row[length - 1] = tokenizer.end
        row[length:] = tokenizer.pad
    return tokens


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_bert_is_transformers_own_model_row_by_row(pieces: str, pool: str) -> None:
    """Padding plays no part: a row alone, cut to its length, in transformers' model gives the same."""
    config = BertTextConfig(width=32, heads=2, layers=2, context=12, tokenizer=pieces, pool=pool)
    encoder = BertText(config).eval()
    settings = BertConfig(
        vocab_size=encoder.tokenizer.vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=12,
    )
    theirs = BertModel(settings, add_pooling_layer=False).eval()
    theirs.load_state_dict(encoder.bert.state_dict())
    tokens = encoder.tokenizer(TEXTS, 12)
    for row, found in zip(tokens, encoder(tokens), strict=True):
        states = theirs(input_ids=row[row != 0][None]).last_hidden_state[0]
        torch.testing.assert_close(
            found, states[0] if pool == "cls" else states.mean(0), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("kind", [ClipTextConfig, BertTextConfig])
@pytest.mark.parametrize("tokenizer", ["clip", "pieces"])
def test_a_moved_folder_still_has_its_tokenizer(
    tmp_path: Path, kind: type[ClipTextConfig] | type[BertTextConfig], tokenizer: str, pieces: str
) -> None:
    tokenizer = pieces if tokenizer == "pieces" else "clip"
    encoder = build_any(kind(width=32, heads=2, layers=1, context=10, tokenizer=tokenizer)).eval()
    save_encoder(encoder, tmp_path / "a", {"by": "a test"})
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "tok").rename(tmp_path / "gone")
    again = load_encoder(tmp_path / "b").eval()
    assert type(again) is type(encoder)
    assert again.tokenizer == encoder.tokenizer
    description = json.loads((tmp_path / "b" / "encoder.json").read_text())
    assert (description["input"], description["dim"]) == ("text", 32)
    assert description["config"]["tokenizer"] == ("clip" if tokenizer == "clip" else "tokenizer.json")
    tokens = encoder.tokenizer(TEXTS, 10)
    assert torch.equal(again(tokens), encoder(tokens))


@pytest.mark.parametrize("kind", [ClipTextConfig, BertTextConfig])
def test_a_tower_takes_the_first_positions_of_a_longer_one(
    tmp_path: Path, kind: type[ClipTextConfig] | type[BertTextConfig], pieces: str
) -> None:
    config = kind(width=32, heads=2, layers=1, context=24, tokenizer=pieces)
    long = build_text_encoder(config).eval()
    save_encoder(long, tmp_path / "long", {})
    start = {"context": 10, "weights": str(tmp_path / "long")}
    short = build_text_encoder(config.model_copy(update=start)).eval()
    tokens = short.tokenizer(TEXTS, 10)
    torch.testing.assert_close(short(tokens), long(long.tokenizer(TEXTS, 24)))
    with pytest.raises(MmsslError, match="another shape"):
        build_text_encoder(config.model_copy(update=start | {"context": 30}))


def test_transformers_own_file_starts_a_tower(tmp_path: Path, pieces: str) -> None:
    config = BertTextConfig(width=32, heads=2, layers=2, context=12, tokenizer=pieces)
    whole = BertForPreTraining(BertText(config).bert.config).eval()
    state = {key: value.clone() for key, value in whole.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    start = config.model_copy(update={"weights": str(tmp_path / "model.safetensors")})
    encoder = build_text_encoder(start).eval()
    tokens = encoder.tokenizer(TEXTS, 12)
    expected = whole.bert(input_ids=tokens, attention_mask=(tokens != 0).long()).last_hidden_state
    torch.testing.assert_close(encoder.states(tokens), expected)


def test_weights_of_another_tokenizer_are_refused(tmp_path: Path, pieces: str) -> None:
    config = BertTextConfig(width=32, heads=2, layers=1, context=10, tokenizer=pieces)
    save_encoder(build_any(config), tmp_path / "one", {})
    turned = WordPieces.train([text[::-1] for text in TEXTS] * 3, 80)
    turned.save(tmp_path / "other")
    other = config.model_copy(update={"tokenizer": str(tmp_path / "other"), "weights": str(tmp_path / "one")})
    with pytest.raises(MmsslError, match="another tokenizer"):
        build_any(other)


@pytest.mark.parametrize("name", ["bert-base-uncased", "google-bert/bert-base-uncased"])
def test_a_named_model_that_is_absent_says_how_to_get_it(name: str) -> None:
    config = BertTextConfig(width=32, heads=2, layers=1, weights=name)
    with pytest.raises(MmsslError, match=rf"nothing is ever downloaded.*hf download {name}"):
        build_any(config)


@pytest.mark.parametrize("kind", [ClipTextConfig, BertTextConfig])
def test_heads_that_do_not_divide_the_width(kind: type[ClipTextConfig] | type[BertTextConfig]) -> None:
    with pytest.raises(MmsslError, match=r"text\.heads: expected a divisor of width 32, found 5"):
        build_any(kind(width=32, heads=5))


def test_workers_get_tokenizers_by_pickle(pieces: str) -> None:
    for name in (pieces, "clip"):
        tokenizer = BertText(BertTextConfig(width=8, heads=1, layers=1, tokenizer=name)).tokenizer
        assert pickle.loads(pickle.dumps(tokenizer)).encode(TEXTS) == tokenizer.encode(TEXTS)
