"""WordPieces and byte pairs: round trips, the same vocabulary in every process, what a file must be."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import BertTokenizerFast

from mmssl.errors import MmsslError
from mmssl.models.text.tokenizer import SPECIAL, BytePairs, WordPieces, load_tokenizer

TEXTS = [
    f"a {size} {colour} {thing} moves {way}"
    for size in ("small", "large", "huge")
    for colour in ("red", "green", "violet", "grey")
    for thing in ("circle", "square", "triangle")
    for way in ("left", "right", "upwards")
]
PIECES = WordPieces.train(TEXTS, 200)

WORDS = [f"{a}{b}{c}" for a in "abcde" for b in ("ra", "ro", "ru") for c in ("x", "yy", "zz", "")]
LEARN = """
import json, sys
from pathlib import Path
from mmssl.models.text.tokenizer import WordPieces
WordPieces.train(json.loads(sys.argv[1]), 90).save(Path(sys.argv[2]))
"""


def test_texts_come_back() -> None:
    for text in TEXTS:
        (tokens,) = PIECES.encode([text])
        assert PIECES.unknown not in tokens
        assert PIECES.decode(tokens) == text


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=5), st.integers(3, 12))
def test_rows_are_start_tokens_end_padding(texts: list[str], context: int) -> None:
    rows = PIECES(texts, context)
    assert rows.shape == (len(texts), context)
    for row, tokens in zip(rows.tolist(), PIECES.encode(texts), strict=True):
        kept = tokens[: context - 2]
        assert row == [PIECES.start, *kept, PIECES.end, *[PIECES.pad] * (context - 2 - len(kept))]
        assert all(0 <= token < PIECES.vocabulary for token in row)


def test_transformers_reads_the_file_and_agrees(tmp_path: Path) -> None:
    PIECES.save(tmp_path)
    theirs = BertTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    texts = [*TEXTS, "Unheard ENORMOUS  wörds!", ""]
    assert [theirs.convert_tokens_to_ids(theirs.tokenize(text)) for text in texts] == PIECES.encode(texts)


def test_loaded_is_equal_and_other_captions_make_another(tmp_path: Path) -> None:
    PIECES.save(tmp_path)
    assert load_tokenizer(tmp_path) == PIECES == load_tokenizer(tmp_path / "tokenizer.json")
    assert WordPieces.train(TEXTS[::2], 60) != PIECES
    assert load_tokenizer("clip") == BytePairs() != PIECES


def test_every_process_learns_the_same(tmp_path: Path) -> None:
    """The library's hash tables are seeded anew by every process, and every table has its own order."""
    texts = [" ".join(WORDS[i::7]) for i in range(7)] * 3
    command = [sys.executable, "-c", LEARN, json.dumps(texts), str(tmp_path / "other")]
    subprocess.run(command, check=True, timeout=120)
    WordPieces.train(texts, 90).save(tmp_path / "here")
    WordPieces.train(texts, 90).save(tmp_path / "again")
    files = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("other", "here", "again")]
    assert files[0] == files[1] == files[2]


def test_never_more_pieces_than_asked_for() -> None:
    alphabet = [chr(code) for code in range(0x430, 0x450)]
    texts = [" ".join(a + b for a, b in product(alphabet, alphabet)), *TEXTS]
    learned = WordPieces.train(texts, 64)
    assert learned.vocabulary <= 64
    assert [learned._inner.token_to_id(token) for token in SPECIAL] == list(range(5))
    assert learned.unknown in learned.encode(texts)[0]  # letters are left out, the rarest ones
    assert learned.unknown not in learned.encode(["tree"])[0]


def test_common_words_become_one_piece_and_others_are_spelt() -> None:
    assert len(PIECES.encode(["circle"])[0]) == 1
    (spelt,) = PIECES.encode(["garter"])
    assert len(spelt) > 1
    assert PIECES.unknown not in spelt
    assert PIECES.encode(["ξ"])[0] == [PIECES.unknown]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no such file"),
        ("{}", "not a tokenizer"),
        (Tokenizer.from_str(PIECES._inner.to_str().replace("[MASK]", "[HIDE]")).to_str(), r"\[MASK\] is not"),
    ],
)
def test_a_file_that_is_no_vocabulary(tmp_path: Path, content: str | None, expected: str) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(MmsslError, match=expected):
        load_tokenizer(path)
