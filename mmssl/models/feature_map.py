"""The feature map that trackers and label propagation look at: of any stage of what sees single frames."""

from torch import Tensor, nn

from mmssl.errors import MmsslError
from mmssl.models.artifact import AnyEncoder
from mmssl.models.encoder import Encoder
from mmssl.models.text import TextEncoder


class FeatureMap(nn.Module):
    """Images (B, 3, H, W) float, normalised as the encoder wants, to (B, C, h, w).

    Args:
        encoder: any image encoder.
        stage: the backbone's stage by timm's count (0 is a ResNet's stem, 1 its ``layer1``; of a transformer,
            a block); None is the last one.

    Raises:
        MmsslError: the backbone has no such stage, or gives none of its stages.
    """

    def __init__(self, encoder: Encoder, stage: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.stage = stage
        if stage is not None:
            _check(encoder, stage)

    def forward(self, x: Tensor) -> Tensor:
        if self.stage is None:
            return self.encoder.feature_map(x)
        backbone = self.encoder.backbone
        maps: list[Tensor] = backbone.forward_intermediates(  # type: ignore[operator]
            x, indices=[self.stage], intermediates_only=True, stop_early=True
        )
        return maps[0]


def frame_encoder(encoder: AnyEncoder, where: str) -> Encoder:
    """What sees single frames: an encoder of images, or the one inside an encoder of clips (CPC's, TCN's).

    Args:
        where: it was named, for messages.

    Raises:
        MmsslError: an encoder of texts, or one of clips that sees several frames at once.
    """
    if isinstance(encoder, Encoder):
        return encoder
    if isinstance(encoder, TextEncoder):
        found = "texts"
    elif (inside := encoder.frame_encoder) is not None:
        return inside
    else:
        found = f"clips ({encoder.config.kind}) as a whole"
    raise MmsslError(
        f"{where}: expected an encoder of images, or of a clip's single frames; found one of {found}"
    )


def _check(encoder: Encoder, stage: int) -> None:
    backbone, name = encoder.backbone, encoder.config.name
    if not hasattr(backbone, "forward_intermediates"):
        raise MmsslError(f"stage: {name} gives no feature maps of single stages; expected none")
    stages = len(getattr(backbone, "blocks", ())) or len(getattr(backbone, "feature_info", ()))
    if not 0 <= stage < stages:
        raise MmsslError(f"stage: {name} has stages 0 to {stages - 1}, found {stage}")
