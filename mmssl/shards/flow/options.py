"""Whether and how optical flow is computed while videos are built into shards."""

from typing import Any, Literal

from pydantic import Field, model_validator

from mmssl.config import Config
from mmssl.shards.flow.jpeg import LOWEST_QUALITY

PRESETS = {"dis": ("medium", "fast", "ultrafast"), "farneback": (None,), "raft": ("small", "large")}
"""Of each estimator, the default first."""


class FlowOptions(Config):
    """Flow from each stored frame to the one ``gap`` frames later, as the field ``flow`` of the sample."""

    estimator: Literal["dis", "farneback", "raft"] = "dis"
    """``dis``: Kroeger et al., ECCV 2016; ``farneback``: Farnebäck, SCIA 2003; ``raft``: Teed and Deng, ECCV
    2020, on the GPU if there is one, with weights that lie at hand."""
    preset: Literal["ultrafast", "fast", "medium", "small", "large"] | None = None
    """``dis``: medium, the default, fast or ultrafast; ``raft``: small, the default, or large."""
    weights: str | None = None
    """``raft``: file with torchvision's state dict (.pth or .safetensors)."""
    gap: int = Field(default=1, ge=1)
    """Stored frames from the first frame of a field to the second; flow is in pixels a gap."""
    short_side: int | None = Field(default=None, ge=16)
    """Reduce frames to this many pixels of their shorter side first: fields are smaller, and in their own
    pixels; null = the size of the stored frames."""
    backward: bool = False
    """Also store ``flow_backward``: from each frame to the one ``gap`` frames earlier."""
    consistency: bool = False
    """Mark as unknown what flow there and back does not bring home; costs a second estimate of each pair."""
    encoding: Literal["jpeg", "kitti"] = "jpeg"
    """``jpeg``: a scale for each frame, about 0.03 px off; ``kitti``: 16-bit PNG, exact to 1/128 px, five
    times larger and slower to read."""
    quality: int = Field(default=95, ge=LOWEST_QUALITY, le=100)
    """Of each JPEG (jpeg)."""

    @model_validator(mode="after")
    def _fits(self) -> "FlowOptions":
        presets = PRESETS[self.estimator]
        if self.preset is not None and self.preset not in presets:
            known = ", ".join(filter(None, presets)) or "none"
            raise ValueError(f"preset {self.preset} of {self.estimator}; expected one of: {known}")
        if (self.estimator == "raft") != (self.weights is not None):
            raise ValueError("weights belong to estimator raft, which needs them: a file with a state dict")
        return self

    @property
    def chosen(self) -> str | None:
        """The preset in use."""
        return self.preset or PRESETS[self.estimator][0]

    def about(self, width: int, height: int) -> dict[str, Any]:
        """``meta.flow`` of fields of this size: what made them, and how they are to be read."""
        return {
            "estimator": self.estimator,
            "preset": self.chosen,
            "gap": self.gap,
            "width": width,
            "height": height,
            "consistency": self.consistency,
            "encoding": self.encoding,
        }
