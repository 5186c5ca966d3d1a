"""Every recipe file, without naming any: what holds for one holds for all."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mmtrain.recipes import CONFIGS, Recipe, all_recipes, load_recipe, spellings_of
from trainer_sdk.errors import ConfigError
from trainer_sdk.tasks import Task

RECIPES = all_recipes()


def test_every_file_is_a_recipe() -> None:
    assert len(RECIPES) == len(list(CONFIGS.rglob("*.yaml"))) == 4


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_weights_carry_their_hash_in_their_name(recipe: Recipe) -> None:
    assert recipe.weights.file_name.endswith(f"-{recipe.weights.sha256[:8]}.pth")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_spelling_finds_the_recipe(recipe: Recipe) -> None:
    for name in (recipe.name, recipe.name.replace("-", "_"), recipe.name.upper(), *recipe.aliases):
        assert load_recipe(name, recipe.task) is recipe


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_has_a_summary(recipe: Recipe) -> None:
    assert len(recipe.summary) > 20


def test_no_two_recipes_share_a_spelling() -> None:
    spellings = [spelling for recipe in RECIPES for spelling in spellings_of(recipe)]
    assert len(spellings) == len(set(spellings))


def test_an_unknown_model_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'rtmdet-tiny'") as caught:
        load_recipe("rtmdet-tinny")
    assert "faster-rcnn-r50" in caught.value.hint


def test_a_model_of_another_task_is_refused_with_those_that_fit() -> None:
    with pytest.raises(ConfigError, match="does object_detection, TASK_TYPE asks for instance_segmentation") as caught:
        load_recipe("rtmdet-tiny", Task.INSTANCE)
    assert "mask-rcnn-r50" in caught.value.hint


def test_the_listing_for_machines_is_json_with_every_recipe() -> None:
    done = subprocess.run([sys.executable, "-m", "mmtrain.recipes", "--json"], capture_output=True, check=True)
    assert [row["name"] for row in json.loads(done.stdout)] == [recipe.name for recipe in RECIPES]
