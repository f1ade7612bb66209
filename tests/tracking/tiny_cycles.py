"""Small UDTs and LUDTs, and batches of crops made on the spot."""

from typing import Any

import torch
from torch import Tensor

from mmssl.methods import DataInfo, build_method
from mmssl.methods.tracking.cycle import Cycle
from mmssl.models.correlation_filter import Band
from mmssl.stream.batch import Batch

DATA = DataInfo(samples=10, fields=frozenset({"video", "meta"}))


def tiny_cycle(name: str = "udt", size: int = 25, *, seed: int = 0, **settings: Any) -> Cycle:
    torch.manual_seed(seed)
    encoder = {"image_size": size, "kwargs": {"width": 6}} | settings.pop("encoder", {})
    method = build_method({"name": name, "encoder": encoder, **settings}, DATA)
    assert isinstance(method, Cycle)
    return method


def textures(count: int, size: int, seed: int = 0) -> Tensor:
    """(count, 3, size, size) smooth noise with the range of pixels less their mean."""
    noise = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    spectrum = torch.fft.rfft2(noise)
    down, right = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)
    smooth = torch.fft.irfft2(spectrum * (-60 * (down**2 + right**2)).exp(), s=(size, size))
    return 60 * smooth / smooth.std()


def batch_of(crops: Tensor) -> Batch:
    """Of crops (B, T, 3, size, size)."""
    return Batch(crops=crops, id=torch.arange(len(crops)))


def noisy(method: Cycle, count: int, seed: int = 0) -> Batch:
    """Each frame is the one before it, moved by up to 3 pixels, with noise."""
    size = method.config.encoder.image_size
    generator = torch.Generator().manual_seed(seed + 1)
    frames = [textures(count, size, seed)]
    for _ in range(method.search):
        by = torch.randint(-3, 4, (count, 2), generator=generator).tolist()
        moved = torch.stack([x.roll(tuple(s), (1, 2)) for x, s in zip(frames[-1], by, strict=True)])
        frames.append(moved + 10 * torch.randn(moved.shape, generator=generator))
    return batch_of(torch.stack(frames, dim=1))


def respond(band: Band, x: Tensor, z: Tensor, y: Tensor, lam: float) -> Tensor:
    """What the filter that answers maps ``x`` with the label ``y`` answers to ``z``."""
    fx, fz = band.spectrum(x), band.spectrum(z)
    return band.answer(band.fit(fx, band.spectrum_of_label(y), lam), fx, fz)
