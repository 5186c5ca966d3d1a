"""What of a checkpoint fits the model that is about to be trained, and a clean file with just that.

MMEngine loads what has the right name and shape and writes the rest into its log. Here the rest is told: heads for
another number of classes begin anew, by name; a file of another model ends the job; and classes whose places in the
head have changed are not taken for each other.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmtrain.engine.messages import WeightsLoaded
from trainer_sdk.errors import CheckpointError

State = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]

STATE_KEYS = ("state_dict", "model_state_dict", "model", "ema_state_dict", "state_dict_ema", "model_ema")
"""Where trainers keep the weights. MMEngine has the averaged ones in `state_dict`, the others in `ema_state_dict`."""
PREFIXES = ("module.", "_orig_mod.", "model.")
"""Of DistributedDataParallel and averaged models, of torch.compile, of Lightning."""
NO_WEIGHT = re.compile(r"data_preprocessor\.|ema_[^.]+$|steps$")
"""The image mean; what MMDetection 2 kept as buffers beside the averages that it saved as the weights
(`ema_backbone_stem_...`); the count of averages."""
BACKBONE = "backbone."
LEAST_OF_BACKBONE = 0.8
"""Share of the backbone's tensors that must fit. Siblings of other widths share none, a changed stem costs a few."""
UNTRAINED = ("num_batches_tracked",)
SHOWN_MISMATCHES = 5


class Start(NamedTuple):
    """What fits, and what is said about the rest."""

    state: State
    told: WeightsLoaded


def fitting(
    checkpoint: dict[str, Any],
    model: nn.Module,
    *,
    name: str,
    recipe: str,
    class_names: tuple[str, ...],
    keypoint_names: tuple[str, ...] = (),
    shapes_with_one_more: Callable[[], Shapes],
) -> Start:
    """What of `checkpoint` may be loaded into `model`.

    Args:
        name: what people call the file.
        shapes_with_one_more: of the model's tensors if it had one more class; called only when it matters.

    Raises:
        CheckpointError: no weights, or those of another model.
    """
    wanted = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items() if not key.endswith(UNTRAINED)}
    found = _in_the_models_words(_bare_state(checkpoint, name), model, wanted)
    same_shape = {key for key, shape in wanted.items() if key in found and tuple(found[key].shape) == shape}
    _check_backbone(wanted, found, same_shape, name, recipe, _trained_as(checkpoint))
    classes = classes_of(checkpoint)
    moved = _moved(classes, class_names)
    anew = _class_tensors(wanted, shapes_with_one_more()) & same_shape if moved else set()
    taken = same_shape - anew
    told = WeightsLoaded(
        source=name,
        loaded=len(taken),
        total=len(wanted),
        reinitialised=[key for key in wanted if key in anew or (key in found and key not in same_shape)],
        missing=[key for key in wanted if key not in found],
        unexpected=[key for key in found if key not in wanted and not key.endswith(UNTRAINED)],
        class_remark=_class_remark(classes, class_names, moved) or _keypoint_remark(checkpoint, keypoint_names),
    )
    counters = {key for key in found if key.endswith(UNTRAINED) and key.rpartition(".")[0] + ".running_mean" in taken}
    return Start({key: found[key] for key in (*taken, *counters)}, told)


def write_start(start: Start, model: nn.Module, target: Path) -> None:
    """A file for MMEngine's `load_from`, with what fits and nothing else."""
    state = OrderedDict(start.state)
    state._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]  # names are today's: nothing to convert
    torch.save({"state_dict": state, "meta": {}}, target)


def _bare_state(checkpoint: dict[str, Any], name: str) -> OrderedDict[str, Tensor]:
    """The tensors by name, out of whatever wraps them."""
    holders = (checkpoint.get(key) for key in STATE_KEYS)
    holder = next((held for held in holders if isinstance(held, dict) and _tensors(held)), checkpoint)
    state = _tensors(holder)
    if not state:
        keys = ", ".join(map(str, list(checkpoint)[:10])) or "nothing"
        raise CheckpointError(
            f"the checkpoint {name} holds no weights: it has {keys}", hint=f"expected {STATE_KEYS[0]}"
        )
    while prefix := next((one for one in PREFIXES if 2 * sum(key.startswith(one) for key in state) > len(state)), ""):
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    result = OrderedDict((key, tensor) for key, tensor in state.items() if not NO_WEIGHT.match(key))
    result._metadata = getattr(holder, "_metadata", {})  # type: ignore[attr-defined]  # versions, for the conversion
    return result


def _tensors(state: dict[Any, Any]) -> State:
    return {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _in_the_models_words(state: OrderedDict[str, Tensor], model: nn.Module, wanted: Shapes) -> State:
    """Names of earlier versions as today's model has them, by its own conversions; a bare backbone gets its prefix."""
    if not any(key.startswith(BACKBONE) for key in state):
        prefixed = {BACKBONE + key: tensor for key, tensor in state.items()}
        if any(key in wanted for key in prefixed):
            return prefixed
    converted, metadata = state.copy(), getattr(state, "_metadata", {})
    shadow = copy.deepcopy(model).to("meta")  # what is loaded into it costs nothing and goes nowhere

    def visit(module: nn.Module, prefix: str) -> None:
        known = metadata.get(prefix[:-1], {})
        module._load_from_state_dict(converted, prefix, known, False, [], [], [])
        for name, child in module.named_children():
            visit(child, f"{prefix}{name}.")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that copying to nowhere does nothing
        visit(shadow, "")
    return dict(converted)


def _check_backbone(
    wanted: Shapes, found: State, same_shape: set[str], name: str, recipe: str, trained_as: str | None
) -> None:
    backbone = [key for key in wanted if key.startswith(BACKBONE)] or list(wanted)
    fit = sum(key in same_shape for key in backbone)
    if fit >= LEAST_OF_BACKBONE * len(backbone):
        return
    others = [
        f"{key} {wanted[key]}: " + (f"{tuple(found[key].shape)} in the file" if key in found else "not in the file")
        for key in backbone
        if key not in same_shape
    ]
    says = f"it says that it is one of {trained_as}" if trained_as else f"it begins with {', '.join(list(found)[:3])}"
    raise CheckpointError(
        f"{name} is no checkpoint of {recipe}: {fit} of the {len(backbone)} tensors of the backbone fit, "
        f"{LEAST_OF_BACKBONE:.0%} must; {says}; the first that do not fit: {'; '.join(others[:SHOWN_MISMATCHES])}",
        hint="set MODEL_NAME to the model that wrote it, name another CHECKPOINT_PATH, leave it out to start from the "
        "published weights, or train from scratch with CONFIG.basic.pretrained=false",
    )


def _trained_as(checkpoint: dict[str, Any]) -> str | None:
    recipe = _meta(_meta(checkpoint, "meta"), "trainer").get("recipe")
    return recipe if isinstance(recipe, str) else None


def classes_of(checkpoint: dict[str, Any]) -> tuple[str, ...] | None:
    """Ours and today's packages write `dataset_meta`, earlier ones `CLASSES`."""
    meta = _meta(checkpoint, "meta")
    places = (_meta(meta, "dataset_meta").get(key) for key in ("classes", "CLASSES"))
    for names in (*places, meta.get("CLASSES")):
        if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
    return None


def _meta(holder: dict[str, Any], key: str) -> dict[str, Any]:
    found = holder.get(key)
    return found if isinstance(found, dict) else {}


def _moved(theirs: tuple[str, ...] | None, ours: tuple[str, ...]) -> list[str]:
    """Classes that both know, at different places of heads of the same size."""
    if theirs is None or len(theirs) != len(ours):
        return []
    return [name for index, name in enumerate(ours) if name in theirs and theirs[index] != name]


def _class_tensors(wanted: Shapes, with_one_more: Shapes) -> set[str]:
    return {key for key, shape in wanted.items() if with_one_more.get(key) != shape}


def _class_remark(theirs: tuple[str, ...] | None, ours: tuple[str, ...], moved: list[str]) -> str | None:
    if theirs is None or theirs == ours or len(theirs) != len(ours):
        return None
    lists = f"{', '.join(theirs)} in the checkpoint, {', '.join(ours)} in the data"
    if moved:
        return f"the classes have other places ({lists}): their heads begin anew"
    return f"the classes have other names ({lists}): their heads start from the checkpoint's all the same"


def _keypoint_remark(checkpoint: dict[str, Any], ours: tuple[str, ...]) -> str | None:
    """Ours says them in its description, MMPose's in `keypoint_id2name`."""
    meta = _meta(checkpoint, "meta")
    named = _meta(meta, "trainer").get("keypoints") or list(
        _meta(_meta(meta, "dataset_meta"), "keypoint_id2name").values()
    )
    theirs = tuple(map(str, named)) if isinstance(named, list) else ()
    if len(theirs) != len(ours) or theirs == ours:
        return None
    lists = f"{', '.join(theirs)} in the checkpoint, {', '.join(ours)} in the data"
    return f"the keypoints have other names or places ({lists}): the head starts from the checkpoint's all the same"
