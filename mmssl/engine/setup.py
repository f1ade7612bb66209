"""The machine's side of a run: processes, device, precision, seeds, and the method made ready for them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from mmssl import distributed
from mmssl.engine.config import TrainConfig
from mmssl.errors import MmsslError
from mmssl.methods.base import Method, TwoPart
from mmssl.models.layout import channels_last
from mmssl.stream.batch import Batch

Precision = Literal["fp32", "bf16"]


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other ranks when started by torchrun; do nothing in a single process or inside another group.

    CPU tensors travel over gloo, CUDA tensors over NCCL.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_distributed():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(distributed.local_rank())
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def pick_device() -> torch.device:
    """This rank's GPU, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", distributed.local_rank())
    return torch.device("cpu")


def pick_precision(
    wanted: Literal["auto", "fp32", "bf16"], device: torch.device, method: nn.Module
) -> Precision:
    """What "auto" means here: bf16 if the device multiplies bf16 matrices natively, fp32 otherwise.

    On a CPU, networks with convolutions over time stay in fp32: the bf16 gradient of 3×1×1 kernels reads
    memory that was never set (torch 2.15), and is infinite or, worse, wrong now and then.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cpu" and any(isinstance(part, nn.Conv3d) for part in method.modules()):
        return "fp32"
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        # private names, so absent on builds for other architectures
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        native = any(getattr(torch.cpu, check, lambda: False)() for check in checks)
    return "bf16" if native else "fp32"


def prepare(method: Method, config: TrainConfig, device: torch.device) -> nn.Module:
    """Move the method to the device, in the layout its layers like, and wrap it for several ranks.

    The method itself stays the owner of all state; what is returned is only for calling. DDP leaves buffers
    alone: queues are already equal on all ranks, and whether batch statistics are each rank's own or
    synchronised is the method's declared choice. With ``cached``, calling it is calling ``method.embed``.

    Raises:
        MmsslError: the batch does not divide by ranks and micro-batches; or ``cached``, and the method does
            not say what enters its loss.
    """
    if config.cached and not isinstance(method, TwoPart):
        raise MmsslError(
            f"train.cached: {type(method).__name__} does not tell embeddings from loss; "
            "expected a method with embed and loss_of, or cached: false"
        )
    world = distributed.world_size()
    if config.batch_size % (world * config.accumulate):
        raise MmsslError(
            f"train.batch_size: {config.batch_size} does not divide by {world} ranks × "
            f"{config.accumulate} micro-batches; expected a multiple of {world * config.accumulate}"
        )
    method.to(device)
    if sum(isinstance(module, nn.Conv2d | nn.Conv3d) for module in method.modules()) > 1:
        channels_last(method)
    method.train()
    if config.compile:
        method.compile()
    model = Embeds(method) if config.cached else method
    if world == 1:
        return model
    return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)


class Embeds(nn.Module):
    """A method called for its embeddings; gradients of them reach all of its parameters."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(self.method, TwoPart)
        return self.method.embed(batch)


def describe_hardware(device: torch.device, precision: Precision) -> dict[str, Any]:
    """For the provenance of what a run leaves behind."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"device": name, "ranks": distributed.world_size(), "precision": precision}


def share_state(method: nn.Module) -> None:
    """Start every rank from rank 0's parameters and buffers (DDP without buffer sync skips the latter)."""
    distributed.broadcast(method.state_dict().values())


def average_statistics(method: nn.Module) -> None:
    """Replace running means and variances of batch norms by their average over ranks.

    They are not used while training; what a checkpoint or an encoder carries should not be one rank's view.
    """
    if distributed.world_size() == 1:
        return
    for module in method.modules():
        if isinstance(module, _BatchNorm):
            for statistic in (module.running_mean, module.running_var):
                if statistic is not None:
                    statistic.copy_(distributed.mean(statistic))


def check_ranks_agree(method: nn.Module, step: int) -> None:
    """Compare a checksum of the whole state over ranks (exact: a sum of bit patterns, in any order).

    Raises:
        MmsslError: naming the entries whose values differ between ranks.
    """
    if distributed.world_size() == 1:
        return
    state = method.state_dict()
    # a sharded memory bank's state lies in host memory, all else on the device
    sums = torch.stack([_checksum(value).cpu() for value in state.values()])
    everyone = distributed.gather(sums[None], gradient=False)
    differs = (everyone != everyone[:1]).any(dim=0).tolist()
    if any(differs):
        names = [name for name, bad in zip(state, differs, strict=True) if bad]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise MmsslError(f"step {step}: ranks disagree on {', '.join(names[:5])}{more}; nothing was saved")


def _checksum(x: torch.Tensor) -> torch.Tensor:
    x = x.detach().contiguous().view(-1)
    return x.view(torch.uint8).sum(dtype=torch.int64) if x.numel() else torch.zeros((), dtype=torch.int64)
