"""Raw sets with captions, each as its authors publish it, and captions that cannot be used."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from tiny_shards import Build, pack, picture, put

from mmssl.errors import MmsslError
from mmssl.shards.bad_input import BadInput
from mmssl.shards.captions import LONGEST, caption_facts, caption_member, read_captions
from mmssl.shards.encode import h264
from mmssl.shards.foreign import index_tars
from mmssl.shards.inspect import summary
from mmssl.shards.manifest import load_manifest
from mmssl.shards.recipe import load_recipe
from mmssl.shards.sources.rows import read_table
from mmssl.shards.writer import RawSample, write_shard

RECIPES = Path(__file__).parents[2] / "shards"


def captions(samples: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    return {key: members["caption.json"] for key, members in samples.items()}


def dump(content: Any) -> bytes:
    return json.dumps(content).encode()


def test_flickr8k_as_published(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "".join(
        f"{name}.jpg#{number}\t{name} says , {number} .\n" for name in "abcd" for number in range(5)
    )
    raw = {"Flickr8k.token.txt": token + "e.jpg.1#0\ta name that no list has\n"}
    for split, names in {"train": "ca", "dev": "b", "test": "d"}.items():
        raw[f"Flickr_8k.{split}Images.txt"] = "".join(f"{name}.jpg\n" for name in names)
    for number, name in enumerate("abcd"):
        raw[f"Flicker8k_Dataset/{name}.jpg"] = picture(number)
    monkeypatch.setenv("FLICKR8K", str(put(tmp_path / "raw", raw)))
    recipe = load_recipe(RECIPES / "flickr8k.yaml")
    manifest, splits = build(**recipe.source.model_dump())
    assert {name: set(samples) for name, samples in splits.items()} == {
        "train": {"a", "c"}, "val": {"b"}, "test": {"d"}
    }  # fmt: skip
    assert captions(splits["val"])["b"] == [f"b says , {number} ." for number in range(5)]
    assert manifest.built["captions"] == {"captions": 20, "blank": 0, "long": 0, "unreadable": 0, "shared": 0}


def test_flickr30k_in_karpathys_splits(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(name: str, split: str) -> dict[str, Any]:
        sentences = [{"raw": f"{name} {n}", "tokens": [], "sentid": n} for n in range(5)]
        return {"filename": f"{name}.jpg", "split": split, "sentences": sentences, "imgid": 0}

    images = [entry("a", "train"), entry("b", "val"), entry("c", "test"), entry("d", "train")]
    raw: dict[str, Any] = {"dataset_flickr30k.json": dump({"images": images, "dataset": "flickr30k"})}
    raw |= {f"flickr30k-images/{name}.jpg": picture(n) for n, name in enumerate("abcd")}
    monkeypatch.setenv("FLICKR30K", str(put(tmp_path / "raw", raw)))
    _, splits = build(**load_recipe(RECIPES / "flickr30k.yaml").source.model_dump())
    assert {name: set(samples) for name, samples in splits.items()} == {
        "train": {"a", "d"}, "val": {"b"}, "test": {"c"}
    }  # fmt: skip
    assert captions(splits["test"])["c"] == ["c 0", "c 1", "c 2", "c 3", "c 4"]


def test_flickr30ks_csv_with_bars(tmp_path: Path) -> None:
    text = 'image_name| comment_number| comment\na.jpg| 0| A "big" dog, asleep .\nb.jpg| 4   no bar here\n'
    raw = put(tmp_path, {"results.csv": text})
    assert [row for _, row in read_table(str(raw / "results.csv"))] == [
        {"image_name": "a.jpg", "comment_number": "0", "comment": 'A "big" dog, asleep .'},
        {"image_name": "b.jpg", "comment_number": "4   no bar here", "comment": ""},
    ]


def coco(names: str) -> dict[str, Any]:
    return {
        "info": {},
        "images": [{"id": 10 * n, "file_name": f"{name}.jpg", "height": 1} for n, name in enumerate(names)],
        "annotations": [
            {"id": 2 * n + k, "image_id": 10 * n, "caption": f" {name} {k}\n"}
            for k in range(2)
            for n, name in enumerate(names)
        ],
    }


def test_coco_captions(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw: dict[str, Any] = {
        f"{split}2017/{name}.jpg": picture(3) for split in ("train", "val") for name in "xyz"
    }
    raw["annotations/captions_train2017.json"] = dump(coco("xz"))
    raw["annotations/captions_val2017.json"] = dump(coco("y"))
    monkeypatch.setenv("COCO", str(put(tmp_path / "raw", raw)))
    _, splits = build(**load_recipe(RECIPES / "coco_captions.yaml").source.model_dump())
    assert captions(splits["train"]) == {"x": ["x 0", "x 1"], "z": ["z 0", "z 1"]}
    assert captions(splits["val"]) == {"y": ["y 0", "y 1"]}


def test_conceptual_captions(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes are letters, however few of them there are, and an image that has left the web is skipped."""
    table = 'filepath\ttitle\nt/1.jpg\t"all of them\nt/2.jpg\ta 5" disc , flat\nt/3.jpg\tgone\n'
    raw = {"train.tsv": table, "val.tsv": table, "t/1.jpg": picture(1), "t/2.jpg": picture(2)}
    monkeypatch.setenv("CONCEPTUAL_CAPTIONS", str(put(tmp_path / "raw", raw)))
    recipe = load_recipe(RECIPES / "conceptual_captions.yaml")
    manifest, splits = build(recipe.max_bad_share, **recipe.source.model_dump())
    assert captions(splits["train"]) == {"t/1": ['"all of them'], "t/2": ['a 5" disc , flat']}
    assert manifest.built["skipped"] == {"train": 1, "val": 1}
    assert "t/3.jpg" in (tmp_path / "set" / "skipped.jsonl").read_text()
    with pytest.raises(MmsslError, match="where quotes are mere letters, set quotes: false"):
        list(read_table(str(tmp_path / "raw" / "train.tsv")))


def test_msr_vtt(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = h264((np.full((32, 48, 3), 40 * n, np.uint8) for n in range(6)), 8.0)
    videos = [
        {"video_id": "video0", "id": 0, "category": 9, "split": "train", "url": "u", "start time": 1.0},
        {"video_id": "video1", "id": 1, "category": 3, "split": "validate", "url": "u", "start time": 1.0},
    ]
    said = [{"sen_id": n, "video_id": f"video{n % 2}", "caption": f"sentence {n}"} for n in range(4)]
    test = [{**videos[0], "video_id": "video2", "split": "test"}]
    raw = {
        "train_val_videodatainfo.json": dump({"info": {}, "videos": videos, "sentences": said}),
        "test_videodatainfo.json": dump({"videos": test, "sentences": [{**said[0], "video_id": "video2"}]}),
        "TrainValVideo/video0.mp4": video,
        "TrainValVideo/video1.mp4": video,
        "TestVideo/video2.mp4": video,
    }
    monkeypatch.setenv("MSR_VTT", str(put(tmp_path / "raw", raw)))
    manifest, splits = build(**load_recipe(RECIPES / "msr_vtt.yaml").source.model_dump())
    assert captions(splits["train"]) == {"video0": ["sentence 0", "sentence 2"]}
    assert captions(splits["val"]) == {"video1": ["sentence 1", "sentence 3"]}
    assert captions(splits["test"]) == {"video2": ["sentence 0"]}
    assert manifest.classes["category"] == ["sports/actions", "vehicles/autos"]
    assert splits["train"]["video0"]["label.json"] == {"category": 1}
    assert manifest.fields["video"] == 1.0


@pytest.mark.parametrize("zipped", [False, True])
def test_folders_of_images_and_texts(zipped: bool, build: Build, tmp_path: Path) -> None:
    raw = put(
        tmp_path / "raw",
        {
            "train/a.jpg": picture(0), "train/a.txt": "\ufeffa dog\n\n  two lines, and grün \r\n",
            "train/deep/b.png": picture(1, kind="PNG"), "train/deep/b.txt": "a cat",
            "train/c.jpg": picture(2),
            "train/d.jpg": picture(3), "train/d.txt": b"caf\xe9",
            "train/e.jpg": picture(4), "train/e.txt": " \n",
            "train/gone.txt": "no image",
            "val/a.jpg": picture(5), "val/a.txt": "x",
        },
    )  # fmt: skip
    root = pack(raw, tmp_path / "raw.zip") if zipped else raw
    source = load_recipe(RECIPES / "image_text_folder.yaml", [f"source.root={root}"]).source.model_dump()
    manifest, splits = build(0.6, **source)
    assert captions(splits["train"]) == {"a": ["a dog", "two lines, and grün"], "deep/b": ["a cat"]}
    assert manifest.built["skipped"] == {"train": 3}
    reasons = {
        bad["input"]: bad["reason"]
        for bad in map(json.loads, (tmp_path / "set" / "skipped.jsonl").read_text().splitlines())
    }
    assert reasons["train/c.jpg"].startswith("train/c.txt: ")
    assert "not UTF-8 (byte 3)" in reasons["train/d.jpg"]
    assert "no caption" in reasons["train/e.jpg"]
    assert (tmp_path / "set" / "missing.txt").read_text() == "train\ttrain/gone.txt\n"


def test_sentences_made_of_columns(build: Build, tmp_path: Path) -> None:
    rows = [
        {"file": "one", "command": "bin", "colour": "blue"},
        {"file": "two", "command": "set", "colour": "red"},
    ]
    raw = put(
        tmp_path / "raw",
        {"t.jsonl": "\n".join(map(json.dumps, rows)), "one.jpg": picture(0), "two.jpg": picture(1)},
    )
    splits = {"train": {"table": str(raw / "t.jsonl"), "files": str(raw)}}
    source = {"kind": "table", "splits": splits, "file": "{file}.jpg", "labels": {"word": "command"}}
    _, found = build(**source, caption="{command} {colour} now")
    assert captions(found["train"]) == {"one": ["bin blue now"], "two": ["set red now"]}
    with pytest.raises(MmsslError, match=r"t\.jsonl: line 1: no 'letter'; the row has columns file, command"):
        build(**source, caption="{command} {letter}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.json", "{}", "neither COCO .* nor Karpathy"),
        ("t.json", "[1]", "neither COCO .*found list"),
        ("t.json", "{", "not JSON"),
        ("t.json", dump({"images": [{"id": 1}], "annotations": []}), "an entry has no 'file_name'"),
        ("t.json", dump({**coco("x"), "images": []}), "annotation 0: image 0 is not listed in this file"),
        ("t.json", dump({"images": [3]}), "expected the file as it was published"),
        (
            "t.json",
            dump({"videos": [{"video_id": "v", "split": "a", "category": 77}], "sentences": []}),
            "index",
        ),
        ("t.token", "a.jpg#0\tx\nb.jpg\ty\n", r"line 2: .*expected FILE#NUMBER<tab>CAPTION"),
        ("t.csv", b"image,caption\na.jpg,x\nb.jpg,caf\xe9\n", "line 3: not readable, byte 0xe9 is not UTF-8"),
        ("t.xml", "<a/>", r"expected a table: \.csv"),
    ],
)
def test_tables_that_are_not_as_published(name: str, content: Any, message: str, tmp_path: Path) -> None:
    raw = put(tmp_path, {name: content})
    with pytest.raises(MmsslError, match=rf"{name}: .*{message}"):
        list(read_table(str(raw / name)))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"only": {"caption": ["z"]}}, "split 'train' is empty; expected at least one line of .*'z'"),
        ({"only": {"part": ["z"]}}, "line 2: no 'part'"),
        ({"list": "lost.txt"}, r"2 files have no row in .*t\.csv: c\.jpg, d\.jpg"),
        ({"list": "twice.txt"}, r"'a\.jpg' is listed twice"),
        ({"list": "empty.txt"}, r"empty\.txt: empty"),
    ],
)
def test_splits_that_a_table_does_not_have(
    split: dict[str, Any], message: str, build: Build, tmp_path: Path
) -> None:
    lists = {"lost.txt": "a.jpg\nc.jpg\nd.jpg\n", "twice.txt": "a.jpg\na.jpg\n", "empty.txt": "\n"}
    raw = put(tmp_path / "raw", {"a.jpg": picture(0), "t.csv": "image,caption\na.jpg,x\n", **lists})
    if "list" in split:
        split = {"list": str(raw / split["list"])}
    splits = {"train": {"table": str(raw / "t.csv"), "files": str(raw), **split}}
    with pytest.raises(MmsslError, match=message):
        build(kind="table", splits=splits, caption="caption")


def test_lists_may_leave_out_the_extension(build: Build, tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", {"a.jpg": picture(0), "t.csv": "image,caption\na.jpg,x\nb.jpg,y\n", "l": "a"})
    splits = {"train": {"table": str(raw / "t.csv"), "files": str(raw), "list": str(raw / "l")}}
    assert captions(build(kind="table", splits=splits, caption="caption")[1]["train"]) == {"a": ["x"]}


def test_what_a_set_tells_about_its_captions(build: Build, tmp_path: Path) -> None:
    lines = ["image,caption"]
    lines += [f"{n}.jpg,a  [stock] Photo" if n % 2 else f"{n}.jpg,A [stock] photo" for n in range(6)]
    lines += ["5.jpg,a dog", "6.jpg,A DOG", "7.jpg,cat", "7.jpg,", "7.jpg," + "long " * 2000, "8.jpg,"]
    raw = put(tmp_path / "raw", {f"{n}.jpg": picture(n) for n in range(9)} | {"t.csv": "\n".join(lines)})
    splits = {"train": {"table": str(raw / "t.csv"), "files": str(raw)}}
    manifest, found = build(0.2, kind="table", splits=splits, caption="caption")
    assert manifest.built["captions"] == {
        "captions": 11, "blank": 1, "long": 1, "unreadable": 0, "shared": 7,
        "most_shared": {"samples": 6, "caption": manifest.built["captions"]["most_shared"]["caption"]},
    }  # fmt: skip
    assert manifest.built["captions"]["most_shared"]["caption"].lower().split() == ["a", "[stock]", "photo"]
    assert manifest.built["skipped"] == {"train": 1}
    assert found["train"]["7"]["caption.json"][:2] == ["cat", ""]
    console = Console(record=True, width=200)
    console.print(summary(tmp_path / "set"))
    told = console.export_text()
    assert "11 captions, 1 blank, 1 long, 7 of 8 samples share one with others" in told
    assert "6 of them 'A [stock] photo'" in told or "6 of them 'a  [stock] Photo'" in told


TEXTS = st.text(st.sampled_from("aB \t"), max_size=4)


@settings(max_examples=25, deadline=None)
@given(sets=st.lists(st.lists(TEXTS, min_size=1, max_size=4), min_size=1, max_size=8))
def test_the_facts_are_those_of_counting_every_pair(
    sets: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("facts")
    rows = [RawSample(f"{n}", {"caption.json": dump(texts)}) for n, texts in enumerate(sets)]
    write_shard(root / "0.tar", rows)
    index_tars([root])
    facts = caption_facts(root, load_manifest(root))
    plain = [{" ".join(text.split()).lower() for text in texts} - {""} for texts in sets]
    own = [any(mine & other for n, other in enumerate(plain) if n != m) for m, mine in enumerate(plain)]
    most = max((sum(text in other for other in plain) for mine in plain for text in mine), default=0)
    assert facts["captions"] == sum(map(len, sets))
    assert facts["blank"] == sum(not text.strip() for texts in sets for text in texts)
    assert facts["shared"] == sum(own)
    assert facts.get("most_shared", {}).get("samples", 1) == max(most, 1)


def test_captions_are_bounded_when_shards_are_built() -> None:
    assert read_captions(caption_member([" a ", ""])["caption.json"], "json") == ["a", ""]
    assert caption_member(["x" * 10_000])
    for bad, message in (
        ([], "no caption"),
        (["", " "], "all 2 are empty"),
        (["x" * (LONGEST + 1)], "100001"),
    ):
        with pytest.raises(BadInput, match=message):
            caption_member(bad)
