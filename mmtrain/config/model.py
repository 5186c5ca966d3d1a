"""What every task changes in upstream's model, at the places that the recipe names."""

from __future__ import annotations

import copy
from typing import Any

from mmtrain.config.slots import drop_downloads, replace_sync_bn, set_slot
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe

Dict = dict[str, Any]

NO_OBJECT_WEIGHT = 0.1
"""Of the class "no object" in Mask2Former's loss (arXiv:2112.01527, appendix; upstream's class_weight ends in it)."""


def model_for(model: Dict, recipe: Recipe, plan: TrainPlan) -> Dict:
    """A copy for our classes and frozen stages, without a download of its own."""
    model = copy.deepcopy(model)
    for slot in recipe.class_slots:
        set_model_slot(model, slot, len(plan.class_names))
    for slot in recipe.class_weight_slots:
        weights = plan.class_weights.value or (1.0,) * len(plan.class_names)
        set_model_slot(model, slot, [*weights, NO_OBJECT_WEIGHT])
    drop_downloads(model)  # weights come from `load_from` or from nowhere
    if recipe.freezable:
        _set_backbone(model["backbone"], plan)
    if not plan.sync_bn.value:
        replace_sync_bn(model)
    return model


def set_model_slot(model: Dict, slot: str, value: Any, *, new: bool = False) -> None:
    """At a path as recipes write it, which begins with the model itself."""
    set_slot(model, slot.removeprefix("model."), value, new=new)


def _set_backbone(backbone: Dict, plan: TrainPlan) -> None:
    backbone["frozen_stages"] = plan.backbone_frozen_stages.value
    backbone["norm_eval"] = plan.norm_eval.value
    if plan.from_scratch and "requires_grad" in backbone.get("norm_cfg", {}):
        backbone["norm_cfg"]["requires_grad"] = (
            True  # DETR, FCOS, Mask2Former freeze ImageNet's; a random one must learn
        )
