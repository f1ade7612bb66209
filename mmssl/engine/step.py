"""One step in its parts: micro-batches to gradients, the gradient's norm, and a watch on what is finite."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmssl import distributed
from mmssl.engine.health import health
from mmssl.engine.setup import Precision
from mmssl.errors import MmsslError
from mmssl.methods.base import Loss
from mmssl.stream.batch import Batch
from mmssl.stream.config import StreamConfig
from mmssl.stream.quarantine import Quarantine


class BatchStream(Protocol):
    """What training asks of a stream (``mmssl.stream.Stream``); batches hold this rank's share."""

    @property
    def samples_per_pass(self) -> int: ...
    @property
    def config(self) -> StreamConfig: ...
    @property
    def quarantine(self) -> Quarantine: ...
    def batches(self, consumed: int = 0, steps: int | None = None) -> Iterator[Batch]: ...
    def finish(self, batch: Batch) -> Batch:
        """Finish the views of a batch, or of a part of it; a batch that came finished stays as it is."""


class MicroBatches:
    """How a batch becomes gradients: in ``accumulate`` pieces, under autocast, on the device."""

    def __init__(
        self, stream: BatchStream, accumulate: int, precision: Precision, device: torch.device
    ) -> None:
        self.stream = stream
        self.accumulate = accumulate
        self.bf16 = precision == "bf16"
        self.device = device

    def ready(self, batch: Batch) -> Batch:
        """The batch on the device, with float views."""
        return self.stream.finish(batch.to(self.device))

    def autocast(self) -> torch.autocast:
        """The precision of forward passes; weights cast in it are forgotten when it is left."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def first_batch(self) -> Batch:
        """The first batch of training, ready for a method's pictures."""
        batches = self.stream.batches(0, 1)
        with closed_after(batches):
            return self.ready(next(batches))

    def forward_backward(self, model: nn.Module, batch: Batch) -> Loss:
        """Leave the gradient of the mean loss over this rank's micro-batches, and of DDP's mean over ranks.

        Returns:
            detached float32 means of total and parts, and the embeddings of all micro-batches.
        """
        model.zero_grad(set_to_none=True)
        losses = []
        for number, part in enumerate(batch.chunks(self.accumulate), start=1):
            # gradients travel between ranks once, with the last micro-batch
            waits = isinstance(model, DistributedDataParallel) and number < self.accumulate
            with model.no_sync() if waits else nullcontext():  # type: ignore[operator]
                with self.autocast():
                    loss: Loss = model(self.ready(part))
                (loss.total / self.accumulate).backward()
            losses.append(Loss(loss.total.detach(), loss.parts, loss.embedding))
        return mean_loss(losses)


def mean_loss(losses: Sequence[Loss]) -> Loss:
    """Means of total and parts (float32), embeddings joined."""
    embeddings = [loss.embedding for loss in losses if loss.embedding is not None]
    parts = {
        name: torch.stack([loss.parts[name].detach().float() for loss in losses]).mean()
        for name in losses[0].parts
    }
    total = torch.stack([loss.total.float() for loss in losses]).mean()
    return Loss(total, parts, torch.cat(embeddings).detach() if embeddings else None)


def facts(loss: Loss) -> dict[str, Any]:
    """The log's ``parts`` (means over ranks) and ``health`` (of the embeddings of all ranks)."""
    signs: dict[str, float] = {}
    if loss.embedding is not None:
        everyone = distributed.gather(loss.embedding.float(), gradient=False)
        signs = health(everyone) if distributed.is_main() else {}
    return {"parts": {name: distributed.mean(x).item() for name, x in loss.parts.items()}, "health": signs}


def gradient_norm(method: nn.Module, clip: float | None) -> Tensor:
    """L2 norm of the whole gradient as it came; a longer one than ``clip`` is then scaled down to it."""
    parameters = [parameter for parameter in method.parameters() if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if clip is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    return norm


class Recent:
    """Losses and gradient norms since they were last looked at; looking at each step would stall a GPU."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.losses: list[Tensor] = []
        self.norm: Tensor | None = None

    def add(self, step: int, loss: Tensor, norm: Tensor | None) -> None:
        self.steps.append(step)
        self.losses.append(loss)
        self.norm = norm

    def check(self) -> dict[str, float]:
        """Newest loss and gradient norm (means over ranks), after a look at all losses since the last check.

        Raises:
            MmsslError: naming the first step whose loss, or the step whose gradient, is not finite.
        """
        assert self.norm is not None
        values = distributed.mean(torch.stack([*self.losses, self.norm.float()])).tolist()
        *losses, norm = values
        for step, loss in zip(self.steps, losses, strict=True):
            if not math.isfinite(loss):
                raise MmsslError(
                    f"step {step}: the loss is {loss}; nothing was saved since the last checkpoint. "
                    "Lower optimizer.base_lr, lengthen warmup, set clip, or use precision: fp32"
                )
        step = self.steps[-1]
        if not math.isfinite(norm):
            raise MmsslError(
                f"step {step}: the gradient's norm is {norm}; nothing was saved since the last checkpoint. "
                "Lower optimizer.base_lr, set clip, or use precision: fp32"
            )
        self.steps, self.losses = [], []
        return {"loss": losses[-1], "grad_norm": norm}


@contextmanager
def closed_after(batches: Iterator[Batch]) -> Iterator[None]:
    """Stop a stream's workers however the block ends."""
    try:
        yield
    finally:
        close = getattr(batches, "close", None)
        if close is not None:
            close()
