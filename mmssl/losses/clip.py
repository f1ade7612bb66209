"""Images against their captions: the softmax loss of CLIP and the sigmoid loss of SigLIP, on open_clip's.

Both take unit vectors (b, d) of this rank, compare them with those of all ranks, compute in float32 even
under autocast, and are averages over this rank's rows: their mean over ranks, which DDP differentiates, is
the loss of the whole batch. Of open_clip's ways to gather, only one with exact gradients is used (local rows,
gathered with gradient); others scale the encoders' gradient down by the number of ranks, or get it wrong.

``keys`` (b, k) int64 says which samples are alike, namely those that agree in any of the k numbers. The image
of one and the caption of another that is alike are left out of the loss: they are no negative pair.
"""

from typing import NamedTuple

import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from mmssl.distributed import gather, rank, world_size


class Alignment(NamedTuple):
    """A loss between images and texts, and detached scalars that are worth watching beside it."""

    loss: Tensor
    image_to_text: Tensor
    """Share of this rank's images whose own caption is the nearest of the global batch, 0..1."""
    text_to_image: Tensor
    """Share of this rank's captions whose own image is the nearest."""
    duplicates: Tensor
    """Other samples of the global batch that are alike, and so are no negatives, for each sample."""

    def parts(self) -> dict[str, Tensor]:
        """What a method logs."""
        return {name: value for name, value in self._asdict().items() if name != "loss"}


def clip_loss(image: Tensor, text: Tensor, scale: Tensor, keys: Tensor) -> Alignment:
    """L = ½ (CE of s·I·Tᵀ by rows + CE by columns), own pairs as targets (Radford et al. 2021, figure 3).

    Args:
        image, text: (b, d) unit vectors; row i of both is one sample.
        scale: s, scalar, positive.
        keys: (b, k) int64, see above.
    """
    exact = ClipLoss(local_loss=True, gather_with_grad=True, rank=rank(), world_size=world_size())
    with torch.autocast(image.device.type, enabled=False):
        by_image, by_text = exact.get_logits(_full(image), _full(text), scale)
        own = exact.get_ground_truth(image.device, len(image))
        alike = _others_alike(keys, own)
        by_image, by_text = by_image.masked_fill(alike, -torch.inf), by_text.masked_fill(alike, -torch.inf)
        loss = (cross_entropy(by_image, own) + cross_entropy(by_text, own)) / 2
        return Alignment(loss, _right(by_image, own), _right(by_text, own), _count(alike))


def siglip_loss(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, keys: Tensor) -> Alignment:
    """L = −1/b Σ_ij log σ(z_ij (s·I_i·T_j + β)), z_ij = 1 for own pairs, −1 for all others.

    Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", equation 1. Arguments as ``clip_loss``;
    ``bias`` is β, scalar.
    """
    sigmoid = SigLipLoss()
    with torch.autocast(image.device.type, enabled=False):
        image, text = _full(image), _full(text)
        logits = sigmoid.get_logits(image, gather(text), scale, bias)
        own = torch.arange(len(image), device=image.device) + rank() * len(image)
        alike = _others_alike(keys, own)
        z = torch.full_like(logits, -1.0).scatter(1, own[:, None], 1.0)
        loss = -logsigmoid(z * logits).masked_fill(alike, 0.0).sum() / len(image)
        with torch.no_grad():
            by_image = logits.masked_fill(alike, -torch.inf)
            by_text = (text @ gather(image, gradient=False).T).masked_fill(alike, -torch.inf)
        return Alignment(loss, _right(by_image, own), _right(by_text, own), _count(alike))


def _others_alike(keys: Tensor, own: Tensor) -> Tensor:
    """(b, world·b) bool: samples that agree with the row's in one of the keys, without the row's own."""
    everyone = gather(keys, gradient=False)
    alike = (keys[:, None] == everyone).any(dim=-1)
    return alike.scatter(1, own[:, None], False)


def _right(logits: Tensor, own: Tensor) -> Tensor:
    return (logits.detach().argmax(dim=1) == own).float().mean()


def _count(alike: Tensor) -> Tensor:
    return alike.sum(dim=1).float().mean()


def _full(x: Tensor) -> Tensor:
    """float32 at least; float64 stays, for gradient checks."""
    return x if x.dtype == torch.float64 else x.float()
