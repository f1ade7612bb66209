"""What the contrastive image methods share: an encoder, two augmented views, and how both are configured."""

from collections.abc import Sequence

from mmssl.methods.base import MethodConfig
from mmssl.modalities import modality_of
from mmssl.models.encoder import EncoderConfig
from mmssl.stream.views.contrastive import ContrastiveAugmentation, ContrastiveViews
from mmssl.stream.views.frame_views import FrameViews


class ContrastiveConfig(MethodConfig):
    encoder: EncoderConfig = EncoderConfig()
    field: str = "image"
    """Which field is seen; of a video one frame, another in every pass."""
    augmentation: ContrastiveAugmentation = ContrastiveAugmentation.simclr()
    """Of both views; what a recipe leaves out keeps the value of the method's paper."""


def two_views(
    encoder: EncoderConfig, augmentations: Sequence[ContrastiveAugmentation], field: str = "image"
) -> dict[str, ContrastiveViews]:
    """``batch.image``: (B, V, 3, S, S) float32, one view for each augmentation."""
    kind = FrameViews if modality_of(field).name == "video" else ContrastiveViews
    return {"image": kind(encoder.image_size, augmentations, encoder.mean, encoder.std, field)}
