"""Still samples with every modality, and what encoders are shown of them, for the tests of aligned views."""

from collections.abc import Mapping

import numpy as np

from mmssl.models.encoder import EncoderConfig
from mmssl.shards import encode
from mmssl.stream.sample import Sample
from mmssl.stream.views.aligned import AlignedViews
from mmssl.stream.views.shown import Shown, field_of

CLASSES = 6
EVERY = ("rgb", "L", "ab", "Y", "CbCr", "O3", "O12", "depth", "normals", "segmentation", "flow")


def sight(sees: str, size: int = 24, *, optional: bool = False, field: str | None = None) -> Shown:
    """A sight of a still sample with the statistics that encoders have by default."""
    config = EncoderConfig(sees=sees, image_size=size, channels=CLASSES if sees == "segmentation" else None)
    assert config.channels is not None
    return Shown(
        sees, field or field_of(sees, video=False), size, config.channels, config.mean, config.std,
        optional=optional,
    )  # fmt: skip


def arrays(height: int, width: int, seed: int = 0) -> dict[str, np.ndarray]:
    """What a sample shows before it is encoded: every pixel of every modality says where it is.

    With x and y in 0..1: red = x, green = y, depth = 1 + 4x + 2y, flow = (60x - 30, 60y - 30), the class the
    sixth of the width, and normals that turn with x.
    """
    y, x = (np.mgrid[:height, :width] + 0.5) / np.array([height, width])[:, None, None]
    turn = (x - 0.5) * 2
    blue = np.random.default_rng(seed).integers(0, 256)
    return {
        "image": np.rint(np.dstack([255 * x, 255 * y, np.full_like(x, blue)])).astype(np.uint8),
        "depth": 1 + 4 * x + 2 * y,
        "normals": np.dstack([np.sin(turn), np.zeros_like(x), -np.cos(turn)]),
        "segmentation": (x * CLASSES).astype(np.uint8),
        "flow": np.dstack([60 * x - 30, 60 * y - 30]),
    }


ENCODERS = {
    "image": encode.png, "depth": encode.depth_png, "normals": encode.normals_png,
    "segmentation": encode.segmentation_png, "flow": encode.flow_png,
}  # fmt: skip


def sample_of(pictures: Mapping[str, np.ndarray], id_: int = 0, pass_: int = 0) -> Sample:
    """The modality of a field is its name up to the underscore."""
    members = {field: ("png", ENCODERS[field.split("_")[0]](x)) for field, x in pictures.items()}
    return Sample(id_, f"k{id_}", "s", pass_, members)


def batch_of(view: AlignedViews, samples: list[Sample], make_draws) -> dict:
    """What a method sees of the samples."""
    ids, passes = [sample.id for sample in samples], np.array([sample.pass_ for sample in samples])
    items = [view.read(sample, make_draws([sample.id], sample.pass_, name="views")) for sample in samples]
    draws = make_draws(ids, passes, name="views")
    return view.finish(view.prepare(items, draws), draws)
