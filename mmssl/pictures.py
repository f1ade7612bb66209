"""Pictures of every modality for people: colours for what has none, and for what colours were split into.

Tensors in, tensors out; ``mmssl.modalities`` says what maps hold, ``mmssl.sights`` what encoders are shown.
"""

import math
from collections.abc import Mapping
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mmssl.modalities import IGNORED
from mmssl.sights import LINEAR_TO_XYZ, SIGHTS

_ABSENT = 0.5
"""The grey of a view that a sample lacks."""
_L_OF_AB = 65.0
"""Lightness at which colours without one are shown: most of them exist in sRGB there."""


class Seen(Protocol):
    """What a picture needs to know of a sight; ``stream.views.Shown`` is one."""

    @property
    def sees(self) -> str: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...


def flow_picture(flow: Tensor, longest: float | None = None) -> Tensor:
    """(2, H, W) pixels, NaN = unknown → (3, H, W) uint8: direction as hue, length as saturation.

    The colour wheel of Baker et al., "A Database and Evaluation Methodology for Optical Flow" (IJCV 2011):
    red to the right, yellow down, blue-green left, violet up; white is rest, black unknown.

    Args:
        longest: length that is shown in full colour; by default that of the longest vector.
    """
    known = flow.isfinite().all(0)
    u, v = torch.where(known, flow.double(), 0)
    length = torch.hypot(u, v)
    longest = float(length.max()) if longest is None else longest
    share = (length / max(longest, 1e-9)).clamp(max=1)
    wheel = _wheel()
    at = torch.atan2(v, u) / (2 * math.pi) % 1 * len(wheel)
    before = at.floor().long() % len(wheel)
    part = (at - at.floor())[..., None]
    hue = wheel[before] * (1 - part) + wheel[(before + 1) % len(wheel)] * part
    picture = (1 - share[..., None] * (1 - hue)) * known[..., None]
    return _to_bytes(picture.permute(2, 0, 1))


def _wheel() -> Tensor:
    """(55, 3) float64: six primary and secondary colours, between them the steps that eyes tell apart."""
    corners = [(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0)]
    steps = [15, 6, 4, 11, 13, 6]
    points = np.concatenate([[0], np.cumsum(steps)])
    places = np.arange(points[-1])
    return torch.from_numpy(
        np.stack([np.interp(places, points, [corner[c] for corner in corners]) for c in range(3)], axis=1)
    )


def depth_picture(depth: Tensor) -> Tensor:
    """(1, H, W) metres, 0 = missing → (3, H, W) uint8: from blue = far to red = near, black = missing.

    The colours are spread over inverse depth, from its first to its 99th percentile.
    """
    metres = depth[0].double().numpy()
    known = metres > 0
    if not known.any():
        return torch.zeros(3, *metres.shape, dtype=torch.uint8)
    nearness = 1 / np.where(known, metres, 1)
    far, near = np.percentile(nearness[known], (1, 99))
    share = np.clip((nearness - far) / (near - far), 0, 1) if near > far else np.full_like(nearness, 0.5)
    coloured = np.asarray(cv2.applyColorMap(np.rint(255 * share).astype(np.uint8), cv2.COLORMAP_TURBO))
    coloured[~known] = 0
    return torch.from_numpy(np.ascontiguousarray(coloured[..., ::-1])).permute(2, 0, 1)


def normals_picture(normals: Tensor) -> Tensor:
    """(3, H, W) unit vectors x right, y down, z forward; 0 = missing → (3, H, W) uint8, black = missing.

    As normal maps are usually shown: red to the right, green up, blue towards the viewer.
    """
    known = (normals != 0).any(0)
    turned = normals * normals.new_tensor([1, -1, -1]).view(3, 1, 1)
    return _to_bytes((turned + 1) / 2 * known)


def segmentation_picture(ids: Tensor) -> Tensor:
    """(1, H, W) uint8 ids → (3, H, W) uint8: 0 black, 255 = ignored light grey, others in fixed colours."""
    return _palette()[ids[0].long()].permute(2, 0, 1)


def _palette() -> Tensor:
    """(256, 3) uint8: hues a golden ratio apart, those of each round darker than the ones before."""
    ids = np.arange(256)
    hue, brightness = ids * 0.618034 * 180 % 180, 240 - 50 * (ids // 13 % 3)
    colours = np.dstack([hue, 200 - ids // 39 * 20, brightness]).astype(np.uint8)
    palette = np.asarray(cv2.cvtColor(colours, cv2.COLOR_HSV2RGB))[0]
    palette[0], palette[IGNORED] = 0, 224
    return torch.from_numpy(palette)


def sight_picture(shown: Seen, x: Tensor) -> Tensor:
    """What an encoder was shown, for people.

    Lightness, luma and intensity are grey; colours without lightness have a middle one; depth, normals,
    classes and flow look as in the functions above, each picture on its own scale; of a stack of flow it is
    the first field, of a clip the frame in the middle.

    Args:
        shown: which sight, and the statistics it was normalised with.
        x: (B, C, S, S) or of clips (B, T, C, S, S).

    Returns:
        (B, 3, S, S) float32 in 0..1 on the CPU.
    """
    x = x.detach().float().cpu()
    if x.ndim == 5:
        x = x[:, x.shape[1] // 2]
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (shown.mean, shown.std))
    x = x * std + mean
    if SIGHTS[shown.sees].modality == "image":
        return _colours(shown.sees, x).clamp(0, 1)
    return torch.stack([_map(shown.sees, one) for one in x]).float() / 255


def side_by_side(shown: Mapping[str, Seen], entry: Mapping[str, Tensor]) -> Tensor:
    """The sights of each sample beside one another: (N, 3, S, S · V) float32 in 0..1.

    Args:
        shown: name to sight, in order.
        entry: what ``AlignedViews`` or ``AlignedClips`` made: name to (N, …) and ``present`` (N, V); where
            sights differ in size, all are shown in the largest; absent ones are grey.
    """
    pictures = [sight_picture(sight, entry[name]) for name, sight in shown.items()]
    size = max(picture.shape[-1] for picture in pictures)
    for number, picture in enumerate(pictures):
        grown = interpolate(picture, (size, size))
        present = entry["present"][:, number].cpu()
        pictures[number] = torch.where(present[:, None, None, None], grown, _ABSENT)
    return torch.cat(pictures, dim=3)


def _map(sees: str, x: Tensor) -> Tensor:
    """(3, S, S) uint8 of one (C, S, S) that is not normalised."""
    if sees == "depth":
        return depth_picture(torch.where(x[1:] > 0.5, x[:1].exp(), 0))
    if sees == "normals":
        return normals_picture(x)
    if sees == "segmentation":
        ids = torch.where(x.sum(0) > 0.5, x.argmax(0), IGNORED)
        return segmentation_picture(ids[None])
    return flow_picture(x[:2])


def _colours(sees: str, x: Tensor) -> Tensor:
    """(B, 3, S, S) sRGB, not clamped, of channels in the units of ``mmssl.sights``."""
    if sees == "rgb":
        return x
    if sees in ("L", "ab"):
        lightness = x if sees == "L" else torch.full_like(x[:, :1], _L_OF_AB)
        a, b = x.unbind(1) if sees == "ab" else (torch.zeros_like(x[:, 0]),) * 2
        return _lab_to_srgb(lightness[:, 0], a, b)
    if sees == "CbCr":
        cb, cr = x.unbind(1)
        red, blue = 0.5 + 1.402 * cr, 0.5 + 1.772 * cb
        return torch.stack([red, (0.5 - 0.299 * red - 0.114 * blue) / 0.587, blue], 1)
    if sees == "O12":
        first, second = x.unbind(1)
        grey = 0.5 + second / math.sqrt(6)
        return torch.stack(
            [grey + first / math.sqrt(2), grey - first / math.sqrt(2), 0.5 - second * math.sqrt(2 / 3)], 1
        )
    return (x / math.sqrt(3) if sees == "O3" else x).expand(-1, 3, -1, -1)


def _lab_to_srgb(lightness: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """(B, S, S) each, under D65, to (B, 3, S, S); outside 0..1 where sRGB has no such colour."""
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], 1)
    share = torch.where(f > 6 / 29, f**3, (f - 4 / 29) * (108 / 841))
    linear = torch.einsum("cd,ndhw->nchw", _TO_LINEAR, share)
    return torch.where(linear > 0.0031308, 1.055 * linear.clamp(min=0) ** (1 / 2.4) - 0.055, linear * 12.92)


_TO_LINEAR = torch.from_numpy(np.linalg.inv(LINEAR_TO_XYZ)).float()


def _to_bytes(share: Tensor) -> Tensor:
    return (share.clamp(0, 1) * 255).round().to(torch.uint8)
