"""SimCLR here against SimCLR built of lightly's parts: does what was made fast still learn as well?

Both run in the same loop, on the same order of the same CIFAR-10 JPEGs, with the same backbone, optimiser,
schedule and batch; lightly's run takes lightly's transform (PIL and torchvision), projection head and loss.

    python benchmarks/simclr_parity.py --images cifar10_train10k_val2k.zip --passes 5 --seeds 3
"""

import argparse
import io
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from harness import Figure, figure, record
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms.simclr_transform import SimCLRTransform
from PIL import Image
from torch import Tensor

from mmssl.engine import OptimizerConfig, TrainConfig, train
from mmssl.evaluate import Subject, evaluate, untrained
from mmssl.evaluate.knn import KNNConfig
from mmssl.methods import build_method
from mmssl.methods.base import DataInfo, Loss, Method
from mmssl.methods.image.simclr import SimCLRConfig
from mmssl.models.artifact import load_encoder
from mmssl.models.encoder import Encoder, EncoderConfig, build_encoder
from mmssl.shards.build import build_shards
from mmssl.shards.recipe import load_recipe
from mmssl.stream import Source, Stream, StreamConfig
from mmssl.stream.batch import Batch
from mmssl.stream.sample import Sample
from mmssl.stream.views.base import View
from mmssl.stream.views.contrastive import ContrastiveAugmentation
from mmssl.stream.views.draws import Draws

TEMPERATURE = 0.2
ENCODER = EncoderConfig(name="resnet18", stem="small_stride4", image_size=32)
OURS = SimCLRConfig(
    encoder=ENCODER,
    temperature=TEMPERATURE,
    projector=(512, 128),
    augmentation=ContrastiveAugmentation.small_images(0.5),
)


class LightlyViews(View):
    """lightly's SimCLRTransform with the same ranges, on PIL images, seeded for each sample and pass."""

    def __init__(self) -> None:
        self.transform = SimCLRTransform(
            input_size=32,
            cj_strength=0.5,
            min_scale=0.2,
            gaussian_blur=0.0,
            normalize={"mean": list(ENCODER.mean), "std": list(ENCODER.std)},
        )

    def read(self, sample: Sample, draws: Draws) -> Tensor:
        seed = int(draws.integers("lightly", 1, 0, 2**31 - 1)[0, 0])
        random.seed(seed)
        torch.manual_seed(seed)
        _, data = sample.members["image"]
        return torch.stack(self.transform(Image.open(io.BytesIO(data)).convert("RGB")))

    def prepare(self, items: Sequence[Any], draws: Draws) -> Tensor:
        return torch.stack(list(items))

    def finish(self, x: Tensor, draws: Draws) -> Tensor:
        return x


class LightlySimCLR(Method):
    """The example of lightly's documentation."""

    Config = SimCLRConfig

    def __init__(self, config: SimCLRConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        self.encoder = build_encoder(config.encoder)
        self.head = SimCLRProjectionHead(self.encoder.dim, 512, 128)
        self.criterion = NTXentLoss(temperature=config.temperature)

    @property
    def views(self) -> Mapping[str, View]:
        return {"image": LightlyViews()}

    def forward(self, batch: Batch) -> Loss:
        z = self.head(self.encoder(batch.image.flatten(0, 1))).float().unflatten(0, (-1, 2))
        return Loss(self.criterion(z[:, 0], z[:, 1]))

    def encoders(self) -> Mapping[str, Encoder]:
        return {"image": self.encoder}


def knn(encoder: Encoder, shards: Path) -> float:
    """kNN accuracy in percent, k = 20."""
    return evaluate(Subject({"image": encoder}, shards), [KNNConfig()])[0].value


def run(variant: str, seed: int, passes: float, shards: Path, folder: Path) -> float:
    """Train one variant and return its kNN accuracy."""
    config = TrainConfig(
        passes=passes,
        batch_size=256,
        seed=seed,
        warmup=1.0,
        optimizer=OptimizerConfig(name="sgd", base_lr=0.12, weight_decay=5e-4),
        log_every=50,
    )
    data = StreamConfig(sources=(Source(shards=str(shards)),), workers=1)
    torch.manual_seed(seed)
    info = DataInfo(samples=10_000)
    method = build_method(OURS, info) if variant == "mmssl" else LightlySimCLR(OURS, info)
    stream = Stream(data, method.views, batch_size=256, seed=seed)
    train(method, stream, config, folder, provenance={})
    return knn(load_encoder(folder / "encoders" / "image"), shards)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="zip of <split>/<class>/<n>.jpg")
    parser.add_argument("--passes", type=float, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    scores: dict[str, list[float]] = {"mmssl": [], "lightly": []}
    with tempfile.TemporaryDirectory() as name:
        shards = Path(name) / "shards"
        recipe = Path(__file__).parents[1] / "shards" / "cifar10.yaml"
        build_shards(load_recipe(recipe, [f"source.root={arguments.images}"]), shards, workers=2)
        start = knn(untrained({"image": ENCODER})["image"], shards)
        for seed in range(arguments.seeds):
            for variant, values in scores.items():
                folder = Path(name) / f"{variant}-{seed}"
                values.append(run(variant, seed, arguments.passes, shards, folder))
                print(f"seed {seed}: {variant} {values[-1]:.2f} %", flush=True)
    protocol = (
        f"kNN (k=20, T=0.07) on 2,000 held-out CIFAR-10 JPEGs after {arguments.passes:g} passes over 10,000; "
        f"ResNet-18, 3x3 stride-2 stem and max-pool, batch 256, SGD 0.12, tau {TEMPERATURE}; "
        f"{arguments.seeds} seeds"
    )
    figures: list[Figure] = [figure("untrained", start, "%", protocol)]
    for variant, values in scores.items():
        spread = f"{protocol}; standard deviation {statistics.stdev(values):.2f}; runs {values}"
        figures.append(figure(variant, statistics.mean(values), "%", spread))
    difference = statistics.mean(scores["mmssl"]) - statistics.mean(scores["lightly"])
    figures.append(figure("mmssl - lightly", difference, "points", protocol, ">= -1"))
    record("simclr_parity", figures, packages=("lightly",))


if __name__ == "__main__":
    main()
