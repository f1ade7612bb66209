"""Tokenizers as transformers reads them from a folder, and open_clip through it."""

from pathlib import Path

import tokenizers
from open_clip.tokenizer import SimpleTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from mmssl.errors import MmsslError
from mmssl.models.text.tokenizer import SPECIAL, BytePairs, Tokenizer, WordPieces

TOKENIZER_FILES = frozenset(
    {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"}
)

CLEANING = {
    WordPieces: "open_clip's `get_tokenizer` mends broken Unicode and HTML entities first, which was not "
    "done in training; other texts become the same tokens.",
    BytePairs: "transformers' tokenizer does not mend broken Unicode and HTML entities, which open_clip's "
    "did in training; other texts become the same tokens.",
}
"""Where two libraries read the same text differently."""


def write_tokenizer(tokenizer: Tokenizer, context: int, folder: Path) -> None:
    """Write what ``transformers.AutoTokenizer.from_pretrained(folder)`` loads: the same tokens, start and end
    added, cut at and padded to ``context`` where that is asked for (byte pairs with the end token).

    Raises:
        MmsslError: transformers has no tokenizer of this kind.
    """
    if isinstance(tokenizer, WordPieces):
        fast = _word_pieces(tokenizer, context)
    elif isinstance(tokenizer, BytePairs):
        fast = _byte_pairs(context)
    else:
        raise MmsslError(f"export: no file for a tokenizer of type {type(tokenizer).__name__}")
    fast.save_pretrained(folder)


def _word_pieces(tokenizer: WordPieces, context: int) -> PreTrainedTokenizerFast:
    inner = tokenizers.Tokenizer.from_str(tokenizer._inner.to_str())
    pad, unknown, start, end, mask = SPECIAL
    inner.post_processor = TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B:1 {end}:1",
        special_tokens=[(start, tokenizer.start), (end, tokenizer.end)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        cls_token=start,
        sep_token=end,
        pad_token=pad,
        unk_token=unknown,
        mask_token=mask,
        model_max_length=context,
    )


def _byte_pairs(context: int) -> CLIPTokenizer:
    simple = SimpleTokenizer()
    names = {simple.sot_token_id: "<|startoftext|>", simple.eot_token_id: "<|endoftext|>"}
    vocabulary = {names.get(number, piece): number for piece, number in simple.encoder.items()}
    merges = [merge for merge, _ in sorted(simple.bpe_ranks.items(), key=lambda item: item[1])]
    # Token 0, which open_clip pads with, is the exclamation mark: as a special token it would be found in
    # texts. What comes after the end token changes nothing, so padding is the end token, as OpenAI's is.
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token="<|endoftext|>", model_max_length=context)
