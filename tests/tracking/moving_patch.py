"""Films of a textured patch that moves over a textured ground by known steps, and random features for it."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.models import dcfnet
from mmssl.models.encoder import EncoderConfig, build_encoder
from mmssl.models.feature_map import FeatureMap
from mmssl.tracking.boxes import Boxes, around

HEIGHT, WIDTH = 160, 200


def random_features(seed: int = 0) -> FeatureMap:
    """DCFNet with random weights: edges and colours in random mixtures."""
    torch.manual_seed(seed)
    return FeatureMap(build_encoder(EncoderConfig(name="dcfnet", image_size=125, std=dcfnet.PIXELS)))


def texture(seed: int, height: int, width: int, grain: float) -> NDArray[np.float32]:
    """(height, width, 3) smooth noise that fills 0..255."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, None, grain)
    return np.clip(128 + 50 * smooth / smooth.std(), 0, 255)


def film(
    centres: NDArray[np.float64], scales: NDArray[np.float64], size: float = 32, seed: int = 0
) -> list[Tensor]:
    """A frame (3, HEIGHT, WIDTH) uint8 for each centre (x, y) and scale of the patch, exact to sub-pixels."""
    ground = 80 + 0.4 * texture(seed, HEIGHT, WIDTH, 3)  # duller than the patch
    patch = texture(seed + 1000, 64, 64, 3)
    frames = []
    for (x, y), scale in zip(centres, scales, strict=True):
        step = scale * size / 64  # pixels of the frame a pixel of the patch
        place = np.array([[step, 0, x - 31.5 * step], [0, step, y - 31.5 * step]])
        moved = cv2.warpAffine(patch, place, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        mask = cv2.warpAffine(
            np.ones((64, 64, 1), np.float32), place, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR
        )
        pixels = mask[..., None] * moved + (1 - mask[..., None]) * ground
        frames.append(torch.from_numpy(np.rint(pixels).astype(np.uint8)).permute(2, 0, 1))
    return frames


def truth(centres: NDArray[np.float64], scales: NDArray[np.float64], size: float = 32) -> Boxes:
    return around(centres, np.repeat(scales[:, None] * size, 2, axis=1))
