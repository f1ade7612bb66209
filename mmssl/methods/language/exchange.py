"""A trained method of images and texts as a pair that other libraries load."""

from pathlib import Path

from mmssl import files
from mmssl.errors import MmsslError
from mmssl.methods.artifact import load_method
from mmssl.methods.base import Method
from mmssl.methods.language.towers import ImageText
from mmssl.models.artifact import DESCRIPTION_FILE
from mmssl.models.encoder import Encoder
from mmssl.models.interchange import Pair, export_pair
from mmssl.models.text import TextEncoder


def export_method(stage: Path | str, out: Path | str, format: str) -> Path:
    """Write the whole CLIP or SigLIP that a train stage left in its folder to ``out``; return it.

    Raises:
        MmsslError: no whole method in ``stage``, another one, or towers that the format has no place for.
    """
    stage = Path(stage)
    method = load_method(stage)
    if method is None:
        raise MmsslError(f"{stage}: no method.json; expected the folder of a train stage of clip or siglip")
    about = stage / "encoders" / "image" / DESCRIPTION_FILE
    provenance = {}
    if about.is_file():
        provenance = files.read_json(about, "an encoder's description").get("provenance", {})
    return export_pair(pair_of(method, provenance), out, format)


def pair_of(method: Method, provenance: dict[str, object] | None = None) -> Pair:
    """The towers and heads of a method.

    Raises:
        MmsslError: it has none, or its image tower takes clips.
    """
    if not isinstance(method, ImageText):
        raise MmsslError(f"export: {method.config.name} has no image and text tower; expected clip or siglip")
    if not isinstance(method.image, Encoder) or not isinstance(method.text, TextEncoder):
        kind = getattr(method.config.image, "kind", "shared")
        raise MmsslError(
            f"export: {method.config.name} has a {kind} tower; open_clip and transformers know an image "
            "and a text encoder only"
        )
    bias = getattr(method, "logit_bias", None)
    return Pair(
        method.image,
        method.text,
        method.image_head.weight.detach(),
        method.text_head.weight.detach(),
        float(method.logit_scale),
        None if bias is None else float(bias),
        dict(provenance or {}),
    )
