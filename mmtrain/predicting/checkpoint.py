"""A checkpoint as a `Predictor`."""

from __future__ import annotations

import torch

from mmtrain.engine.model_of import LoadedModel, load_source
from mmtrain.predicting.found import Classes
from mmtrain.predicting.options import Options
from mmtrain.predicting.order import PredictOrder
from mmtrain.predicting.torch_model import TorchPredictor
from mmtrain.reports.drawing import Skeleton
from trainer_sdk.tasks import Task


def open_checkpoint(order: PredictOrder) -> tuple[TorchPredictor, Skeleton, tuple[str, ...]]:
    """The model of a checkpoint of ours or, with recipe and class names, of upstream's.

    Raises:
        CheckpointError: it is none, or does not fit.
        ConfigError: an option that this model cannot honour.
    """
    torch.set_num_threads(order.threads)
    loaded = load_source(order.model)
    return predictor_of(loaded, order.options), _skeleton(loaded), _notes(loaded)


def predictor_of(loaded: LoadedModel, options: Options) -> TorchPredictor:
    """Limited as the options say."""
    pairs = [(one - 1, other - 1) for one, other in loaded.keypoints.flip_pairs] if loaded.keypoints else []
    points = len(loaded.keypoints.names) if loaded.keypoints else 0
    classes = Classes.of(loaded.class_names, loaded.class_ids)
    return TorchPredictor(loaded.model, loaded.cfg, loaded.task, classes, options, points=points, flip_pairs=pairs)


def _skeleton(loaded: LoadedModel) -> Skeleton:
    if loaded.keypoints is None:
        return Skeleton()
    limbs = [(start - 1, end - 1) for start, end in loaded.keypoints.skeleton]
    return Skeleton(loaded.keypoints.names, limbs)


def _notes(loaded: LoadedModel) -> tuple[str, ...]:
    """What a user would not expect."""
    if loaded.task is Task.POSE and not loaded.recipe.one_stage:
        return (
            f"{loaded.recipe.name} looks at the box around one object: images come as a whole where the list of images "
            'gives no boxes ({"file": ..., "boxes": [[x, y, width, height]]})',
        )
    return ()
