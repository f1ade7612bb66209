"""A training step of UDT and of LUDT against the bare convolutions of the same crops, in turns.

A step is forward, loss, backward and SGD's update, on crops that lie in memory, as the engine does it; bare
are the two convolutions of DCFNet and the ReLU between them, channels_last, forward and backward of all
crops, without normalisation and without a Fourier transform. Run it alone on the machine:
``python benchmarks/tracker_training.py``.
"""

import argparse
from collections.abc import Callable

import harness
import torch

from mmssl.methods import DataInfo, build_method
from mmssl.methods.tracking.cycle import Cycle
from mmssl.models.dcfnet import DCFNet
from mmssl.models.layout import channels_last
from mmssl.stream.batch import Batch

SIZE = 125
BARS = {"udt": {"seconds": "<= 1.6", "ratio": "<= 2.0"}}
"""Only UDT, whose public code took 3.3 s on such a machine, has bars."""


def step(name: str, samples: int) -> tuple[Callable[[], object], int]:
    """One step of a method, and how many crops it sees."""
    torch.manual_seed(0)
    fields = frozenset({"video", "meta"})
    method = build_method({"name": name}, DataInfo(samples=samples, fields=fields))
    assert isinstance(method, Cycle)
    channels_last(method)
    sgd = torch.optim.SGD(method.parameters(), lr=1e-2, momentum=0.9)
    shape = (samples, 1 + method.search, 3, SIZE, SIZE)
    batch = Batch(crops=torch.randint(-128, 128, shape).float(), id=torch.arange(samples))

    def run() -> None:
        sgd.zero_grad(set_to_none=True)
        method(batch).total.backward()
        sgd.step()

    return run, samples * (1 + method.search)


def bare(crops: int) -> Callable[[], object]:
    """The convolutions alone."""
    net = DCFNet().to(memory_format=torch.channels_last)
    x = torch.randint(-128, 128, (crops, 3, SIZE, SIZE)).float().contiguous(memory_format=torch.channels_last)

    def run() -> None:
        net.zero_grad(set_to_none=True)
        y = net.conv2(net.conv1(x).relu())
        y.backward(torch.ones_like(y))

    return run


def training_figures(samples: int = 32, repeats: int = 5) -> list[harness.Figure]:
    """Seconds of each step, of the bare convolutions of as many crops, and their ratio."""
    figures = []
    for name in ("udt", "ludt"):
        run, crops = step(name, samples)
        seconds = harness.interleaved({"step": run, "bare": bare(crops)}, repeats)
        bars = BARS.get(name, {})
        about = (
            f"{samples} samples, {crops} crops of {SIZE}²; forward, loss, backward, update; median of "
            f"{repeats}, {torch.get_num_threads()} threads, float32"
        )
        only = (
            f"the two convolutions and a ReLU of the same {crops} crops, channels_last, forward and backward"
        )
        ratio = seconds["step"] / seconds["bare"]
        figures += [
            harness.figure(f"{name}: step", seconds["step"], "s", about, bars.get("seconds", "")),
            harness.figure(f"{name}: bare convolutions", seconds["bare"], "s", only),
            harness.figure(
                f"{name}: step / bare", ratio, "×", f"{about}; against {only}", bars.get("ratio", "")
            ),
        ]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    harness.record("tracker_training", training_figures(arguments.samples, arguments.repeats))


if __name__ == "__main__":
    main()
