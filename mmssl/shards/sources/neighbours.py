"""Optical flow from a frame to its neighbours, for sequences that are stored frame by frame."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from mmssl.shards import encode
from mmssl.shards.flow import FlowOptions, estimate_flow
from mmssl.shards.sources.base import BadInput
from mmssl.shards.sources.depth import pixels_of


def neighbour_flow(
    options: FlowOptions, image: bytes, neighbours: Mapping[str, bytes]
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Members ``flow.jpg`` or ``flow.png``, and what ``meta.flow`` says of them; nothing without neighbours.

    Args:
        image: the frame as it is stored.
        neighbours: field (``flow``, ``flow_backward``) to the stored image that it leads to.

    Raises:
        BadInput: a neighbour of another size, or an estimate that is not finite.
    """
    members: dict[str, bytes] = {}
    about: dict[str, Any] = {}
    for field, other in neighbours.items():
        here, there = pixels_of(image), pixels_of(other)
        if here.shape != there.shape:
            raise BadInput(
                f"its neighbour has {there.shape[1]}×{there.shape[0]} pixels, it {here.shape[1]}×"
                f"{here.shape[0]}; expected one size in a sequence"
            )
        flow = _estimator(options)(here, there)
        if options.encoding == "jpeg":
            members[f"{field}.jpg"] = encode.flow_jpeg(flow, options.quality)
        else:
            members[f"{field}.png"] = encode.flow_png(flow)
        about = options.about(flow.shape[1], flow.shape[0])
    return members, about


@lru_cache(maxsize=2)
def _estimator(options: FlowOptions) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    # Both directions start here, towards different frames, so none of them is the other's way back.
    return estimate_flow(options.model_copy(update={"backward": False}))
