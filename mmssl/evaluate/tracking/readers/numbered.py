"""Folders of frames whose names are their numbers."""

from pathlib import Path

from mmssl.errors import MmsslError
from mmssl.tracking.frames import ImageFiles

_IMAGES = {".jpg", ".jpeg", ".png", ".bmp"}


class Numbered:
    """The images of a folder by number: ``0300.jpg``, ``00000001.png``, ``0.jpg``; other files do not count.

    Args:
        where: what messages call the place: benchmark and folder.

    Raises:
        MmsslError: no such folder, no image in it, or two with the same number.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.where = f"{kind}: {folder}"
        if not folder.is_dir():
            raise MmsslError(f"{self.where}: no such folder; expected the sequence's frames")
        self.paths: dict[int, Path] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() not in _IMAGES or not path.stem.isdecimal():
                continue
            if other := self.paths.get(int(path.stem)):
                raise MmsslError(f"{self.where}: {other.name} and {path.name} are the same frame")
            self.paths[int(path.stem)] = path
        if not self.paths:
            raise MmsslError(f"{self.where}: no frame in it; expected images named by their numbers")
        self.first, self.last = min(self.paths), max(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def frames(self, name: str, first: int | None = None, last: int | None = None) -> ImageFiles:
        """The frames ``first`` … ``last``, by default all of them; none may be missing.

        Raises:
            MmsslError: names the range, what was found, and the frames that are missing.
        """
        first = self.first if first is None else first
        last = self.last if last is None else last
        digits = len(self.paths[self.first].stem)
        numbers = range(first, last + 1)
        if missing := [number for number in numbers if number not in self.paths]:
            shown = ", ".join(f"{number:0{digits}d}" for number in missing[:5])
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise MmsslError(
                f"{self.where}: expected frames {first:0{digits}d} to {last:0{digits}d}, "
                f"found {len(numbers) - len(missing)} of {len(numbers)}; missing: {shown}{more}"
            )
        return ImageFiles([self.paths[number] for number in numbers], name)
