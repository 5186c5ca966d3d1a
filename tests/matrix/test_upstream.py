"""Upstream's own configuration of every recipe, and ours from it; the unit tests make do with the parts they need."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtrain.config.build import build_config
from mmtrain.config.slots import parts
from mmtrain.engine.fit import upstream_config
from mmtrain.recipes import Recipe, all_recipes
from tests.unit.test_config import FILES
from tests.unit.test_plan import plan_of

EVERY = pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: f"{recipe.task.value}-{recipe.name}")
CLASSES = {"num_classes", "num_things_classes"}


@EVERY
@pytest.mark.parametrize("pretrained", [True, False])
def test_a_model_fetches_nothing_and_knows_our_classes(recipe: Recipe, pretrained: bool) -> None:
    """Weights come as `load_from` or not at all: no part of the model names any of its own."""
    plan = plan_of(recipe, pretrained=pretrained and recipe.weights is not None)
    config = build_config(upstream_config(recipe), recipe, plan, FILES, Path("/j/work"))
    text = repr(config["model"])
    assert "Pretrained" not in text
    assert "://" not in text
    counts = {part[key] for part in parts(config["model"]) for key in CLASSES & part.keys()}
    assert counts <= {len(plan.class_names)}
    assert not any(part.get("batch_augments") for part in parts(config))
