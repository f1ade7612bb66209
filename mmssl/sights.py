"""What an encoder can be shown of a sample: modalities as they are stored, and views derived from them.

A *sight* is what Contrastive Multiview Coding calls a view (Tian et al., ECCV 2020): the lightness of an
image, its colours, the depth behind it. ``EncoderConfig.sees`` names one; ``mmssl.stream.views`` makes it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sight:
    """One kind of input, before it is normalised by ``(x - mean) / std``."""

    modality: str
    """What it is made of, and the sample's field unless the encoder's view names another."""
    mean: tuple[float, ...]
    """Default statistics, one a channel; a single one serves any number of channels."""
    std: tuple[float, ...]
    about: str
    """Channels, range, units."""

    @property
    def channels(self) -> int | None:
        """How many; None where the encoder's configuration has to say."""
        return len(self.mean) if self.modality not in ("flow", "segmentation") else None


SIGHTS: dict[str, Sight] = {
    "rgb": Sight("image", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "sRGB in 0..1"),
    "L": Sight("image", (50.0,), (25.0,), "CIE lightness L* of sRGB under D65, 0..100"),
    "ab": Sight("image", (0.0, 0.0), (20.0, 20.0), "CIE a* and b*, about -110..110"),
    "Y": Sight("image", (0.45,), (0.23,), "luma of ITU-R BT.601, 0..1"),
    "CbCr": Sight("image", (0.0, 0.0), (0.08, 0.08), "blue and red difference of BT.601, -0.5..0.5"),
    "O3": Sight("image", (0.78,), (0.38,), "intensity (R + G + B) / √3 of opponent colours, 0..√3"),
    "O12": Sight("image", (0.0, 0.0), (0.1, 0.1), "opponent colours (R - G) / √2, (R + G - 2B) / √6"),
    "depth": Sight(
        "depth",
        (0.7, 0.0),
        (0.7, 1.0),
        "natural logarithm of metres, its mean where missing; and 1 = known, 0 = missing",
    ),
    "normals": Sight(
        "normals",
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
        "unit vectors x right, y down, z forward; zeros where missing",
    ),
    "segmentation": Sight(
        "segmentation", (0.0,), (1.0,), "a channel for each class, 1 where a pixel is of it; 0 if ignored"
    ),
    "flow": Sight(
        "flow", (0.0,), (0.02,), "u, v of each field in turn, in sides of the view a gap; 0 where unknown"
    ),
}

LINEAR_TO_XYZ = tuple(
    tuple(share / sum(row) for share in row)
    for row in ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
)
"""Linear red, green, blue of sRGB to CIE X, Y, Z (IEC 61966-2-1), as shares of those of D65 white: greys
then have no colour."""
