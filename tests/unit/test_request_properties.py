"""Any request for any model ends in a whole configuration or in a refusal that is ours, never in a traceback."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from converters.keypoints import default_schema
from mmtrain.config.build import build_config
from mmtrain.plan import make_plan
from mmtrain.recipes import Recipe, all_recipes
from mmtrain.request_check import check_request
from tests.unit.test_config import FILES, base_of
from tests.unit.test_plan import CPU, FOUR_GPUS, profile_of
from trainer_sdk.config.forms import TRAIN
from trainer_sdk.errors import JobError
from trainer_sdk.request.reading import read_train_spec
from trainer_sdk.tasks import Task

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 0.5, 3, 1e9, "", "x", "0.5", "[1, 2]", [], [1], [[0, 1]], {}, {"a": 1},
)  # fmt: skip
LIKELY: dict[str, tuple[Any, ...]] = {
    "epochs": (1, 2, 10, 300),
    "batch": (1, 2, 7, 16, 4096, "auto"),
    "device": ("cpu", "0", "0,1", "0-3", "3-0", "9", "cuda"),
    "imgsz": (32, 64, 65, 96, [64, 128], [64], "640", 8192),
    "optimizer": ("SGD", "adam", "AdamW", "RMSprop"),
    "lr_scheduler": ("step", "multistep", "cosine", "linear", "poly", "onecycle", "constant", "none"),
    "lr_milestones": (3, [1], [1, 2], [8, 11], [2, 1], [0]),
    "warmup_epochs": (0, 0.3, 1, 1000),
    "warmup_iters": (0, 1, 10**6),
    "primary_metric": ("mAP", "mAP50", "mIoU", "AP", "loss", " mAP "),
    "val_interval": (1, 500, [[0, 5], [40, 1]], [[1, 1]], [[0, 2], [-1, 1]]),
    "class_weights": ("balanced", {"a": 2}, {"zz": 1}, {"a": 0, "b": 0}),
    "balanced_sampling": (True, False, 0.5),
    "freeze": ("backbone", ["backbone.stem", "neck"], ["x*"]),
    "split_config": ({"method": "random"}, {"method": "x"}, {"ratio": [0.5, 0.5]}),
    "keypoints": ({"names": ["p", "q"]}, {"names": []}, {"names": ["p", "p"]}),
}
KEYS = sorted(TRAIN.key_to_name.keys() - {"albumentations"})  # whose package takes seconds to be imported


def request_of(chance: random.Random) -> dict[str, Any]:
    """A few keys in any spelling; most values are such as a user would try."""
    keys = chance.sample(KEYS, chance.choice([1, 1, 2, 3]))
    return {
        key: chance.choice(LIKELY.get(TRAIN.key_to_name[key], ODD) if chance.random() < 0.9 else ODD) for key in keys
    }


def configure(recipe: Recipe, request: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    environ = {"JOB_ID": "1", "MODEL_NAME": recipe.name, "TASK_TYPE": recipe.task.value, "DATASET_PATH": "/d"}
    spec = read_train_spec({**environ, "CONFIG": orjson.dumps(request).decode()})
    machine, images = chance.choice([CPU, FOUR_GPUS]), chance.choice([1, 2, 3, 100])
    check_request(spec.config, recipe, machine)
    names = ("a",) if recipe.one_stage else ("a", "b")
    counts = {name: {"train": images, "val": 1, "test": 0} for name in names}
    plan = make_plan(
        spec,
        recipe,
        machine,
        class_names=names,
        profile=profile_of(images).model_copy(update={"objects_per_class": counts}),
        weights_file=None,
        keypoints=default_schema(17) if recipe.task is Task.POSE else None,
    )
    assert plan.iters_per_epoch.value >= 1
    if recipe.task is Task.POSE:  # whose bases are upstream's files: test_config_pose.py
        return {"param_scheduler": []}
    return build_config(base_of(recipe), recipe, plan, FILES, Path("/j/work"))


@pytest.mark.parametrize("seed", range(4))
def test_every_request_is_honoured_or_refused_by_name(seed: int) -> None:
    chance = random.Random(seed)
    honoured = refused = 0
    for recipe in all_recipes() * 8:
        try:
            config = configure(recipe, request_of(chance), chance)
        except JobError:
            refused += 1
        else:
            assert all(part.get("end", 1) > part.get("begin", 0) for part in config["param_scheduler"])
            honoured += 1
    assert min(honoured, refused) > 20
