"""Action recognition by fine-tuning: the whole encoder and a linear classifier, from where training left it.

The encoder that is questioned stays as it is: a copy is trained. Budgets in the literature run from 150
epochs (VCOP) to 500 (CoCLR), and change the result: the budget is part of the protocol.
"""

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from rich import get_console
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmssl.errors import MmsslError
from mmssl.evaluate.actions import RecognitionConfig, averaged, over_splits
from mmssl.evaluate.base import Evaluation, Score
from mmssl.evaluate.classify import Answered, pose, within_pairs
from mmssl.evaluate.features import described
from mmssl.evaluate.looks import Look, seeing_colours
from mmssl.models.clip import ClipEncoder
from mmssl.models.layers import layer_scales
from mmssl.stream.clips.base import Sampler
from mmssl.stream.clips.blocks import Blocks
from mmssl.stream.clips.spread import Spread
from mmssl.stream.views.clip import ClipAugmentation, ClipView

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

_AUGMENTATION = ClipAugmentation(
    scale=(0.3, 1.0), flip=0.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.0, blur=0.0
)
"""Nothing is mirrored: there are labels that tell left from right."""


class FinetuneConfig(RecognitionConfig):
    """The whole network trained on the gallery, tested on several clips and crops of the queries."""

    name: Literal["finetune"] = "finetune"
    epochs: PositiveInt = 30
    batch_size: PositiveInt = 32
    lr: PositiveFloat = 5e-4
    """Peak of AdamW's learning rate, behind a linear warm-up and before a cosine to zero."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps."""
    weight_decay: NonNegativeFloat = 0.05
    """Of matrices and convolutions; vectors are not decayed."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The learning rate of a layer is this to the power of the layers above it."""
    augmentation: ClipAugmentation = _AUGMENTATION


class Finetune(Evaluation):
    """``finetune/LABEL``: one network for each label name, each from the same start."""

    Config = FinetuneConfig

    def run(self, subject: "Subject") -> list[Score]:
        seeing_colours(subject.encoder(self.config.encoder))
        return over_splits(subject, self.config.splits, lambda *split: self._split(subject, *split))

    def _split(self, subject: "Subject", gallery: str, queries: str) -> list[Score]:
        config, between = self.config, (gallery, queries)
        tested = subject.look(config.encoder, clips=config.clips, crops=config.crops)
        fitted_on, asked = subject.labels(gallery), subject.labels(queries)
        networks = {
            task.label: self._train(subject, gallery, task.label, task.classes, len(fitted_on))
            for task in pose(subject, between, (fitted_on, asked), config.labels, "")
        }
        # One pass over the queries for the networks of all labels.
        reads = {label: _probabilities(tested, network, subject) for label, network in networks.items()}
        answers = []
        for label, found in subject.extract(queries, tested, reads).items():
            about = described(tested, {queries: found})
            task = next(pose(subject, between, (fitted_on, found), (label,), about))
            answers.append(
                Answered(
                    task, task.queries.clamp_min(1e-30).log(), f"{self._budget()}; {averaged(tested.views)}"
                )
            )
        scores = [answered.score("finetune") for answered in answers]
        return scores + within_pairs("finetune", answers, config.pairs, subject.classes)

    def _train(self, subject: "Subject", split: str, label: str, classes: int, samples: int) -> "Finetuned":
        """A copy of the encoder with a classifier, trained on ``split``; in evaluation mode."""
        config = self.config
        encoder = subject.look(config.encoder, clips=config.clips).clip_encoder
        with torch.random.fork_rng():  # the classifier, and whatever the network draws in training
            torch.manual_seed(subject.seed)
            network = Finetuned(copy.deepcopy(encoder), classes).to(subject.device).train()
            optimizer = torch.optim.AdamW(self._groups(network), lr=config.lr)
            size = min(config.batch_size, samples)
            steps = config.epochs * -(-samples // size)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._share(step, steps))
            view = ClipView(
                _moments(subject, config.encoder, encoder),
                encoder.image_size, encoder.mean, encoder.std, config.augmentation,
            )  # fmt: skip
            batches = subject.shuffled(split, view, size, steps)
            quiet = not get_console().is_terminal
            for batch in track(batches, f"fine-tuning: {label}", steps, transient=True, disable=quiet):
                y = batch.label.get(label, torch.full_like(batch.id, -1)).to(subject.device)
                if not bool((y >= 0).any()):
                    continue
                loss = cross_entropy(network(batch.input["frames"].to(subject.device)), y, ignore_index=-1)
                if not math.isfinite(float(loss.detach())):
                    raise MmsslError(
                        f"finetune: lr: {config.lr:g}; the loss is not finite, expected a lower rate"
                    )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return network.eval().requires_grad_(False)

    def _groups(self, network: "Finetuned") -> list[dict[str, Any]]:
        """Parameters by weight decay and by their layer's share of the learning rate."""
        config = self.config
        scales = layer_scales(network.encoder, config.layer_decay) if config.layer_decay < 1 else {}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in network.parameters():
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((decay, scales.get(id(parameter), 1.0)), []).append(parameter)
        return [
            {"params": parameters, "weight_decay": decay, "lr": config.lr * scale}
            for (decay, scale), parameters in groups.items()
        ]

    def _share(self, step: int, steps: int) -> float:
        """Of the peak learning rate: linear warm-up, then a cosine to zero."""
        warmup = self.config.warmup * steps
        if step < warmup:
            return (step + 1) / (math.floor(warmup) + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    def _budget(self) -> str:
        config = self.config
        layers = f", layer decay {config.layer_decay:g}" if config.layer_decay < 1 else ""
        return (
            f"fine-tuned whole, {config.epochs} epochs, batch {config.batch_size}, AdamW lr={config.lr:g}, "
            f"weight decay {config.weight_decay:g}{layers}, warm-up {config.warmup:g}, nothing chosen"
        )


class Finetuned(nn.Module):
    """An encoder and a linear classifier: clips (N, T, 3, S, S) to logits (N, C)."""

    def __init__(self, encoder: ClipEncoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(True)
        self.classifier = nn.Linear(encoder.dim, classes)
        nn.init.trunc_normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, clips: Tensor) -> Tensor:
        return self.classifier(self.encoder(clips))


def _moments(subject: "Subject", name: str | None, encoder: ClipEncoder) -> Sampler:
    """What training sees: a clip at random, or the frames of a video that an image encoder is tested on."""
    if isinstance(subject.encoder(name), ClipEncoder):
        return Blocks(1, encoder.frames, encoder.stride)
    return Spread(encoder.frames)


def _probabilities(tested: Look, network: "Finetuned", subject: "Subject") -> Callable[[Any], Tensor]:
    """(B, C) of what the look shows of B samples: the mean over its clips and crops."""
    return lambda seen: tested.each(seen, subject.device, network).softmax(dim=2).mean(dim=1)
