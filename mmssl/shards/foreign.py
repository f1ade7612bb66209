"""Make other people's webdataset tars a shard set: indexes and a manifest; the tars stay as they are."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmssl import files
from mmssl.errors import MmsslError
from mmssl.shards.build import field_counts
from mmssl.shards.captions import with_caption_facts
from mmssl.shards.index import ShardIndex
from mmssl.shards.manifest import FILE_NAME, Manifest, Shard, Split
from mmssl.shards.scan import Problem, Scan, scan_tar

_LISTED = 20


@dataclass
class IndexReport:
    """What indexing noticed without having to refuse."""

    manifest: Manifest
    ignored: Counter[str] = field(default_factory=Counter)
    """Extensions that belong to no modality."""
    pickled: list[str] = field(default_factory=list)
    """``shard: member`` of what was left out because reading it would execute it."""


def index_tars(
    paths: Sequence[Path | str],
    *,
    out: Path | str | None = None,
    split: str = "train",
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> IndexReport:
    """Index tars, or all tars of one folder (tars in its subfolders belong to splits called after these).

    Indexes and manifest go beside the tars, or into ``out``, which then links to the tars.

    Raises:
        MmsslError: no tars; a tar that is damaged, dangerous, or would be grouped wrongly (all problems of
            all tars are listed, and nothing is written).
    """
    root, found = _find(paths, split)
    target = root if out is None else Path(out)
    if (target / FILE_NAME).exists():
        raise MmsslError(f"{target / FILE_NAME}: exists already; remove it first, or use another folder")
    scans: list[tuple[str, Path, Scan]] = []
    for number, (split_name, tar) in enumerate(found):
        scans.append((split_name, tar, scan_tar(tar, str(tar.relative_to(root)))))
        if progress is not None:
            progress(number + 1, len(found))
    _refuse(scans, root)
    with files.only_writer(target):
        manifest = _write(scans, root, target, name or target.resolve().name, linked=out is not None)
    report = IndexReport(manifest)
    for _, tar, scan in scans:
        report.ignored.update(scan.ignored)
        report.pickled += [f"{tar.relative_to(root)}: {member}" for member in scan.pickled]
    return report


def _find(paths: Sequence[Path | str], split: str) -> tuple[Path, list[tuple[str, Path]]]:
    """The common folder, and (split, tar) in a fixed order."""
    given = [Path(path) for path in paths]
    if len(given) == 1 and given[0].is_dir():
        root = given[0]
        found = [(split, tar) for tar in sorted(root.glob("*.tar"))]
        found += [(tar.parent.name, tar) for tar in sorted(root.glob("*/*.tar"))]
        if not found:
            raise MmsslError(f"{root}: no .tar files in this folder or its subfolders")
        return root, found
    for path in given:
        if not path.is_file():
            raise MmsslError(f"{path}: no such file; expected tars, or one folder of tars")
    folders = {path.parent for path in given}
    if len(folders) != 1 or len(set(given)) != len(given):
        raise MmsslError(
            "expected different tars of one folder; for several splits give the folder above them"
        )
    return folders.pop(), [(split, path) for path in given]


def _refuse(scans: list[tuple[str, Path, Scan]], root: Path) -> None:
    problems = [problem for _, _, scan in scans for problem in scan.problems]
    seen: dict[tuple[str, str], str] = {}
    for split, tar, scan in scans:
        shard = str(tar.relative_to(root))
        for key, _ in scan.rows:
            first = seen.setdefault((split, key), shard)
            if first != shard:
                problems.append(Problem(shard, f"the same key is in {first}", key))
        if not scan.rows and not scan.problems:
            problems.append(Problem(shard, "no member belongs to a known modality"))
    if problems:
        lines = [f"  {problem}" for problem in problems[:_LISTED]]
        if len(problems) > _LISTED:
            lines.append(f"  … and {len(problems) - _LISTED} more")
        raise MmsslError(
            f"{root}: not indexed, because samples would be grouped wrongly or read wrongly:\n"
            + "\n".join(lines)
        )


def _write(
    scans: list[tuple[str, Path, Scan]], root: Path, target: Path, name: str, *, linked: bool
) -> Manifest:
    splits: dict[str, list[Shard]] = {}
    have: Counter[str] = Counter()
    for split, tar, scan in scans:
        shards = splits.setdefault(split, [])
        first_id = shards[-1].first_id + shards[-1].samples if shards else 0
        index = ShardIndex.build(scan.rows, tar_bytes=scan.tar_bytes, first_id=first_id)
        place = Path(split) / tar.name if linked else tar.relative_to(root)
        if linked:
            _link(tar, target / place)
        index.save((target / place).with_suffix(".index"))
        shards.append(
            Shard(
                file=place.as_posix(),
                index=place.with_suffix(".index").as_posix(),
                samples=len(index),
                first_id=first_id,
                bytes=scan.tar_bytes,
                sha256=scan.sha256,
            )
        )
        have.update(field_counts(index))
    samples = {split: sum(shard.samples for shard in shards) for split, shards in splits.items()}
    number = max(scan.classes for _, _, scan in scans)
    manifest = Manifest(
        name=name,
        splits={
            split: Split(samples=samples[split], shards=tuple(shards)) for split, shards in splits.items()
        },
        fields={field_: count / sum(samples.values()) for field_, count in sorted(have.items())},
        classes={"class": [str(index) for index in range(number)]} if number else {},
        built={"foreign": True},
    )
    manifest = with_caption_facts(target, manifest)
    manifest.save(target)
    return manifest


def _link(tar: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink() and place.resolve() == tar.resolve():
        return
    try:
        place.symlink_to(tar.resolve())
    except OSError as error:
        raise MmsslError(f"{place}: cannot link to {tar} ({error.strerror})") from error
