"""A step of CLIP beside the bare forward and backward of its towers, open_clip's own step, and two passes.

A step is what the engine does with a batch in memory: forward, loss, backward, AdamW, clamp. The bare towers'
is forward and backward alone. open_clip's is that of its training script, on its own model of the same towers
and as many parameters, with its ``ClipLoss`` and the same AdamW; once with its images as they come and once
in channels_last, and the faster one counts. Two passes are ``train: {accumulate: 4, cached: true}``. Images
and words are random. Run it alone on the machine: ``python benchmarks/clip_step.py``.
"""

import argparse
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import harness
import torch
from open_clip.loss import ClipLoss
from open_clip.model import CustomTextCLIP
from torch import Tensor, nn

from mmssl.engine import setup
from mmssl.engine.cache import TwoPasses
from mmssl.engine.config import OptimizerConfig, TrainConfig
from mmssl.engine.optim import build_optimizer
from mmssl.engine.step import MicroBatches
from mmssl.methods import DataInfo, build_method
from mmssl.methods.language.towers import ImageText
from mmssl.models.text.tokenizer import WordPieces
from mmssl.stream.batch import Batch

SIZE, CONTEXT, WIDTH, HEADS, LAYERS, DIM = 112, 32, 256, 4, 4, 256
PIECES = 4096
MICRO = 4
CPU = torch.device("cpu")
Step = Callable[[], object]


def vocabulary(folder: Path) -> str:
    """A tokenizer of exactly ``PIECES`` pieces, one for each of as many words."""
    letters = "abcdefghijklmnop"
    words = [a + b + c for a in letters for b in letters for c in letters]
    tokenizer = WordPieces.train(words, PIECES)
    tokenizer.save(folder)
    return str(folder)


def make(tokenizer: str) -> ImageText:
    text = {"kind": "clip", "width": WIDTH, "heads": HEADS, "layers": LAYERS, "context": CONTEXT}
    config = {
        "name": "clip",
        "image": {"name": "resnet18", "image_size": SIZE},
        "text": {**text, "tokenizer": tokenizer},
        "dim": DIM,
    }
    method = build_method(config, DataInfo(50_000, frozenset({"image", "caption"})))
    assert isinstance(method, ImageText)
    return method


def words(method: ImageText, batch: int) -> Tensor:
    """(batch, CONTEXT) int64: captions of 5 to CONTEXT - 2 random tokens."""
    tokenizer = method.text.tokenizer
    tokens = torch.randint(tokenizer.mask + 1, tokenizer.vocabulary, (batch, CONTEXT))
    ends = torch.randint(6, CONTEXT, (batch, 1))
    tokens[:, 0] = tokenizer.start
    place = torch.arange(CONTEXT)
    return tokens.masked_fill(place == ends, tokenizer.end).masked_fill(place > ends, tokenizer.pad)


def ours(tokenizer: str, batch: Batch, accumulate: int = 1) -> Step:
    """As the engine does it, in one pass or in two."""
    method = make(tokenizer)
    settings = {"batch_size": len(batch), "steps": 1, "accumulate": accumulate, "cached": accumulate > 1}
    config = TrainConfig.model_validate({**settings, "optimizer": {"name": "adamw", "base_lr": 1e-3}})
    model = setup.prepare(method, config, CPU)
    optimizer = build_optimizer(method, config.optimizer)
    stream: Any = SimpleNamespace(finish=lambda part: part)  # views are finished already
    micro = (TwoPasses if accumulate > 1 else MicroBatches)(stream, accumulate, "fp32", CPU)

    def step() -> None:
        micro.forward_backward(model, batch)
        optimizer.step()
        method.after_step(0.5)

    return step


def bare(tokenizer: str, batch: Batch) -> Step:
    """Forward and backward of both towers, each with a gradient of ones."""
    method = make(tokenizer)
    towers = nn.ModuleList([method.image, method.text])
    setup.channels_last(towers)
    towers.train()

    def step() -> None:
        towers.zero_grad(set_to_none=True)
        outputs = [method.image(batch.image), method.text(batch.text["tokens"])]
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])

    return step


def theirs(tokenizer: str, batch: Batch, layout: torch.memory_format) -> Step:
    """open_clip's training step (``open_clip_train.train``) of its own model."""
    reference = make(tokenizer)
    pieces = reference.text.tokenizer
    vision: Any = {
        "timm_model_name": "resnet18",
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": SIZE,
    }
    text: Any = {"context_length": CONTEXT, "vocab_size": pieces.vocabulary, "width": WIDTH, "heads": HEADS}
    text |= {"layers": LAYERS, "pad_id": pieces.pad, "eos_id": pieces.end, "pool_type": "eos"}
    model = CustomTextCLIP(DIM, vision, text, output_dict=True)
    sizes = [sum(p.numel() for p in module.parameters()) for module in (model, reference)]
    if sizes[0] != sizes[1]:
        raise SystemExit(f"open_clip's model has {sizes[0]} parameters, ours {sizes[1]}; expected as many")
    model = model.to(memory_format=layout).train()  # type: ignore[call-overload]
    same = build_optimizer(reference, OptimizerConfig(name="adamw", base_lr=1e-3)).defaults
    kernels = {name: same[name] for name in ("foreach", "fused")}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, **kernels)
    loss = ClipLoss(local_loss=True, gather_with_grad=True)
    images = batch.image.contiguous(memory_format=layout)

    def step() -> None:
        optimizer.zero_grad()
        total = loss(**model(images, batch.text["tokens"]), output_dict=True)["contrastive_loss"]
        total.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))

    return step


def measure(repeats: int = 9, size: int = 64) -> list[harness.Figure]:
    """Interleaved medians on the threads that torch has now."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = vocabulary(Path(folder))
        text = {"tokens": words(make(tokenizer), size), "same": torch.arange(size)}
        text |= {"cut": torch.zeros(size, dtype=torch.bool), "unknown": torch.zeros(size)}
        batch = Batch(id=torch.arange(size), image=torch.randn(size, 3, SIZE, SIZE), text=text)
        variants = {
            "ours": ours(tokenizer, batch),
            "bare": bare(tokenizer, batch),
            "theirs, as images come": theirs(tokenizer, batch, torch.contiguous_format),
            "theirs, channels_last": theirs(tokenizer, batch, torch.channels_last),
            "two passes": ours(tokenizer, batch, MICRO),
        }
        seconds = harness.interleaved(variants, repeats, warmup=2)
    about = (
        f"ResNet-18 and {LAYERS} × {WIDTH} causal transformer over {CONTEXT} of {PIECES} word pieces, {size} "
        f"pairs @{SIZE}, fp32, {torch.get_num_threads()} threads; AdamW included but for the bare towers; "
        f"medians of {repeats} steps taken in turns"
    )
    best = min("theirs, as images come", "theirs, channels_last", key=seconds.__getitem__)
    step = seconds["ours"]
    return [
        harness.figure("both towers, bare forward + backward", seconds["bare"], "s", about),
        harness.figure("CLIP step", step, "s", about),
        harness.figure("CLIP step over the bare towers", step / seconds["bare"], "ratio", about, "<= 1.05"),
        *(
            harness.figure(f"open_clip's step ({name})", seconds[f"theirs, {name}"], "s", about)
            for name in ("as images come", "channels_last")
        ),
        harness.figure(
            "CLIP step over open_clip's faster one", step / seconds[best], "ratio", about, "<= 1.0"
        ),
        harness.figure(f"CLIP step, two passes of {MICRO}", seconds["two passes"], "s", about),
        harness.figure(
            f"two passes of {MICRO} over one", seconds["two passes"] / step, "ratio", about, "<= 1.45"
        ),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="timed rounds; the median counts")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    harness.record("clip_step", measure(arguments.repeats), ("open_clip_torch",))
