"""CLIP trains on tars that others published, without copying them."""

from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from captioned_stills import NET, TEXT

from mmssl.methods import DataInfo, build_method
from mmssl.methods.language.towers import ImageText
from mmssl.shards.encode import jpeg
from mmssl.shards.foreign import index_tars
from mmssl.stream.config import Source, StreamConfig
from mmssl.stream.loader import Stream

pytestmark = pytest.mark.usefixtures("one_thread")

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 40, 220), "white": (240, 240, 240)}
SAMPLES = 64


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Plain colours; half the captions in .txt, half in the JSON beside the image; every tenth has none."""
    generator = np.random.default_rng(0)
    with webdataset.TarWriter(str(tmp_path / "00000.tar")) as sink:
        for number in range(SAMPLES):
            name = list(COLOURS)[number % 4]
            pixels = np.array(COLOURS[name]) + generator.integers(-15, 15, (40, 40, 3))
            words = "" if number % 10 == 9 else f"something {name}"
            told = {"txt": words} if number % 2 else {"json": {"caption": words, "status": "success"}}
            image = jpeg(pixels.clip(0, 255).astype(np.uint8))
            sink.write({"__key__": f"{number:06d}", "jpg": image, **told})
    return tmp_path


def test_clip_learns_which_words_belong_to_an_image(tars: Path) -> None:
    manifest = index_tars([tars]).manifest
    assert manifest.built["captions"]["blank"] == SAMPLES // 10
    info = DataInfo(SAMPLES, frozenset(manifest.fields))
    torch.manual_seed(0)
    method = build_method({"name": "clip", "image": NET, "text": TEXT, "dim": 16}, info)
    assert isinstance(method, ImageText)
    config = StreamConfig(sources=(Source(shards=str(tars)),), workers=0, faults={"max_share": 0.2})
    stream = Stream(config, method.views, batch_size=16, seed=0)
    optimiser = torch.optim.AdamW(method.parameters(), 2e-3)
    method.train()
    said = set()
    keys = set()
    for batch in stream.batches(steps=30):
        loss = method(batch)
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        method.after_step(0.0)
        keys |= set(batch["key"])
        said |= {method.text.tokenizer.decode(row) for row in batch.text["tokens"].tolist()}
    assert said == {f"something {name}" for name in COLOURS}
    assert keys == {f"{number:06d}" for number in range(SAMPLES) if number % 10 < 9}
    assert stream.quarantine.faults > 0
    method.eval()
    with torch.no_grad():
        answers = method.pretext(batch)
    for answer in answers.values():
        assert answer.values.mean() > 0.95 > 0.5 > answer.chance
