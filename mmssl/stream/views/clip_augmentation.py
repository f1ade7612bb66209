"""How the frames of a clip are changed: one crop and flip for all of them, colours for all or for each."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mmssl.stream.views.contrastive import ContrastiveAugmentation, Look
from mmssl.stream.views.draws import Draws


class ClipAugmentation(ContrastiveAugmentation):
    """One random crop and flip for all frames of a sample: between frames, nothing but time moves."""

    colour: Literal["clip", "frame"] = "clip"
    """One draw of jitter, grey, blur and solarisation for all frames of a sample, or one for each frame
    (which keeps a method from telling times apart by their colours)."""

    def changed(self, x: Tensor, draws: Draws, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
        """(B, T, 3, size, size) uint8 → float32 on the same device: colours, blur, solarisation, normalised.

        Contrast pulls each frame towards its own mean grey level, also where all frames share a draw.
        """
        frames = x.shape[1]
        out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        if self.colour == "clip":
            looks = Look.draw(draws, self).rows(np.repeat(np.arange(len(x)), frames))
            looks.apply(x.flatten(0, 1), mean, std, out.flatten(0, 1))
        else:
            for t in range(frames):
                Look.draw(draws.view(t), self).apply(x[:, t], mean, std, out[:, t])
        return out
