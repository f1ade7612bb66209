"""UCF101 and HMDB51, whose authors give three splits each; results are reported as the mean over them."""

from abc import abstractmethod
from typing import Any, Literal

from mmssl.errors import MmsslError
from mmssl.shards.sources.base import Listing
from mmssl.shards.sources.files import Files, open_files
from mmssl.shards.sources.official import Listed, OfficialVideos, refuse_repeated, stem

Split = dict[str, dict[str, str]]
"""``train`` and ``test``: name of a video to its class."""


class ActionSplits(OfficialVideos):
    """What both have in common. ``meta.official`` says where all three splits put a video, so that one
    shard set serves them all: ``{"1": "train", "2": "test", "3": "train"}``; a split may leave one out."""

    lists: str
    """The folder or zip archive with the official split files."""
    split: Literal[1, 2, 3] = 1
    """Which of the three decides the shard set's ``train`` and ``test``."""

    def list_items(self) -> Listing:
        tree = open_files(self.lists)
        splits = {number: self.read_split(tree, number) for number in (1, 2, 3)}
        for number, split in splits.items():
            both = split["train"].keys() & split["test"].keys()
            if both:
                raise MmsslError(
                    f"{self.lists}: split {number}: {min(both)!r} is for training and for testing"
                )
        classes = self.classes(tree, splits[self.split])
        number_of = {name: at for at, name in enumerate(classes)}
        rows: dict[str, list[Listed]] = {}
        for part, table in splits[self.split].items():
            rows[part] = []
            for name, label in table.items():
                if label not in number_of:
                    raise MmsslError(
                        f"{self.lists}: {name!r} is of class {label!r}, which is not in the list"
                    )
                meta: dict[str, Any] = {
                    "official": {
                        str(other): which
                        for other, split in splits.items()
                        for which in ("train", "test")
                        if name in split[which]
                    },
                    **self.about(name),
                }
                rows[part].append(Listed(name, number_of[label], (), meta))
        return self.found(dict(rows), classes)

    @abstractmethod
    def read_split(self, tree: Files, number: int) -> Split:
        """Official split ``number``, 1 to 3."""

    def classes(self, tree: Files, split: Split) -> list[str]:
        """In the order of their indices."""
        return sorted({label for table in split.values() for label in table.values()})

    def about(self, name: str) -> dict[str, str]:
        """What a video's name says; goes to ``meta``."""
        return {}


class UCF101(ActionSplits):
    """UCF101 (Soomro, Zamir, Shah, 2012): 13320 videos, 101 classes; lists: ``ucfTrainTestlist/``."""

    kind: Literal["ucf101"] = "ucf101"

    def read_split(self, tree: Files, number: int) -> Split:
        """``trainlist0N.txt``: CLASS/NAME.avi INDEX; ``testlist0N.txt``: CLASS/NAME.avi."""
        split: Split = {}
        for part in ("train", "test"):
            path = f"{part}list0{number}.txt"
            names = [line.split()[0] for line in tree.read_text(path).splitlines() if line.strip()]
            refuse_repeated(names, f"{tree.root}/{path}")
            split[part] = {}
            for name in names:
                label, slash, _ = name.partition("/")
                if not slash:
                    raise MmsslError(f"{tree.root}/{path}: {name!r}; expected CLASS/NAME.avi")
                split[part][stem(name)] = label
        return split

    def classes(self, tree: Files, split: Split) -> list[str]:
        """``classInd.txt``: INDEX CLASS, counted from 1."""
        numbered: dict[int, str] = {}
        for line in tree.read_text("classInd.txt").splitlines():
            words = line.split()
            if words:
                if len(words) != 2 or not words[0].isdigit():
                    raise MmsslError(f"{tree.root}/classInd.txt: {line!r}; expected an index and a class")
                numbered[int(words[0])] = words[1]
        if sorted(numbered) != list(range(1, len(numbered) + 1)):
            raise MmsslError(f"{tree.root}/classInd.txt: expected indices 1 to {len(numbered)}")
        return [numbered[index] for index in sorted(numbered)]

    def about(self, name: str) -> dict[str, str]:
        """The group: clips of one group were cut from one video (v_CLASS_gGROUP_cCLIP)."""
        parts = name.rsplit("_", 2)
        return {"group": "_".join(parts[:2])} if len(parts) == 3 else {}


class HMDB51(ActionSplits):
    """HMDB51 (Kuehne et al., ICCV 2011): 6766 videos, 51 classes, 70 and 30 of each class in a split's
    two parts and the others in neither; lists: ``testTrainMulti_7030_splits/``."""

    kind: Literal["hmdb51"] = "hmdb51"

    def read_split(self, tree: Files, number: int) -> Split:
        """``CLASS_test_splitN.txt``: NAME.avi and 0 (unused), 1 (train) or 2 (test)."""
        split: Split = {"train": {}, "test": {}}
        ending = f"_test_split{number}.txt"
        paths = [path for path, _ in tree.list() if path.endswith(ending)]
        if not paths:
            raise MmsslError(f"{tree.root}: no files CLASS{ending}; expected the official split files")
        for path in paths:
            label = path.rpartition("/")[2].removesuffix(ending)
            lines = [line.split() for line in tree.read_text(path).splitlines() if line.strip()]
            refuse_repeated((words[0] for words in lines), f"{tree.root}/{path}")
            for words in lines:
                if len(words) != 2 or words[1] not in ("0", "1", "2"):
                    raise MmsslError(
                        f"{tree.root}/{path}: {' '.join(words)!r}; expected NAME.avi and 0, 1 or 2"
                    )
                if words[1] != "0":
                    split["train" if words[1] == "1" else "test"][stem(words[0])] = label
        return split
