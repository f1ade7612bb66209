"""Training steps of SimCLR, MoCo v2 and MAE: ours, lightly's examples, and the bare networks, in turns.

A step is forward, loss, backward, optimiser step, and momentum encoder and queue where the method has them;
the bare networks' is forward and backward alone. Heads, widths, optimiser and random images are the same for
all, and the images lie in memory beforehand. lightly's steps follow its examples, which keep the default
memory layout and pass the two views one after the other. Run it alone on the machine:
``python benchmarks/image_steps.py``.
"""

import argparse
import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import harness
import timm
import torch
from lightly.loss import NTXentLoss
from lightly.models import utils
from lightly.models.modules import (
    MaskedVisionTransformerDecoderTIMM,
    MaskedVisionTransformerTIMM,
    MoCoProjectionHead,
    SimCLRProjectionHead,
)
from torch import Tensor, nn

from mmssl.methods import DataInfo, Method, build_method
from mmssl.models.patches import last_tokens
from mmssl.stream.batch import Batch

Step = Callable[[], object]
RESNET = {"name": "resnet18", "image_size": 96}
QUEUE = 4096
DECODER = {"width": 512, "depth": 1, "heads": 16}
"""lightly's MAE example, as its mask ratio of 0.75 is; the paper's decoder has 8 such blocks."""


def optimiser(parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in parameters if p.requires_grad], lr=1e-3, momentum=0.9)


def ours(method: Method, batch: Batch, bf16: bool) -> Step:
    """As the engine does it: channels_last for convolutional networks, one step of everything."""
    if hasattr(method.encoders()["image"].backbone, "layer1"):
        method.to(memory_format=torch.channels_last)
    sgd = optimiser(method.parameters())

    def step() -> None:
        sgd.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            loss = method(batch)
        loss.total.backward()
        sgd.step()
        method.after_step(0.5)

    return step


def bare(module: nn.Module, run: Callable[[], Tensor]) -> Step:
    """Forward and backward, nothing else: the gradient of the output's sum."""

    def step() -> None:
        module.zero_grad(set_to_none=True)
        output = run()
        output.backward(torch.ones_like(output))

    return step


def lightly_simclr(x0: Tensor, x1: Tensor) -> Step:
    backbone = timm.create_model("resnet18", num_classes=0)
    head = SimCLRProjectionHead(512, 2048, 128)
    model, criterion = nn.Sequential(backbone, head), NTXentLoss(temperature=0.1)
    sgd = optimiser(model.parameters())

    def step() -> None:
        z0, z1 = model(x0), model(x1)
        loss = criterion(z0, z1)
        loss.backward()
        sgd.step()
        sgd.zero_grad()

    return step


def lightly_moco(x_query: Tensor, x_key: Tensor) -> Step:
    backbone = timm.create_model("resnet18", num_classes=0)
    query = nn.Sequential(backbone, MoCoProjectionHead(512, 2048, 128))
    key = copy.deepcopy(query)
    utils.deactivate_requires_grad(key)
    criterion = NTXentLoss(temperature=0.2, memory_bank_size=(QUEUE, 128))
    sgd = optimiser(query.parameters())

    def step() -> None:
        utils.update_momentum(query, key, m=0.999)
        q = query(x_query)
        with torch.no_grad():
            x, shuffle = utils.batch_shuffle(x_key)
            k = utils.batch_unshuffle(key(x), shuffle)
        loss = criterion(q, k)
        loss.backward()
        sgd.step()
        sgd.zero_grad()

    return step


class LightlyMAE(nn.Module):
    """lightly's example ``mae.py`` for timm, with ViT-Ti/16."""

    def __init__(self) -> None:
        super().__init__()
        vit = timm.create_model("vit_tiny_patch16_224", num_classes=0)
        self.backbone = MaskedVisionTransformerTIMM(vit=vit)
        self.sequence_length = self.backbone.sequence_length
        width = DECODER["width"]
        self.decoder_embed = nn.Linear(vit.embed_dim, width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=vit.patch_embed.num_patches,
            embed_dim=width,
            depth=DECODER["depth"],
            num_heads=DECODER["heads"],
        )
        self.prediction_head = nn.Linear(width, 16**2 * 3)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        shape = (len(images), self.sequence_length)
        keep, mask = utils.random_token_mask(shape, mask_ratio=0.75, device=images.device)
        x = self.decoder_embed(self.backbone.encode(images=images, idx_keep=keep))
        masked = utils.repeat_token(self.decoder.mask_token, shape)
        masked = utils.set_at_index(masked, keep, x.type_as(masked))
        prediction = self.prediction_head(utils.get_at_index(self.decoder(masked), mask))
        patches = utils.patchify(images, 16)
        return prediction, utils.get_at_index(patches, mask - 1)


def lightly_mae(images: Tensor) -> Step:
    model, criterion = LightlyMAE(), nn.MSELoss()
    sgd = optimiser(model.parameters())

    def step() -> None:
        prediction, target = model(images)
        loss = criterion(prediction, target)
        loss.backward()
        sgd.step()
        sgd.zero_grad()

    return step


def contrastive(name: str, size: int) -> dict[str, Step]:
    images, ids = torch.randn(size, 2, 3, 96, 96), torch.arange(size)
    batch = Batch(image=images, id=ids)
    settings = {"name": name, "encoder": RESNET} | ({"queue": QUEUE} if name == "moco_v2" else {})
    lightly = lightly_simclr if name == "simclr" else lightly_moco
    first, second = (x.contiguous() for x in images.unbind(1))
    nets = [timm.create_model("resnet18", num_classes=0) for _ in range(2)]
    query, key = (net.to(memory_format=torch.channels_last) for net in nets)
    both, x_query, x_key = (
        x.contiguous(memory_format=torch.channels_last) for x in (images.flatten(0, 1), first, second)
    )

    def run() -> Tensor:
        if name == "simclr":
            return query(both)  # type: ignore[no-any-return]
        with torch.no_grad():
            key(x_key)
        return query(x_query)  # type: ignore[no-any-return]

    return {
        "ours": ours(build_method(settings, DataInfo(1000)), batch, bf16=False),
        "ours bf16": ours(build_method(settings, DataInfo(1000)), batch, bf16=True),
        "lightly": lightly(first, second),
        "bare": bare(query, run),
    }


def mae(size: int) -> dict[str, Step]:
    images = torch.randn(size, 3, 224, 224)
    batch = Batch(image={"pixels": images, "noise": torch.rand(size, 196)}, id=torch.arange(size))
    encoder = {"name": "vit_tiny_patch16_224"}
    settings = {
        "name": "mae",
        "encoder": encoder,
        "decoder_width": DECODER["width"],
        "decoder_depth": DECODER["depth"],
        "decoder_heads": DECODER["heads"],
    }
    method = build_method(settings, DataInfo(1000))
    vit = method.encoders()["image"].backbone
    # the same layers on patches and tokens that lie ready; of the last decoder block both read 147 tokens
    networks = copy.deepcopy(
        nn.ModuleList([vit.blocks, vit.norm, method.decoder_embed, *method.decoder, method.decoder_pixels])
    )
    blocks, norm, embed, *decoder, last, pixels = networks
    project = nn.Linear(16**2 * 3, 192)
    networks.append(project)
    seen, token, masked = torch.randn(size, 49, 768), torch.randn(size, 1, 192), torch.randn(size, 147, 512)

    def run() -> Tensor:
        x = torch.cat([embed(norm(blocks(torch.cat([token, project(seen)], dim=1)))), masked], dim=1)
        for block in decoder:
            x = block(x)
        return pixels(last_tokens(last, x, 147))  # type: ignore[no-any-return]

    return {
        "ours": ours(method, batch, bf16=False),
        "ours bf16": ours(build_method(settings, DataInfo(1000)), batch, bf16=True),
        "lightly": lightly_mae(images),
        "bare": bare(networks, run),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="timed rounds; the median counts")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    cases = {
        "SimCLR": (lambda: contrastive("simclr", 64), "0.9", "ResNet-18, 64 images × 2 views @96"),
        "MoCo v2": (
            lambda: contrastive("moco_v2", 64),
            "0.9",
            f"ResNet-18, 64 images @96, queue {QUEUE}, keys shuffled",
        ),
        "MAE": (
            lambda: mae(32),
            "1.0",
            "ViT-Ti/16, 32 images @224, mask 0.75, decoder 1 × 512, 16 heads",
        ),
    }
    figures = []
    for name, (make, bar, what) in cases.items():
        seconds = harness.interleaved(make(), arguments.repeats)
        common = (
            f"{what}; SGD with momentum on both sides; "
            f"medians of {arguments.repeats} steps taken in turns, after one to warm up"
        )
        layout = "ours channels_last, lightly as in its example" if name != "MAE" else "same layout"
        bare_means = {
            "SimCLR": "forward + backward of the backbone on the 128 views in one pass, channels_last",
            "MoCo v2": "query forward + backward and key forward (64 each) of the backbone, channels_last",
            "MAE": "forward + backward: encoder of 49 ready patches, decoder of 197 tokens, pixels of 147",
        }[name]
        figures += [
            harness.figure(f"{name}: step", seconds["ours"], "s", f"fp32; {common}"),
            harness.figure(
                f"{name}: over lightly 1.6.0's example",
                seconds["ours"] / seconds["lightly"],
                "ratio",
                f"fp32 on both sides; {layout}; {common}",
                f"<= {bar}",
            ),
            harness.figure(
                f"{name}: over the bare networks",
                seconds["ours"] / seconds["bare"],
                "ratio",
                f"fp32; bare = {bare_means}; {common}",
                "<= 1.05",
            ),
        ]
        if torch.cpu._is_avx512_bf16_supported():
            figures.append(
                harness.figure(
                    f"{name}: bf16 over lightly's fp32 step",
                    seconds["ours bf16"] / seconds["lightly"],
                    "ratio",
                    f"ours in bf16 autocast, lightly fp32; {layout}; {common}",
                    "<= 0.6",
                )
            )
    harness.record("image_steps", figures, ("lightly",))


if __name__ == "__main__":
    main()
