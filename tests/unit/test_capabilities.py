"""What the platform's UI reads says what the code does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mmtrain.capabilities import ALL, capabilities, frameworks, model_name, recipes_of
from mmtrain.config_schema import GROUPS, config_schema
from mmtrain.recipes import all_recipes, load_recipe
from mmtrain.request_check import check_request
from tests.unit.test_plan import FOUR_GPUS, plan_of
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.request.reading import read_train_spec
from trainer_sdk.tasks import TASK_ALIASES

MANDATORY = {"framework", "display_name", "description", "version", "models", "task_types", "dataset_formats"}
FIELD = {
    "name", "type", "default", "min", "max", "step", "options", "description", "group", "required", "advanced",
    "primary",
}  # fmt: skip
FRAMEWORKS = pytest.mark.parametrize("framework", frameworks())


def test_the_frameworks_are_those_of_the_recipes() -> None:
    assert {*frameworks()} == {ALL, *(recipe.base.partition("::")[0] for recipe in all_recipes())}


@FRAMEWORKS
def test_the_platform_finds_what_it_asks_for(framework: str) -> None:
    document = capabilities(framework)
    assert document.keys() == MANDATORY | {"metric_candidates_by_task"}
    assert document["framework"] == framework
    for model in document["models"]:
        assert {"model_name", "display_name", "task_types", "description", "supported"} <= model.keys()
        assert model["display_name"] and model["description"]
        assert {*model["task_types"]} <= {task["name"] for task in document["task_types"]}
    for entry in (*document["task_types"], *document["dataset_formats"]):
        assert entry.keys() == {"name", "display_name", "description", "supported"}


@FRAMEWORKS
def test_every_recipe_is_offered_under_a_name_that_leads_to_it(framework: str) -> None:
    models = capabilities(framework)["models"]
    assert len(models) == len({model["model_name"] for model in models}) == len(recipes_of(framework))
    for model, recipe in zip(models, recipes_of(framework), strict=True):
        assert load_recipe(model["model_name"], TASK_ALIASES[model["task_types"][0]]) is recipe
        if framework == ALL:
            assert load_recipe(model["model_name"]) is recipe  # without the task too


def test_a_recipe_without_a_name_of_its_own_is_a_mistake() -> None:
    recipe = load_recipe("rtmdet-tiny")
    with pytest.raises(ValueError, match="no spelling of its own"):
        model_name(recipe, [recipe, recipe.model_copy()])


@FRAMEWORKS
def test_every_metric_offered_can_choose_the_best_checkpoint(framework: str) -> None:
    document = capabilities(framework)
    of_task = document["metric_candidates_by_task"]
    for model in document["models"]:
        (task,) = model["task_types"]
        recipe = load_recipe(model["model_name"], TASK_ALIASES[task])
        assert of_task[task] == of_task[recipe.task.value]
        for metric in of_task[task]:
            assert metric.keys() == {"value", "label", "mode", "description"}
            config = TrainConfig(primary_metric=metric["value"], primary_metric_mode=metric["mode"])
            check_request(config, recipe, FOUR_GPUS)


def test_every_key_of_config_has_its_place_in_the_form() -> None:
    placed = [name for names in GROUPS.values() for name in names]
    assert sorted(placed) == sorted(TrainConfig.model_fields)
    offered = [field["name"] for field in config_schema(ALL)["fields"]]
    assert sorted(offered) == sorted(placed)


@FRAMEWORKS
def test_what_the_form_allows_the_request_takes(framework: str) -> None:
    document = config_schema(framework)
    assert document.keys() == {"framework", "description", "version", "fields", "presets"}
    for field in document["fields"]:
        assert field.keys() == FIELD
        assert field["type"] in ("int", "float", "bool", "select", "string")
        assert (field["options"] is not None) == (field["type"] == "select")
        for value in (field["default"], field["min"], field["max"], *(field["options"] or ())):
            if value is not None:
                assert TrainConfig.model_validate({field["name"]: value}).model_fields_set == {field["name"]}


@FRAMEWORKS
def test_a_field_is_offered_where_some_model_can_do_it(framework: str) -> None:
    offered = {field["name"] for field in config_schema(framework)["fields"]}
    assert ("keypoints" in offered) == any(recipe.keypoint_slots for recipe in recipes_of(framework))
    assert ("balanced_sampling" in offered) == (framework in (ALL, "mmdet"))
    assert {"fliplr", "flipud", "degrees", "hsv_h", "albumentations"} <= offered
    for name in ("mosaic", "mixup", "weak_epochs"):
        assert (name in offered) == (framework in (ALL, "mmdet"))


@FRAMEWORKS
def test_presets_suit_every_model(framework: str) -> None:
    for preset in config_schema(framework)["presets"].values():
        for recipe in recipes_of(framework):
            check_request(TrainConfig.model_validate(preset), recipe, FOUR_GPUS)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("lr_milestones", "[8, 11]", (8, 11)),
        ("lr_milestones", "8", (8,)),
        ("class_weights", "balanced", "balanced"),
        ("class_weights", '{"a": 2}', {"a": 2.0}),
        ("freeze", "backbone.stem", ("backbone.stem",)),
        ("freeze", '["backbone", "neck"]', ("backbone", "neck")),
        ("val_interval", "[[0, 5], [40, 1]]", ((0, 5), (40, 1))),
        ("amp", "off", False),
    ],
)
def test_a_line_of_a_form_may_hold_a_list_or_an_object(key: str, text: str, value: Any) -> None:
    environ = {"JOB_ID": "1", "MODEL_NAME": "m", "DATASET_ID": "d"}
    with_config = {**environ, "CONFIG": json.dumps({key: text})}
    assert getattr(read_train_spec(with_config).config, key) == value


def test_a_plan_can_be_made_of_every_default() -> None:
    for framework in frameworks():
        defaults = {field["name"]: field["default"] for field in config_schema(framework)["fields"]}
        asked = {name: value for name, value in defaults.items() if value is not None}
        assert plan_of("rtmdet-tiny", **asked).amp.value == "off"
