"""Image-text tars as downloaders leave them: captions in .txt, in the JSON beside the image, or in both."""

import json
from pathlib import Path
from typing import Any

import pytest
import webdataset
from tiny_shards import picture

from mmssl.cli.shards import _decoder
from mmssl.shards.foreign import index_tars
from mmssl.shards.inspect import write_html
from mmssl.shards.local import LocalShards
from mmssl.shards.verify import verify
from mmssl.stream.config import Source, StreamConfig
from mmssl.stream.sample import Unreadable
from mmssl.stream.sources import Sources


def written(root: Path, samples: list[dict[str, Any]]) -> Path:
    root.mkdir(exist_ok=True)
    with webdataset.TarWriter(str(root / "00000.tar"), mtime=0) as sink:
        for number, members in enumerate(samples):
            sink.write({"__key__": f"{number:09d}", "jpg": picture(number), **members})
    return root


def described(caption: Any, **more: Any) -> dict[str, Any]:
    """What img2dataset writes: the caption, its source, and how the download went."""
    return {"caption": caption, "url": "http://x/a.jpg", "status": "success", **more}


def test_captions_in_texts_in_json_or_in_both(tmp_path: Path) -> None:
    root = written(
        tmp_path / "tars",
        [
            {"txt": "of the text", "json": described("of the JSON")},
            {"json": described("of the JSON alone")},
            {"json": described(["one", "two"])},
            {"txt": "text alone"},
            {"json": described(None)},
            {"json": {"url": "no caption here"}},
            {"txt": b"caf\xe9", "json": described("told twice")},
            {"txt": "", "json": described("")},
        ],
    )
    report = index_tars([root])
    assert report.manifest.fields["caption"] == 6 / 8
    assert report.manifest.built["captions"] == {
        "captions": 6, "blank": 1, "long": 0, "unreadable": 1, "shared": 0
    }  # fmt: skip
    assert verify(root) == []
    source = Source(shards=str(root))
    stream = Sources(StreamConfig(sources=(source,)), [source], ["image", "caption"])
    samples = [stream.sample(id_, 0) for id_ in range(8)]
    found = {sample.id: sample["caption"] for sample in samples if sample.id < 4}
    assert found == {0: ["of the text"], 1: ["of the JSON alone"], 2: ["one", "two"], 3: ["text alone"]}
    assert samples[1].meta["status"] == "success", "the JSON is the metadata as well"
    for id_, reason in {4: "absent", 5: "absent", 6: "UnicodeDecodeError", 7: "zero bytes"}.items():
        with pytest.raises(Unreadable, match=reason):
            samples[id_]["caption"]


def test_captions_within_json_are_verified_and_shown(tmp_path: Path) -> None:
    root = written(tmp_path / "tars", [{"json": described(f"a cat, {n}")} for n in range(3)])
    index_tars([root])
    assert verify(root, decode=_decoder()) == []
    write_html(root, tmp_path / "page.html")
    assert "<p>a cat, 2</p>" in (tmp_path / "page.html").read_text()
    data = bytearray((root / "00000.tar").read_bytes())
    at = data.index(b"a cat, 1")
    data[at] = ord("x")
    (root / "00000.tar").write_bytes(data)
    problems = {(problem.key, problem.field) for problem in verify(root)}
    assert problems == {("000000001", "caption"), ("000000001", "meta")}


def test_other_json_is_no_caption(tmp_path: Path) -> None:
    root = written(tmp_path / "tars", [{"json": {"boxes": [1]}}, {"json": json.dumps(described(3)).encode()}])
    assert set(index_tars([root]).manifest.fields) == {"image", "meta"}
    assert set(LocalShards(root).sample("train", 0).members) == {"image.jpg", "meta.json"}
