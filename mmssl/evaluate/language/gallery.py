"""What pictures find among words and words among pictures, drawn for the report."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from mmssl.evaluate.health import spaced
from mmssl.evaluate.language.pictures import (
    GAP,
    INK,
    PAPER,
    RIGHT,
    SOFT,
    WRONG,
    cells,
    font,
    png,
    shortened,
    wrapped,
)
from mmssl.evaluate.language.ranking import Truth
from mmssl.evaluate.language.space import Pairs
from mmssl.files import write_bytes
from mmssl.modalities import are_videos
from mmssl.models.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

_SIDE, _SMALL, _BORDER, _LINE = 96, 40, 3, 16
"""Pixels of a picture, of one beside the matrix, of the border around a match, and of a line of text."""
_MATCHES, _FRAMES, _WORDS, _ROWS = 5, 3, 420, 16
"""Matches of a query, frames of a video, pixels of a line of text, samples in the matrix."""

Film = Mapping[int, Tensor]
"""Sample id to (frames, 3, H, W) float32 in 0..1."""


def draw_gallery(
    subject: "Subject",
    tokenizer: Tokenizer,
    pairs: Pairs,
    truth: Truth,
    rows: Tensor,
    to_text: str,
    to_seen: str,
) -> None:
    """Write the pictures of both directions, of the samples ``rows``, by the names given, and the matrix.

    A caption asks for each of them: the first that was written for it. The matrix has samples of its own,
    evenly spaced. Words are those the text tower reads.
    """
    assert subject.folder is not None
    folder = subject.folder / "pictures"
    first = torch.searchsorted(pairs.of, rows)  # captions stand sample after sample
    texts = _Texts(tokenizer, pairs.tokens)
    captions = truth.caption
    found_text = (pairs.seen[rows] @ pairs.said[captions].T).topk(min(_MATCHES, truth.texts), dim=1).indices
    found_seen = (pairs.said[first] @ pairs.seen.T).topk(min(_MATCHES, len(pairs.seen)), dim=1).indices
    some = spaced(torch.arange(len(pairs.seen)), _ROWS)
    wanted = pairs.ids[torch.cat([rows, some, found_seen.flatten()]).unique()].tolist()
    frames = _FRAMES if are_videos(subject.manifest.fields.keys()) else 1
    film = subject.film(subject.queries, wanted, frames, _SIDE)
    right_text, right_seen = truth.texts_of(rows), truth.samples_of(first)
    ids = pairs.ids.tolist()
    asked = [
        (film[ids[row]], texts[caption], [(texts[int(captions[j])], bool(own[j])) for j in found.tolist()])
        for row, caption, own, found in zip(
            rows.tolist(), first.tolist(), right_text, found_text, strict=True
        )
    ]
    write_bytes(folder / f"text_retrieval_{to_text}.png", words_found(asked))
    shown = [
        (texts[caption], [(film[ids[j]], bool(own[j])) for j in found.tolist()])
        for caption, own, found in zip(first.tolist(), right_seen, found_seen, strict=True)
    ]
    write_bytes(folder / f"text_retrieval_{to_seen}.png", pictures_found(shown))
    own_words = torch.searchsorted(pairs.of, some)
    similarity = pairs.seen[some] @ pairs.said[own_words].T
    cases = [(film[ids[row]], texts[j]) for row, j in zip(some.tolist(), own_words.tolist(), strict=True)]
    write_bytes(folder / "text_retrieval_matrix.png", matrix(similarity, cases))


class _Texts:
    """Captions as the text tower reads them: in its letters, and cut where it cuts them."""

    def __init__(self, tokenizer: Tokenizer, tokens: Tensor) -> None:
        self._tokenizer, self._tokens = tokenizer, tokens

    def __getitem__(self, row: int) -> str:
        return self._tokenizer.decode(self._tokens[row].tolist())


def words_found(asked: Sequence[tuple[Tensor, str, Sequence[tuple[str, bool]]]]) -> bytes:
    """PNG: each query (frames, one of its own captions) and the captions it finds, best first."""
    high = max(_SIDE, _LINE * (1 + max(len(found) for _, _, found in asked)))
    wide = asked[0][0].shape[0] * _SIDE
    page = Image.new("RGB", (wide + _WORDS + 3 * GAP, len(asked) * (high + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for number, (frames, own, found) in enumerate(asked):
        top, left = GAP + number * (high + GAP), wide + 2 * GAP
        page.paste(_strip(frames), (GAP, top))
        draw.text((left, top), shortened(f"its own: {own}", _WORDS), SOFT, font())
        for line, (text, right) in enumerate(found, 1):
            words = shortened(f"{line} · {'hit' if right else 'miss'}: {text}", _WORDS)
            draw.text((left, top + line * _LINE), words, RIGHT if right else WRONG, font())
    return png(page)


def pictures_found(asked: Sequence[tuple[str, Sequence[tuple[Tensor, bool]]]]) -> bytes:
    """PNG: each query, a caption, above the pictures or film strips it finds, best first."""
    frames = asked[0][1][0][0].shape[0]
    wide, high = frames * _SIDE + 2 * _BORDER, _SIDE + 2 * _BORDER
    most = max(len(found) for _, found in asked)
    page = Image.new("RGB", (most * (wide + GAP) + GAP, len(asked) * (high + 2 * _LINE + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(page)
    for number, (text, found) in enumerate(asked):
        top = GAP + number * (high + 2 * _LINE + GAP)
        draw.text((GAP, top), shortened(text, page.width - 2 * GAP), INK, font())
        for at, (film, right) in enumerate(found):
            left, upper = GAP + at * (wide + GAP), top + _LINE
            colour = RIGHT if right else WRONG
            draw.rectangle((left, upper, left + wide - 1, upper + high - 1), fill=colour)
            page.paste(_strip(film), (left + _BORDER, upper + _BORDER))
            draw.text((left, upper + high + 1), f"{at + 1} · {'hit' if right else 'miss'}", colour, font())
    return png(page)


def matrix(similarity: Tensor, cases: Sequence[tuple[Tensor, str]]) -> bytes:
    """PNG: cosines (n, n) of n samples (rows, a picture each) and one caption of each (columns)."""
    n, head, step = len(cases), _LINE, _SMALL + 2
    left = _SMALL + 2 * GAP
    words = left + n * step + GAP
    page = Image.new("RGB", (words + _WORDS // 2 + GAP, head + n * step + GAP + _LINE + 4), PAPER)
    draw = ImageDraw.Draw(page)
    low, high = float(similarity.min()), float(similarity.max())
    page.paste(cells(similarity, low, high, step), (left, head))
    for row, (film, text) in enumerate(cases):
        top = head + row * step
        page.paste(_strip(film[len(film) // 2][None]).resize((_SMALL, _SMALL)), (GAP, top + 1))
        draw.text((left + row * step + step // 2, head // 2), str(row + 1), INK, font(), anchor="mm")
        for line, part in enumerate(wrapped(f"{row + 1} · {text}", _WORDS // 2, 2)):
            draw.text((words, top + 4 + line * _LINE), part, INK, font())
    about = f"cosine of pictures (rows) and captions (columns), white {low:.2f} to blue {high:.2f}"
    draw.text((GAP, head + n * step + GAP), about, SOFT, font())
    return png(page)


def _strip(frames: Tensor) -> Image.Image:
    """(T, 3, H, W) in 0..1 → one picture (H, T · W)."""
    pixels = frames.mul(255).round().byte().permute(2, 0, 3, 1).flatten(1, 2)
    return Image.fromarray(np.ascontiguousarray(pixels.numpy()))
