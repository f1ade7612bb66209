"""Recipes: the ones that are shipped, and the messages for those that are wrong."""

from pathlib import Path
from typing import Any

import pytest

from mmssl.errors import MmsslError
from mmssl.shards.recipe import ShardRecipe, load_recipe, parse_recipe

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "shards").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid_and_called_as_its_file(path: Path) -> None:
    recipe = load_recipe(path)
    assert path.stem.removesuffix("_binary") == recipe.name


def test_a_recipe_survives_its_own_dump(tmp_path: Path) -> None:
    recipe = load_recipe(ROOT / "shards" / "miniworld.yaml", ["source.world.size=64", "shuffle_seed=null"])
    again = parse_recipe(recipe.model_dump(mode="json"), "dump")
    assert again == recipe
    assert recipe.model_dump(mode="json")["source"]["world"]["size"] == 64
    assert recipe.shuffle_seed is None


def test_roots_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10", "somewhere/cifar.zip")
    recipe = load_recipe(ROOT / "shards" / "cifar10.yaml")
    assert recipe.model_dump()["source"]["root"] == "somewhere/cifar.zip"


def test_a_bare_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert load_recipe("cifar10").name == "cifar10"
    with pytest.raises(MmsslError, match=r"no such recipe; expected .*cifar10, .*miniworld"):
        load_recipe("cifar")


SOURCE = {"kind": "image_folder", "root": "x"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "a", "source": {**SOURCE, "hold_out": 1}}, "source.hold_out: unknown key; did you mean"),
        ({"name": "a", "source": {**SOURCE, "holdout": {"share": 2}}}, "source.holdout.share: .*found 2"),
        ({"name": "a", "source": {"kind": "folder"}}, "'folder' is unknown; expected .*image_folder"),
        ({"name": "a", "source": {"kind": "image_folder"}}, r"source.root: missing"),
        ({"name": "a", "source": SOURCE, "shard_md": 3}, "shard_md: unknown key; did you mean 'shard_mb'"),
        ({"name": "a", "source": SOURCE, "shard_mb": "big"}, r"shard_mb: .*found 'big'"),
        ({"name": "a", "source": SOURCE, "max_bad_share": 3}, r"max_bad_share"),
        ({"name": "../a", "source": SOURCE}, r"name"),
        ({"name": "a", "source": 3}, r"source"),
        ({"name": "a"}, r"source: missing"),
        ({"source": SOURCE}, r"name: missing"),
        ({"name": "a", "source": {**SOURCE, "splits": {}}}, r"source.splits"),
    ],
)  # fmt: skip
def test_wrong_recipes_are_located(data: dict[str, Any], message: str) -> None:
    with pytest.raises(MmsslError, match=message) as caught:
        parse_recipe(data, "r.yaml")
    assert str(caught.value).startswith("r.yaml: ")


def test_the_schema_can_be_written_for_editors() -> None:
    assert "shard_mb" in ShardRecipe.model_json_schema()["properties"]
