"""A step of CMC beside the bare forward and backward of its two encoders, in turns.

A step is forward, heads, bank lookup, loss, backward, SGD with momentum and the update of the banks; the bare
encoders' is forward and backward alone, on the same images in the same layout. Images are random and lie in
memory beforehand. Run it alone on the machine: ``python benchmarks/cmc_step.py``.
"""

import argparse
from collections.abc import Callable
from itertools import count

import harness
import torch
from torch import Tensor, nn

from mmssl.methods import DataInfo, Method, build_method
from mmssl.models.encoder import EncoderConfig, build_encoder
from mmssl.models.layout import channels_last
from mmssl.stream.batch import Batch

SAMPLES, K, SIZE = 50_000, 16_384, 96
CASES = {
    "bank, NCE": {"negatives": "bank", "loss": "nce", "K": K},
    "batch, InfoNCE": {"negatives": "batch", "loss": "info_nce"},
}
VIEWS = {"L": 1, "ab": 2}


def make(settings: dict[str, object]) -> Method:
    views = {name: {"encoder": {"name": "resnet18", "image_size": SIZE, "sees": name}} for name in VIEWS}
    return build_method({"name": "cmc", "views": views, **settings}, DataInfo(SAMPLES))


def step_of(method: Method, images: dict[str, Tensor]) -> Callable[[], None]:
    """As the engine does it; every call sees other samples of the shard set."""
    channels_last(method)
    method.train()
    sgd = torch.optim.SGD(method.parameters(), lr=1e-3, momentum=0.9)
    size = len(images["L"])
    present = torch.ones(size, len(VIEWS), dtype=torch.bool)
    calls = count()

    def step() -> None:
        ids = (torch.arange(size) + next(calls) * size) * 7919 % SAMPLES
        sgd.zero_grad(set_to_none=True)
        method(Batch(id=ids, views={**images, "present": present})).total.backward()
        sgd.step()
        method.after_step(0.5)

    return step


def bare(images: dict[str, Tensor]) -> Callable[[], None]:
    """Forward and backward of both encoders, each with a gradient of ones."""
    encoders = nn.ModuleDict(
        {
            name: build_encoder(EncoderConfig.model_validate({"image_size": SIZE, "sees": name}))
            for name in VIEWS
        }
    )
    channels_last(encoders)
    encoders.train()

    def step() -> None:
        encoders.zero_grad(set_to_none=True)
        outputs = [encoders[name](x) for name, x in images.items()]
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])

    return step


def measure(repeats: int = 9, batch: int = 64) -> list[harness.Figure]:
    """Interleaved medians on the threads that torch has now."""
    torch.manual_seed(0)
    images = {name: torch.randn(batch, channels, SIZE, SIZE) for name, channels in VIEWS.items()}
    images = {name: x.contiguous(memory_format=torch.channels_last) for name, x in images.items()}
    variants = {name: step_of(make(settings), images) for name, settings in CASES.items()}
    seconds = harness.interleaved(variants | {"bare": bare(images)}, repeats, warmup=2)
    common = (
        f"L and ab, a ResNet-18 each, {batch} images @{SIZE}, fp32, {torch.get_num_threads()} threads, "
        f"channels_last; SGD with momentum included; medians of {repeats} steps taken in turns"
    )
    figures = [harness.figure("both encoders, bare forward + backward", seconds["bare"], "s", common)]
    for name in CASES:
        what = f"{common}; bank {SAMPLES} × 128 a view, K = {K}" if "bank" in name else common
        figures += [
            harness.figure(f"CMC step ({name})", seconds[name], "s", what),
            harness.figure(
                f"CMC step ({name}) over the bare encoders",
                seconds[name] / seconds["bare"],
                "ratio",
                what,
                "<= 1.06",
            ),
        ]
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="timed rounds; the median counts")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    harness.record("cmc_step", measure(arguments.repeats))
