"""Exactly once, resumable anywhere, whatever the number of ranks and workers; faults named and bounded."""

import io
import json
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_stream import LENIENT, Shown, config_of, damage, png

from mmssl.errors import MmsslError
from mmssl.shards.foreign import index_tars
from mmssl.shards.index import ShardIndex
from mmssl.stream import FaultLimits, Quarantine, Source, Stream, StreamConfig, scan
from mmssl.stream.batch import Batch
from mmssl.stream.reader import ShardReader

VIEWS = {"image": Shown()}
Make = Callable[..., Path]


def stream_of(
    *roots: Path, rank: int = 0, world: int = 1, batch: int = 12, workers: int = 0, **settings: object
) -> Stream:
    config = config_of(*roots, workers=workers, **settings)
    return Stream(config, VIEWS, batch_size=batch, seed=5, rank=rank, world=world)


def global_rows(
    root: Path, world: int, consumed: int, steps: int, workers: int = 0
) -> list[tuple[float, ...]]:
    """(id, pass, shown, random, label) in position order, put together from all ranks."""
    ranks = [
        [
            rows(batch)
            for batch in stream_of(root, rank=r, world=world, workers=workers).batches(consumed, steps)
        ]
        for r in range(world)
    ]
    return [row for step in zip(*ranks, strict=True) for part in step for row in part]


def rows(batch: Batch) -> list[tuple[float, ...]]:
    table = [batch.id, batch.pass_, *batch.image.T, batch.label["class"]]
    return [tuple(row) for row in torch.stack([column.double() for column in table], 1).tolist()]


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("workers", [0, 2, 3])
def test_same_samples_whatever_ranks_and_workers(shards: Path, world: int, workers: int) -> None:
    found = global_rows(shards, world, 0, 10, workers)
    assert found == global_rows(shards, 1, 0, 10)
    for pass_ in (0, 1):  # 10 steps of 12 are two passes of 60
        this = found[60 * pass_ : 60 * (pass_ + 1)]
        assert sorted(row[0] for row in this) == list(range(60))
        assert {row[1] for row in this} == {pass_}
        assert all(row[2] == row[0] and row[4] == row[0] % 3 for row in this)


@pytest.mark.parametrize("consumed", [1, 12, 59, 60, 61, 1234])
def test_resume_at_any_sample_equals_never_stopping(shards: Path, consumed: int) -> None:
    whole = global_rows(shards, 1, 0, 120)
    assert global_rows(shards, 1, consumed, 3) == whole[consumed : consumed + 36]


def test_two_ranks_then_one_then_two_see_every_sample_once(shards: Path) -> None:
    parts = [global_rows(shards, 2, 0, 2), global_rows(shards, 1, 24, 1), global_rows(shards, 2, 36, 2)]
    seen = [row for part in parts for row in part]
    assert sorted(row[0] for row in seen) == list(range(60))
    assert seen == global_rows(shards, 1, 0, 5)


def test_order_changes_and_ranks_meet_other_shards_every_pass(make_set: Make) -> None:
    """What webdataset 1.0.2 does not do: shardshuffle repeats its order, and a rank keeps its shards."""
    root = make_set([8] * 8)
    ids = [[b.id for b in stream_of(root, rank=r, world=2, batch=8).batches(0, 32)] for r in (0, 1)]
    for rank in (0, 1):
        passes = torch.cat(ids[rank]).view(4, 32)
        assert all(not torch.equal(passes[i], passes[j]) for i in range(4) for j in range(i))
        assert set((passes // 8).flatten().tolist()) == set(range(8))


def test_fewer_shards_than_workers(make_set: Make) -> None:
    stream = stream_of(make_set([13]), batch=5, workers=3)
    ids = torch.cat([batch.id for batch in stream.batches(0, 13)]).view(5, 13)
    assert all(sorted(part) == list(range(13)) for part in ids.tolist())


def test_finish_on_the_device_gives_what_the_worker_gives(shards: Path) -> None:
    config = config_of(shards)
    there = Stream(config, VIEWS, batch_size=12, seed=5, finish_on="device")
    for batch, expected in zip(there.batches(7, 3), stream_of(shards).batches(7, 3), strict=True):
        assert batch.image.ndim == 1
        assert torch.equal(there.finish(batch.to("cpu")).image, expected.image)


def test_global_generators_play_no_part(shards: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = [rows(b) for b in stream_of(shards).batches(0, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert [rows(b) for b in stream_of(shards).batches(0, 2)] == first


def test_mixture_of_sources_and_their_classes(make_set: Make) -> None:
    a = make_set([10], classes=("cat", "dog"))
    b = make_set([6], first=100, classes=("dog", "eel", "cat"))
    sources = (Source(shards=str(a), weight=3), Source(shards=str(b), weight=1))
    stream = Stream(StreamConfig(sources=sources, workers=0), VIEWS, batch_size=8, seed=0)
    assert stream.samples == 16
    assert stream.classes == {"class": ["cat", "dog", "eel"]}
    for batch in stream.batches(0, 10):
        second = batch.id >= 10
        assert second.sum() == 2
        number = torch.where(second, batch.id - 10, batch.id)
        assert torch.equal(batch.image[:, 0], (number + 100 * second).float())
        merged = torch.where(second, torch.tensor([1, 2, 0])[number % 3], number % 2)
        assert torch.equal(batch.label["class"], merged)


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_member_is_replaced_counted_and_named(make_set: Make, tmp_path: Path, workers: int) -> None:
    root = make_set([10, 10])
    index = ShardIndex.load(root / "train/000001.index")
    damage(root / "train/000001.tar", int(index.offset[3, index.columns.index("image.png")]) + 40)
    stream = stream_of(root, batch=5, workers=workers, faults=LENIENT)
    stream.quarantine.log_to(tmp_path / "quarantine.jsonl")
    batches = list(stream.batches(0, 8))
    ids = torch.cat([batch.id for batch in batches]).view(2, 20)
    for part in ids.tolist():
        assert len(part) == 20
        assert set(range(20)) - set(part) == {13}
    assert stream.quarantine.faults == 2 == sum(len(batch.faults) for batch in batches)
    lines = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert lines[0]["key"] == "k00013"
    assert lines[0]["field"] == "image"
    assert lines[0]["shard"].endswith("000001.tar")
    assert "checksum" in lines[0]["reason"]
    assert [rows(b) for b in stream_of(root, batch=5, faults=LENIENT).batches(0, 8)] == [
        rows(b) for b in batches
    ]


def test_without_verification_a_flipped_byte_of_a_label_passes_unseen(make_set: Make) -> None:
    """The counter-example: it is the checksum that finds it."""
    root = make_set([10])
    index = ShardIndex.load(root / "train/000000.index")
    data = bytearray((root / "train/000000.tar").read_bytes())
    at = int(index.offset[4, index.columns.index("label.json")]) + len('{"class": ')
    data[at] = ord("2")
    (root / "train/000000.tar").write_bytes(data)
    unverified = list(scan(config_of(root, verify=False), VIEWS))
    assert unverified[0].label["class"][4] == 2
    assert not unverified[0].faults
    assert next(iter(scan(config_of(root, faults=LENIENT), VIEWS))).id.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("workers", [0, 2])
def test_exchanged_tar_of_the_same_size_stops_with_the_list(make_set: Make, workers: int) -> None:
    root, other = make_set([40]), make_set([40], first=100)
    (root / "train/000000.tar").write_bytes((other / "train/000000.tar").read_bytes())
    limits = FaultLimits(max_in_a_row=5)
    with pytest.raises(
        MmsslError, match=r"(?s)5 unreadable samples in a row.*000000\.tar: k000\d\d: image: .*checksum"
    ):
        list(stream_of(root, faults=limits, workers=workers).batches(0, 5))


def test_too_large_a_share_stops(make_set: Make) -> None:
    root = make_set([40])
    index = ShardIndex.load(root / "train/000000.index")
    for row in range(0, 40, 4):
        damage(root / "train/000000.tar", int(index.offset[row, 0]))
    limits = FaultLimits(max_in_a_row=40, max_share=0.1, after=30)
    with pytest.raises(MmsslError, match=r"more than 10\.00% of the samples are unreadable"):
        list(scan(config_of(root, faults=limits), VIEWS, batch_size=10))
    enough = limits.model_copy(update={"max_share": 0.3})
    assert sum(len(b) for b in scan(config_of(root, faults=enough), VIEWS, batch_size=10)) == 30


def test_tar_that_vanishes_while_training(make_set: Make) -> None:
    root = make_set([10, 10])
    stream = stream_of(root, batch=5, faults=LENIENT)
    (root / "train/000001.tar").unlink()
    ids = torch.cat([batch.id for batch in stream.batches(0, 4)])
    assert len(ids) == 20
    assert ids.max() < 10


@pytest.mark.parametrize("workers", [0, 2])
def test_scan_is_ordered_complete_and_counts_what_it_leaves_out(make_set: Make, workers: int) -> None:
    root = make_set([7, 6])
    index = ShardIndex.load(root / "train/000000.index")
    damage(root / "train/000000.tar", int(index.offset[2, 0]))
    config = config_of(root, workers=workers, faults=LENIENT)
    counts = Quarantine(config.faults)
    batches = list(scan(config, VIEWS, batch_size=4, quarantine=counts))
    assert [batch.id.tolist() for batch in batches] == [[0, 1, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12]]
    assert counts.faults == 1
    assert counts.attempts == 13


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_header_loses_no_sample(make_set: Make, workers: int) -> None:
    """The index says where the bytes are: what is wrong between them is of no consequence. (Readers that go
    from header to header lose the rest of the tar, without a word.)"""
    root = make_set([20])
    tar = root / "train/000000.tar"
    offset = ShardIndex.load(root / "train/000000.index").offset
    data = bytearray(tar.read_bytes())
    for start in offset[8].tolist():
        data[start - 512 : start] = b"\xff" * 512
    tar.write_bytes(data)
    with tarfile.open(tar) as archive:
        assert len(archive.getnames()) == 16
    batches = list(scan(config_of(root, workers=workers), VIEWS, batch_size=8))
    assert torch.cat([batch.image[:, 0] for batch in batches]).tolist() == list(range(20))
    assert not any(batch.faults for batch in batches)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self.path,)


def test_nothing_is_ever_unpickled(shards: Path, make_set: Make, tmp_path: Path) -> None:
    """Pickles as members of a foreign tar, in place of an image or a label, and in place of the index."""
    mark = tmp_path / "unpickled"
    bomb = pickle.dumps(Bomb(mark))
    pickle.loads(bomb)
    assert mark.exists()  # the bomb works
    mark.unlink()

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    with tarfile.open(foreign / "a.tar", "w") as tar:
        for name in ("k0.png", "k0.pkl", "k0.pyd", "k0.pth", "k1.jpg", "k2.jpg", "k2.pickle"):
            content = png(0) if name == "k0.png" else bomb
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    assert index_tars([foreign]).pickled
    assert next(iter(scan(config_of(foreign, faults=LENIENT), VIEWS))).id.tolist() == [0]

    root = make_set([3], instead={1: {"image.png": bomb}, 2: {"label.json": bomb}})
    config = config_of(root, faults=LENIENT)
    assert next(iter(scan(config, VIEWS))).id.tolist() == [0]
    (root / "train/000000.index").write_bytes(bomb)
    refused(lambda: list(scan(config, VIEWS)), "000000.index")
    assert not mark.exists()


def test_batches_survive_pickling(shards: Path) -> None:
    batch = next(iter(stream_of(shards).batches(0, 1)))
    again = pickle.loads(pickle.dumps(batch))
    assert rows(again) == rows(batch)
    assert again.key == batch.key


def refused(make: Callable[[], object], *words: str) -> None:
    with pytest.raises(MmsslError) as raised:
        make()
    for word in words:
        assert word in str(raised.value)


def test_refused_before_anything_starts(shards: Path, make_set: Make, tmp_path: Path) -> None:
    class Depth(Shown):
        fields = ("depth",)

    config = config_of(shards)
    refused(lambda: Stream(config, VIEWS, batch_size=10, seed=0, world=4), "batch_size", "10", "4")
    refused(lambda: Stream(config, {"d": Depth()}, batch_size=4, seed=0), "'depth'", str(shards), "image")
    refused(lambda: scan(config, VIEWS, split="test"), "'test'", "train")
    refused(lambda: scan(config, VIEWS, split="empty"), "'empty'", "no samples", "train (60)")
    refused(lambda: stream_of(tmp_path / "nowhere"), "nowhere", "mmssl shards")
    refused(lambda: stream_of(tmp_path / "train-000.tar"), "train-000.tar", "mmssl shards index")
    for broken, word in (
        (lambda p: p.unlink(), "No such file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-512]), "truncated"),
    ):
        root = make_set([5, 5])
        broken(root / "train/000001.tar")
        refused(lambda root=root: stream_of(root), "000001.tar", word)
    root, other = make_set([5]), make_set([6])
    (root / "train/000000.index").write_bytes((other / "train/000000.index").read_bytes())
    refused(lambda: list(stream_of(root).batches(0, 1)), "000000.index", "manifest")


def test_only_the_wanted_fields_are_read(shards: Path) -> None:
    assert set(ShardReader(shards, "train", fields={"label"}).sample(3).members) == {"label"}
    assert set(ShardReader(shards, "train").sample(3).members) == {"label", "image"}


def test_reading_in_order_ahead_or_at_random_gives_what_the_tar_holds(make_set: Make) -> None:
    """Against tarfile; samples are read forwards (in long stretches), backwards and at random."""
    root = make_set([700])
    with tarfile.open(root / "train/000000.tar") as tar:
        expected = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert sum(map(len, expected.values())) + 1024 * len(expected) > 1 << 20  # more than one stretch
    reader = ShardReader(root, "train")
    for order in (range(700), range(699, -1, -1), [5, 6, 7, 400, 401, 6, 699, 0, 1]):
        for id_ in order:
            sample = reader.sample(id_)
            found = {f"{sample.key}.{f}.{e}": bytes(data) for f, (e, data) in sample.members.items()}
            assert found == {name: data for name, data in expected.items() if name.startswith(sample.key)}


def test_members_apart_absent_or_twice(make_set: Make) -> None:
    """What lies far apart is read in two goes; of two extensions of a field the first one counts."""
    more = {1: {"caption.json": b'["x"]', "image.png": bytes(50_000)}, 2: {"image.jpg": b"first"}}
    root = make_set([4], instead=more)
    both = ShardReader(root, "train", fields={"caption", "label"})
    assert {field: bytes(data) for field, (_, data) in both.sample(1).members.items()} == {
        "caption": b'["x"]',
        "label": b'{"class": 1}',
    }
    assert set(both.sample(2).members) == {"label"}
    assert ShardReader(root, "train", fields={"caption"}).sample(0).members == {}
    extension, data = ShardReader(root, "train").sample(2).members["image"]
    assert (extension, bytes(data)) == ("jpg", b"first")


def test_a_tar_cut_while_it_is_read_in_order_gives_what_it_still_has(make_set: Make) -> None:
    root = make_set([30])
    places = ShardIndex.load(root / "train/000000.index")
    batches = scan(config_of(root, faults=FaultLimits(max_in_a_row=30, max_share=1)), VIEWS, batch_size=10)
    os.truncate(root / "train/000000.tar", int(places.offset[17, 0]) + 5)
    found = list(batches)
    assert torch.cat([batch.id for batch in found]).tolist() == list(range(17))
    assert "truncated" in found[1].faults[0].reason
