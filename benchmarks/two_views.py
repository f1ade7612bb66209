"""From a 256 px JPEG to two normalised 96 px SimCLR views, against lightly's SimCLRTransform, on one thread.

``python benchmarks/two_views.py [--repeats N]`` prints the figures and writes ``results/two_views.json``.
"""

import argparse
import io
from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg
import torch
from harness import Figure, figure, interleaved, record
from lightly.transforms import SimCLRTransform
from PIL import Image
from skimage import data

from mmssl.stream.decode import decode
from mmssl.stream.views.contrastive import ContrastiveAugmentation, ContrastiveViews
from mmssl.stream.views.draws import Draws

BATCH, SOURCE, SIZE = 64, 256, 96
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def jpegs(count: int) -> list[bytes]:
    """Squares of 256 px cut at random from photographs, as JPEGs of quality 90 with 4:2:0 colour."""
    rng = np.random.default_rng(0)
    photographs = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    encoded = []
    for i in range(count):
        photograph = photographs[i % len(photographs)]
        top = rng.integers(0, photograph.shape[0] - SOURCE + 1)
        left = rng.integers(0, photograph.shape[1] - SOURCE + 1)
        square = np.ascontiguousarray(photograph[top : top + SOURCE, left : left + SOURCE])
        encoded.append(simplejpeg.encode_jpeg(square, quality=90, colorsubsampling="420"))
    return encoded


def measure(repeats: int = 15) -> list[Figure]:
    """Medians of interleaved repeats over one batch of 64; sets the thread counts of the process to one."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    encoded = jpegs(BATCH)
    augmentation = ContrastiveAugmentation.simclr()
    view = ContrastiveViews(SIZE, (augmentation, augmentation), MEAN, STD)
    lightly = SimCLRTransform(input_size=SIZE)
    passes = iter(range(1 << 30))

    def ours(images: list[torch.Tensor]) -> torch.Tensor:
        draws = Draws(0, "image", np.arange(BATCH), np.full(BATCH, next(passes)))
        return view.finish(view.prepare(images, draws), draws)

    def theirs(images: list[Image.Image]) -> torch.Tensor:
        return torch.stack([torch.stack(lightly(image)) for image in images])

    def decode_ours() -> list[torch.Tensor]:
        return [decode("image", "jpg", jpeg) for jpeg in encoded]

    def decode_theirs() -> list[Image.Image]:
        return [Image.open(io.BytesIO(jpeg)).convert("RGB") for jpeg in encoded]

    tensors, pictures = decode_ours(), decode_theirs()
    assert ours(tensors).shape == theirs(pictures).shape == (BATCH, 2, 3, SIZE, SIZE)
    variants: dict[str, Callable[[], object]] = {
        "mmssl": lambda: ours(decode_ours()),
        "lightly": lambda: theirs(decode_theirs()),
        "mmssl without decoding": lambda: ours(tensors),
        "lightly without decoding": lambda: theirs(pictures),
    }
    seconds = interleaved(variants, repeats)
    protocol = (
        f"one thread; {BATCH} JPEGs of {SOURCE} px → two {SIZE} px views each (crop, flip, jitter, grey, "
        f"blur, statistics), stacked float32; median of {repeats} interleaved repeats"
    )
    figures = [figure(name, BATCH / taken, "source images/s", protocol) for name, taken in seconds.items()]
    ratio = seconds["lightly"] / seconds["mmssl"]
    bare = seconds["lightly without decoding"] / seconds["mmssl without decoding"]
    figures.append(figure("mmssl over lightly", ratio, "×", protocol, ">= 1.5"))
    figures.append(figure("mmssl over lightly, without decoding", bare, "×", protocol))
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    record("two_views", measure(parser.parse_args().repeats), packages=("lightly", "pillow"))
