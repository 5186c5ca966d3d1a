"""The layers of every head whose outputs follow the number of classes (or keypoints), by the names upstream gave them.

A model that has such a layer which is not named here fails the matrix, and so does one whose layer has another number
of outputs: together they say that no slot of a recipe was forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase

from torch import nn

Outputs = Callable[[int], int]


def each(classes: int) -> int:
    """One output per class."""
    return classes


def and_none(classes: int) -> int:
    """And one for background, or for "no object"."""
    return classes + 1


BY_CLASSES: dict[str, Outputs] = {
    # mmdet, one stage
    "bbox_head.rtm_cls.*": each,
    "bbox_head.multi_level_conv_cls.*": each,
    "bbox_head.retina_cls": lambda classes: 9 * classes,  # three scales of three ratios at every position
    "bbox_head.conv_cls": each,
    "bbox_head.atss_cls": each,
    "bbox_head.heatmap_head.2": each,
    # mmdet, two stages and cascades
    "roi_head.bbox_head.fc_cls": and_none,
    "roi_head.bbox_head.fc_reg": lambda classes: 4 * classes,
    "roi_head.bbox_head.?.fc_cls": and_none,  # a cascade's boxes are the same for all classes
    "roi_head.mask_head.conv_logits": each,
    "roi_head.mask_head.?.conv_logits": each,
    # mmdet, transformers
    "bbox_head.fc_cls": and_none,
    "bbox_head.cls_branches.*": each,
    "dn_query_generator.label_embedding": each,
    "panoptic_head.cls_embed": and_none,
    # mmseg
    "decode_head.conv_seg": each,
    "auxiliary_head.conv_seg": each,
    "auxiliary_head.?.conv_seg": each,
    "decode_head.p_cls_seg": each,  # PIDNet's branch of parts; its one output for outlines is the same for all
    "decode_head.aux_cls_seg": each,
    "decode_head.cls_embed": and_none,
}

BY_POINTS: dict[str, Outputs] = {
    "head.final_layer": each,
    "head.head_module.out_kpt_reg.?": lambda points: 2 * points,
    "head.head_module.out_kpt_vis.?": each,
    "head.dcc.pose_to_kpts.?": lambda points: 128 * points,
    "head.dcc.sigma_fc.0": each,
}
"""Of poses; their classes change nothing."""

NOT_LAYERS = {"head.dcc", "panoptic_head.loss_cls", "decode_head.loss_cls"}
"""Hold weights per class or a vector per point, and no outputs."""


def outputs_of(module: nn.Module) -> int:
    """Of a linear layer, a convolution or an embedding."""
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    return weight.shape[0]


def class_layers(model: nn.Module, larger: nn.Module) -> set[str]:
    """Modules with a parameter or buffer that changes its shape when there is one class or point more."""
    shapes = {name: value.shape for name, value in larger.state_dict().items()}
    changed = {name.rpartition(".")[0] for name, value in model.state_dict().items() if value.shape != shapes[name]}
    return changed - NOT_LAYERS


def expected_outputs(module: str, table: dict[str, Outputs], count: int) -> int | None:
    """None for a layer that the table does not know."""
    return next((outputs(count) for pattern, outputs in table.items() if fnmatchcase(module, pattern)), None)
