"""CLIP: Learning Transferable Visual Models From Natural Language Supervision (Radford et al., ICML 2021)."""

from typing import Literal

from torch import Tensor

from mmssl.losses.clip import Alignment, clip_loss
from mmssl.methods.language.towers import ImageText, ImageTextConfig


class CLIPConfig(ImageTextConfig):
    name: Literal["clip"] = "clip"


class CLIP(ImageText):
    """An image attracts its caption, every other caption of the global batch repels it; and the reverse.

    batch.image   see ``ImageText``; batch.text["same"] tells captions that are the same, which do not repel
    total         ½ (CE(s·I·Tᵀ) + CE(s·T·Iᵀ)), own pairs as targets, s = exp(``logit_scale``) ≤ 100 (figure 3)
    """

    Config = CLIPConfig
    config: CLIPConfig

    def align(self, image: Tensor, text: Tensor, keys: Tensor) -> Alignment:
        return clip_loss(image, text, self.logit_scale.exp(), keys)  # candidates cross ranks
