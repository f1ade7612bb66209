"""BatchNorm over the batches of all ranks: SyncBN that also runs on CPU machines."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.functional import batch_norm

from mmssl.distributed import world_size
from mmssl.errors import MmsslError

Normalisation = Literal["local", "sync"]


class GlobalBatchNorm(nn.SyncBatchNorm):
    """BatchNorm whose training statistics come from the global batch; torch's own kernels on accelerators.

    State dict and result in one process are those of the BatchNorm it replaces.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            if self.training and self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            return batch_norm(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                self.training,
                self.momentum or 0.0,
                self.eps,
            )
        return super().forward(input) if input.is_cuda else self._on_cpu(input)

    def _on_cpu(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1] + [1] * (x.ndim - 2)
        wide = x if x.dtype == torch.float64 else x.float()
        count = x.numel() // x.shape[1] * world_size()
        mean = all_reduce(wide.sum(axes)) / count
        centred = wide - mean.view(shape)
        variance = all_reduce(centred.square().sum(axes)) / count
        with torch.no_grad():
            weight = self.momentum or 0.0
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.detach(), weight)
            self.running_var.lerp_(variance.detach() * count / max(count - 1, 1), weight)
        y = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)


_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def globalise(module: nn.Module) -> None:
    """Replace every BatchNorm inside ``module`` by a ``GlobalBatchNorm`` with the same state, in place.

    Raises:
        MmsslError: the backbone fuses BatchNorm with an activation, which cannot be replaced.
    """
    for name, child in module.named_children():
        if isinstance(child, _PLAIN) and type(child) in _PLAIN:
            norm = GlobalBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            if child.running_mean is not None:
                norm.to(child.running_mean.device, child.running_mean.dtype)
            norm.load_state_dict(child.state_dict())
            norm.requires_grad_(any(p.requires_grad for p in child.parameters()))
            setattr(module, name, norm)
        elif isinstance(child, nn.modules.batchnorm._BatchNorm) and not isinstance(child, GlobalBatchNorm):
            raise MmsslError(f"batch_norm: {type(child).__name__} cannot be synchronised; expected 'local'")
        else:
            globalise(child)
