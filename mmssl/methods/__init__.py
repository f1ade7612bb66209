"""All methods by name. A method is one file; the name in a recipe is enough to find it."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmssl.config import parse
from mmssl.errors import MmsslError
from mmssl.methods.base import DataInfo, Method, MethodConfig
from mmssl.methods.image.cpc import CPCImage
from mmssl.methods.image.mae import MAE
from mmssl.methods.image.moco import MoCoV1, MoCoV2
from mmssl.methods.image.moco_v3 import MoCoV3
from mmssl.methods.image.simclr import SimCLR
from mmssl.methods.language.bert import BERT
from mmssl.methods.language.clip import CLIP
from mmssl.methods.language.distil import Distil
from mmssl.methods.language.ms_clip import MSCLIP
from mmssl.methods.language.siglip import SigLIP
from mmssl.methods.multiview.cmc import CMC
from mmssl.methods.multiview.coclr import CoCLR
from mmssl.methods.multiview.crd import CRD
from mmssl.methods.multiview.cross_view import CrossView
from mmssl.methods.temporal.cpc import CPC
from mmssl.methods.temporal.dpc import DPC
from mmssl.methods.temporal.order import Order
from mmssl.methods.temporal.tcn import TCN
from mmssl.methods.temporal.video_mae import VideoMAE
from mmssl.methods.tracking.crw import CRW
from mmssl.methods.tracking.ludt import LUDT
from mmssl.methods.tracking.udt import UDT
from mmssl.models.encoder import encoder_configs

METHODS: dict[str, type[Method]] = {
    "simclr": SimCLR,
    "moco_v1": MoCoV1,
    "moco_v2": MoCoV2,
    "moco_v3": MoCoV3,
    "mae": MAE,
    "clip": CLIP,
    "siglip": SigLIP,
    "ms_clip": MSCLIP,
    "distil": Distil,
    "cmc": CMC,
    "crd": CRD,
    "coclr": CoCLR,
    "cross_view": CrossView,
    "tcn": TCN,
    "cpc": CPC,
    "dpc": DPC,
    "cpc_image": CPCImage,
    "order": Order,
    "video_mae": VideoMAE,
    "crw": CRW,
    "bert": BERT,
    "udt": UDT,
    "ludt": LUDT,
}


def parse_method(data: Mapping[str, Any], source: Path | str = "", at: str = "") -> MethodConfig:
    """Validate a method's settings; ``data["name"]`` selects the method, ``at`` locates them in ``source``.

    Raises:
        MmsslError: an unknown method or key, or a value of the wrong type; says where and what was expected.
    """
    name = data.get("name")
    if name not in METHODS:
        close = get_close_matches(str(name), METHODS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        where = f"{at}.name" if at else "name"
        raise MmsslError(f"{source}: {where}: expected one of {', '.join(METHODS)}, found {name!r}{hint}")
    return parse(METHODS[name].Config, data, source, at)


def build_method(config: Mapping[str, Any] | MethodConfig, data: DataInfo, source: Path | str = "") -> Method:
    """Build a method, its encoders included.

    Raises:
        MmsslError: as ``parse_method``; or a backbone, stem or weights that do not fit; or the data lacks a
            field that the method's views read; or an encoder is to see what the method does not show.
    """
    if not isinstance(config, MethodConfig):
        config = parse_method(config, source)
    for key, encoder in encoder_configs(config, "method"):
        sees = getattr(encoder, "sees", "rgb")
        if sees != "rgb" and not METHODS[config.name].any_sight:
            raise MmsslError(
                f"{key}.sees: {config.name} shows its encoders rgb, found {sees!r}; "
                f"expected one of {', '.join(name for name in METHODS if METHODS[name].any_sight)} for that"
            )
    method = METHODS[config.name](config, data)
    wanted = {field for view in method.views.values() for field in view.fields}
    if not wanted <= data.fields:
        missing = ", ".join(sorted(wanted - data.fields))
        raise MmsslError(f"{config.name}: the data has no {missing}; it has {', '.join(sorted(data.fields))}")
    return method
