"""What was cut out of a sample's fields, as the channels that an encoder takes: float32 and normalised."""

import torch
from torch import Tensor

from mmssl.modalities import IGNORED
from mmssl.stream.sample import Unreadable
from mmssl.stream.views.colour_spaces import colours
from mmssl.stream.views.shown import Shown


def refuse_unknown_classes(field: str, ids: Tensor, classes: int) -> None:
    """Class ids, of any shape, must be below the number of classes or ``IGNORED``.

    Raises:
        Unreadable: some are not; names the field.
    """
    beyond = ids[(ids >= classes) & (ids != IGNORED)]
    if len(beyond):
        raise Unreadable(
            field,
            f"class id {int(beyond.max())}; expected 0 … {classes - 1} of {classes} classes, or {IGNORED} = "
            "ignored",
        )


def channels(shown: Shown, x: Tensor) -> Tensor:
    """Pixels to channels, on any device.

    Args:
        x: (N, c, S, S) as ``geometry.cut`` gives: uint8 sRGB; metres, 0 = missing; unit normals, 0 = missing;
            uint8 class ids, 255 = ignored; pixels a gap, NaN = unknown (in a stack u, v of each field in
            turn).

    Returns:
        (N, C, S, S) float32, (channels - mean) / std, the channels in the units of ``mmssl.sights``.
    """
    modality = shown.modality
    mean, std = (torch.tensor(v, device=x.device).view(-1, 1, 1) for v in (shown.mean, shown.std))
    if modality == "image":
        return colours(shown.sees, x).sub_(mean).div_(std)
    if modality == "depth":
        known = x > 0
        log = torch.where(known, x, 1).log()
        return torch.cat([torch.where(known, log, mean[:1]), known.float()], 1).sub_(mean).div_(std)
    if modality == "segmentation":
        classes = torch.arange(shown.channels, dtype=torch.uint8, device=x.device).view(-1, 1, 1)
        return (x == classes).float().sub_(mean).div_(std)
    if modality == "flow":
        return torch.nan_to_num(x / x.shape[-1], nan=0.0).sub_(mean).div_(std)
    return x.sub(mean).div_(std)
