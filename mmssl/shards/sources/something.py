"""Something-Something V2 (Goyal et al., ICCV 2017): JSON lists, classes that are templates of sentences."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.shards.sources.base import Listing
from mmssl.shards.sources.official import Listed, OfficialVideos, refuse_repeated


class Something(OfficialVideos):
    """``label`` is the template's official index, ``caption`` the sentence with its objects filled in."""

    kind: Literal["something_v2"] = "something_v2"
    labels: str
    """``labels.json``: template (without brackets) to index."""
    lists: dict[str, str] = Field(min_length=1)
    """Split name to its JSON list of {id, label, template}; the test list has ids alone."""
    answers: dict[str, str] = Field(default_factory=dict)
    """Split name to a file of lines ID;TEMPLATE, which is how the test split's labels were published."""

    def list_items(self) -> Listing:
        number = self._classes()
        for split in self.answers:
            if split not in self.lists:
                raise MmsslError(f"answers: no split {split!r}; expected one of {', '.join(self.lists)}")
        splits = {split: self._rows(split, path, number) for split, path in self.lists.items()}
        return self.found(dict(splits), sorted(number, key=lambda name: number[name]))

    def _classes(self) -> dict[str, int]:
        table = _read(self.labels, dict)
        try:
            number = {str(name): int(index) for name, index in table.items()}
        except (TypeError, ValueError) as error:
            raise MmsslError(f"{self.labels}: expected template to index ({error})") from error
        if sorted(number.values()) != list(range(len(number))):
            raise MmsslError(f"{self.labels}: expected indices 0 to {len(number) - 1}, each once")
        return number

    def _rows(self, split: str, path: str, number: dict[str, int]) -> list[Listed]:
        answers = self._answers(split)
        rows = []
        for position, entry in enumerate(_read(path, list)):
            where = f"{path}: entry {position}"
            if not isinstance(entry, dict) or not isinstance(entry.get("id"), str | int):
                raise MmsslError(f"{where}: expected an object with an id, found {entry!r:.80}")
            name = str(entry["id"])
            template = entry.get("template", answers.get(name))
            label = None
            if template is not None:
                plain = str(template).replace("[", "").replace("]", "")
                if plain not in number:
                    raise MmsslError(f"{where}: template {template!r} is not in {self.labels}")
                label = number[plain]
            sentence = entry.get("label")
            rows.append(Listed(name, label, (str(sentence),) if sentence else (), {}))
        refuse_repeated((row.name for row in rows), path)
        return rows

    def _answers(self, split: str) -> dict[str, str]:
        if split not in self.answers:
            return {}
        answers = {}
        for line in _text(self.answers[split]).splitlines():
            name, _, template = line.strip().partition(";")
            answers[name] = template
        return answers


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MmsslError(f"{path}: not readable ({error}); expected an official list") from error


def _read(path: str, kind: type) -> Any:
    try:
        content = json.loads(_text(path))
    except ValueError as error:
        raise MmsslError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, kind):
        raise MmsslError(f"{path}: expected a JSON {'list' if kind is list else 'object'}")
    return content
