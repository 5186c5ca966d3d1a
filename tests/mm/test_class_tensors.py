"""Which tensors of a real model belong to its classes: found by building it with one class more."""

from __future__ import annotations

import pytest

from mmtrain import compat
from mmtrain.config.build import TASKS
from mmtrain.recipes import load_recipe
from tests.unit.test_plan import plan_of


@pytest.mark.parametrize(
    ("model", "heads"),
    [
        ("rtmdet-tiny", {f"bbox_head.rtm_cls.{level}" for level in range(3)}),
        ("faster-rcnn-r50", {"roi_head.bbox_head.fc_cls", "roi_head.bbox_head.fc_reg"}),
    ],
)
def test_one_more_class_changes_the_class_heads_alone(model: str, heads: set[str]) -> None:
    compat.apply()
    compat.import_quietly("mmdet")
    import torch
    from mmdet.utils import register_all_modules
    from mmengine.config import ConfigDict
    from mmengine.registry import MODELS

    from mmtrain.engine.fit import _shapes, upstream_config

    register_all_modules()
    plan, recipe = plan_of(model), load_recipe(model)
    config = TASKS[recipe.task].build_model(upstream_config(recipe)["model"], recipe, plan)
    state = MODELS.build(ConfigDict(config)).state_dict()
    before = torch.get_rng_state()
    wider = _shapes(plan, (*plan.class_names, "c"))
    assert torch.equal(torch.get_rng_state(), before)
    changed = {name for name, tensor in state.items() if tuple(tensor.shape) != wider[name]}
    assert changed == {f"{head}.{part}" for head in heads for part in ("weight", "bias")}
