"""Hand-made batches of aligned views, for methods that predict or distil: eight layouts, seen in two ways."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mmssl.methods import DataInfo, Method, build_method
from mmssl.stream.batch import Batch

SIZE, CLASSES = 16, 8
NET = {
    "name": "resnet18",
    "stem": "small_stride2",
    "image_size": SIZE,
    "kwargs": {"layers": [1, 1, 1, 1], "channels": [16, 16, 32, 32]},
}
FIELDS = frozenset({"image", "depth", "normals", "segmentation", "flow"})


def sees(sight: str, **settings: Any) -> dict[str, Any]:
    """A view: an encoder that sees ``sight``; ``optional`` and ``field`` are the view's own."""
    own = {key: settings.pop(key) for key in ("optional", "field") if key in settings}
    return {"encoder": {**NET, "sees": sight, **settings}, **own}


def built(config: dict[str, Any], samples: int = 256, fields: frozenset[str] = FIELDS) -> Method:
    torch.manual_seed(0)
    return build_method(config, DataInfo(samples, fields, FIELDS - fields))


def layouts(ids: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (n,), lightness (n, 1, S, S) and depth (n, 2, S, S) of samples, all of it a function of the id.

    Lightness shows the layout of a class, lit in a way that tells nothing, and noisy; depth the same layout
    without any of that.
    """
    pattern = torch.randn(CLASSES, 1, 4, 4, generator=torch.Generator().manual_seed(99))
    pattern = interpolate(pattern, size=SIZE, mode="bicubic")
    noise = torch.stack(
        [
            torch.randn(1, SIZE, SIZE, generator=torch.Generator().manual_seed(1000 * seed + int(i)))
            for i in ids
        ]
    )
    label = ids % CLASSES
    light = 1.5 * noise[:, :, :1, :1] + noise[:, :, 1:2, :1] * torch.linspace(-1, 1, SIZE)
    depth = torch.cat([pattern[label], torch.ones(len(ids), 1, SIZE, SIZE)], dim=1)
    return label, light + 0.7 * pattern[label] + 0.3 * noise, depth


def batch_of(ids: Tensor, views: dict[str, Tensor], present: Tensor | None = None) -> Batch:
    everyone = torch.ones(len(ids), len([name for name in views if "." not in name]), dtype=torch.bool)
    shown = {**views, "present": everyone if present is None else present}
    return Batch(
        views=shown, id=ids, pass_=torch.zeros_like(ids), key=[str(i) for i in ids.tolist()], label={}
    )
