"""Configuration: what is refused, and whether the message says file, path and expectation."""

from pathlib import Path

import pytest
from pydantic import PositiveInt

from mmssl.config import Config, fingerprint, parse, read_yaml
from mmssl.errors import MmsslError


class Inner(Config):
    temperature: float = 0.1


class Outer(Config):
    steps: PositiveInt
    inner: Inner = Inner()


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_overrides_are_dotted_and_typed(tmp_path: Path) -> None:
    path = written(tmp_path, "steps: 1\ninner: {temperature: 0.5}\n")
    data = read_yaml(path, ["inner.temperature=0.2", "steps=7"])
    assert parse(Outer, data, path) == Outer(steps=7, inner=Inner(temperature=0.2))


def test_environment_references_fall_back_or_say_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSSL_TEST_ROOT", "somewhere")
    monkeypatch.delenv("MMSSL_TEST_ABSENT", raising=False)
    path = written(tmp_path, "a: ${oc.env:MMSSL_TEST_ROOT}\nb: ${oc.env:MMSSL_TEST_ABSENT,fallback}\n")
    assert read_yaml(path) == {"a": "somewhere", "b": "fallback"}
    path = written(tmp_path, "a: ${oc.env:MMSSL_TEST_ABSENT}\n")
    with pytest.raises(MmsslError, match=r"recipe.yaml: .*MMSSL_TEST_ABSENT.* not found"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 1\ninner: {temprature: 1}\n", r"recipe.yaml: inner.temprature: unknown key.*'temperature'"),
        ("inner: {}\n", r"recipe.yaml: steps: missing"),
        ("steps: many\n", r"recipe.yaml: steps: .*integer.*'many'"),
        ("steps: 0\n", r"recipe.yaml: steps: .*greater than 0"),
    ],
)
def test_a_wrong_key_or_type_names_file_path_and_expectation(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(MmsslError, match=message):
        parse(Outer, read_yaml(path), path)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "\x00"])
def test_what_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(MmsslError, match=r"recipe.yaml"):
        read_yaml(written(tmp_path, text))


def test_a_missing_file_and_an_override_without_a_value(tmp_path: Path) -> None:
    with pytest.raises(MmsslError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(MmsslError, match="expected key=value"):
        read_yaml(written(tmp_path, "steps: 1\n"), ["steps"])


def test_fingerprints_depend_on_content_only() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint(Inner()) == fingerprint({"temperature": 0.1})
