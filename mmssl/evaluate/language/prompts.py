"""Class names in sentences: what a text encoder is asked in place of a classifier's rows.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (CLIP, ICML 2021,
section 3.1.4): a class is the mean of the embeddings of its name in many sentences.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmssl.config import read_yaml
from mmssl.errors import MmsslError

SLOT = "{}"
DATA = Path(__file__).resolve().parent / "data"
_WORD_BORDER = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class Prompts:
    """Sentences with one slot each, and what to write into it."""

    templates: tuple[str, ...]
    source: str
    """Where they are from, for messages and protocols."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Class name to the words that the sentences need, where they are others."""

    def of(self, words: str) -> list[str]:
        """Every sentence about one class."""
        return [template.replace(SLOT, words) for template in self.templates]


def load_prompts(which: str | Sequence[str]) -> Prompts:
    """Prompts by the name of a file that comes with mmssl, by the path of another, or as sentences.

    A ``.txt`` has a sentence a line, empty lines and those that begin with # aside; a ``.yaml`` has a list
    ``templates`` and may have a mapping ``names`` from class names to words.

    Raises:
        MmsslError: no such file, not UTF-8, no sentence in it, or one without exactly one slot {}.
    """
    if not isinstance(which, str):
        return Prompts(_checked(enumerate(which, 1), "templates", "entry"), "given templates")
    if SLOT in which:
        return Prompts(_checked([(1, which)], "templates", "entry"), "given template")
    path = next(
        (path for path in (DATA / f"{which}.txt", DATA / f"{which}.yaml") if path.is_file()), Path(which)
    )
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in DATA.iterdir()))
        raise MmsslError(
            f"templates: {which}: no such file; expected one of {known}, the path of a .txt or .yaml, "
            "or sentences with a slot {}"
        )
    source = which if path.parent == DATA else path.name
    if path.suffix in (".yaml", ".yml"):
        templates, names = _from_yaml(path)
        return Prompts(templates, source, names)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise MmsslError(f"{path}: expected text in UTF-8 ({error})") from error
    told = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    return Prompts(_checked([(n, line) for n, line in told if line and line[0] != "#"], path, "line"), source)


def _from_yaml(path: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    content = read_yaml(path)
    templates, names = content.get("templates"), content.get("names", {})
    if unknown := content.keys() - {"templates", "names"}:
        raise MmsslError(f"{path}: {sorted(map(str, unknown))[0]}: expected templates and names only")
    if not isinstance(templates, list):
        raise MmsslError(f"{path}: templates: expected a list of sentences")
    if not isinstance(names, dict) or not all(isinstance(words, str) for words in names.values()):
        raise MmsslError(f"{path}: names: expected a mapping from class names to words")
    return _checked(enumerate(templates, 1), f"{path}: templates", "entry"), {
        str(name): words for name, words in names.items()
    }


def _checked(numbered: Any, where: Path | str, unit: str) -> tuple[str, ...]:
    found = []
    for number, template in numbered:
        slots = template.count(SLOT) if isinstance(template, str) else 0
        if slots != 1:
            raise MmsslError(
                f"{where}: {unit} {number}: expected a sentence with one slot {SLOT} for the class, "
                f"found {template!r}"
            )
        found.append(template)
    if not found:
        raise MmsslError(f"{where}: no sentence; expected at least one with a slot {SLOT} for the class")
    return tuple(found)


def class_words(
    label: str, classes: Sequence[str], prompts: Prompts, names: Mapping[str, str], count: int
) -> dict[str, str]:
    """What each class of ``label`` is called in sentences, by its name, in the order of numbers.

    ``names`` comes before those of ``prompts``, and these before the shard set's own, in which underscores
    become spaces and so do the borders of ``CamelCase``.

    Args:
        classes: names in the manifest; where it has none, or numbers only, as sets that were only indexed do,
            classes are called "0", "1" … in ``names``.
        names: class name to words.
        count: of classes that samples are labelled with.

    Raises:
        MmsslError: a class has no name, or words are given for a class that there is not.
    """
    known = list(classes) + [str(number) for number in range(len(classes), count)]
    if unknown := [name for name in names if name not in known]:
        raise MmsslError(
            f"evaluation zero_shot: names.{label}: expected classes among {_few(known)}, found {unknown[0]!r}"
        )
    own = {name: told(name) for name in classes} if named(classes) else {}
    given = {**own, **prompts.names, **names}
    words = {name: given.get(name, "").strip() for name in known}
    if missing := [name for name, said in words.items() if not said]:
        raise MmsslError(
            f"evaluation zero_shot: label {label!r}: no name for {_few(missing)}; expected class names in "
            f"the shard set's manifest, or names: {{{label}: {{{missing[0]}: words}}}}"
        )
    return words


def named(classes: Sequence[str]) -> bool:
    """Whether a label's classes have names, and not just the numbers they are counted by."""
    return list(classes) != [str(number) for number in range(len(classes))]


def told(name: str) -> str:
    """A class name as words: ``ApplyEyeMakeup`` and ``apply_eye_makeup`` become ``apply eye makeup``."""
    apart = _WORD_BORDER.sub(" ", name.replace("_", " "))
    return apart.lower() if apart != name.replace("_", " ") else apart


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
