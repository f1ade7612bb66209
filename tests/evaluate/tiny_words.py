"""A shard set of coloured pictures with captions, one of coloured videos, and tiny methods over both."""

import json

import numpy as np
import torch
from tiny_actions import video
from tiny_rooms import build_set, net

from mmssl.methods import build_method
from mmssl.methods.base import DataInfo
from mmssl.shards import encode
from mmssl.shards.writer import RawSample

COLOURS = ("red", "green", "blue")
PLACES = ("sand", "grass", "snow", "a road", "a hill", "a beach", "ice")
EMPTY = 5
"""Row of val whose only caption is empty."""
UNLABELLED = 2
"""Row of val without a label."""


def captions(number):
    """One to three, and every seventh sample says what the one four before it says."""
    if number % 7 == 6:
        number -= 4
    colour, place = COLOURS[number % 3], PLACES[number % 7]
    told = [f"a {colour} picture of {place}", f"{place} in {colour}", f"number {number} is {colour}"]
    return told[: 1 + number % 3]


def picture(number):
    rng = np.random.default_rng(number)
    colour = np.full(3, 40.0)
    colour[number % 3] = 210
    patches = rng.normal(0, 60, (5, 5, 3)).repeat(4, axis=0).repeat(4, axis=1)
    return (colour + patches).clip(0, 255).astype(np.uint8)


def still(split, number):
    val = split == "val"
    label = (
        {"size": number % 2} if val and number == UNLABELLED else {"colour": number % 3, "size": number % 2}
    )
    return RawSample(
        f"{split}{number:03}",
        {
            "image.png": encode.png(picture(number + (300 if val else 0))),
            "caption.json": json.dumps([""] if val and number == EMPTY else captions(number)).encode(),
            "label.json": json.dumps(label).encode(),
        },
    )


def build_pictures(root, train=12, val=20):
    samples = {
        split: [still(split, number) for number in range(count)]
        for split, count in (("train", train), ("val", val))
    }
    classes = {"colour": ["red", "green", "blue"], "size": []}
    return build_set(root, samples, {"image": 1.0, "caption": 1.0, "label": 1.0}, classes)


def build_videos(root, train=6, val=6):
    def clip(number):
        label = json.dumps({"colour": number % 3}).encode()
        told = json.dumps(captions(number)).encode()
        return RawSample(
            f"clip{number:03}", {"video.mp4": video(number), "caption.json": told, "label.json": label}
        )

    samples = {"train": [clip(n) for n in range(train)], "val": [clip(n) for n in range(train, train + val)]}
    fields = {"video": 1.0, "caption": 1.0, "label": 1.0}
    return build_set(root, samples, fields, {"colour": ["red", "green", "blue"]})


def clip_method(image=None, video=False, **text):
    """A CLIP of two tiny towers with random weights."""
    torch.manual_seed(0)
    settings = {
        "name": "clip",
        "image": image or net().model_dump(),
        "text": {"kind": "clip", "width": 16, "heads": 2, "layers": 1, "context": 16, **text},
        "dim": 8,
    }
    data = DataInfo(12, frozenset({"video" if video else "image", "caption", "label"}))
    return build_method(settings, data, "test").eval()


def see_colours(method, monkeypatch):
    """Embeddings that everybody can foresee: the colour that is seen, and the colour that is named."""

    def encode_image(x):
        while x.ndim > 2:
            x = x.mean(dim=1 if x.ndim == 5 else -1)
        return torch.nn.functional.one_hot(x.argmax(dim=1), 4).float()

    def encode_text(tokens):
        texts = [method.text.tokenizer.decode(row.tolist()) for row in tokens]
        named = [next((n for n, c in enumerate(COLOURS) if c in text.split()), 3) for text in texts]
        return torch.nn.functional.one_hot(torch.tensor(named), 4).float()

    monkeypatch.setattr(method, "encode_image", encode_image)
    monkeypatch.setattr(method, "encode_text", encode_text)
    return method
