"""Small images and captions for the methods between them."""

from typing import Any

import torch
from torch import Tensor

from mmssl.methods import DataInfo, build_method
from mmssl.methods.language.towers import ImageText
from mmssl.stream.batch import Batch

SIZE, CONTEXT = 32, 8
NET = {
    "name": "resnet18",
    "stem": "small_stride2",
    "image_size": SIZE,
    "kwargs": {"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128]},
}
TEXT = {"kind": "clip", "width": 32, "heads": 2, "layers": 1, "context": CONTEXT}
INFO = DataInfo(100, frozenset({"image", "video", "caption"}))


def made(name: str = "clip", **settings: Any) -> ImageText:
    torch.manual_seed(0)
    config = {"name": name, "image": NET, "text": TEXT, "dim": 16, **settings}
    method = build_method(config, INFO)
    assert isinstance(method, ImageText)
    return method.train()


def texts(method: ImageText, words: list[str]) -> dict[str, Tensor]:
    """As ``CaptionView`` gives them."""
    _, same = torch.unique(torch.tensor([hash(word) for word in words]), return_inverse=True)
    return {
        "tokens": method.text.tokenizer(words, CONTEXT),
        "same": same,
        "which": torch.zeros(len(words), dtype=torch.int64),
        "cut": torch.zeros(len(words), dtype=torch.bool),
        "unknown": torch.zeros(len(words)),
    }


def seen(method: ImageText, words: list[str], seed: int = 0, ids: list[int] | None = None) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(len(words), 3, SIZE, SIZE, generator=generator)
    rows = torch.tensor(ids) if ids is not None else torch.arange(len(words))
    return Batch(id=rows, image=image, text=texts(method, words))
