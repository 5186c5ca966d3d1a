"""Loads what was written back in its own runtime and compares it with the trained model. There is no export without."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mmtrain.exporters.certificate import (
    LARGEST_DROP,
    Certificate,
    FileFacts,
    Precision,
    Speed,
    Tensors,
    Tolerances,
    Validation,
)
from mmtrain.exporters.comparing import Difference, difference
from mmtrain.exporters.graphs.graph import Graph
from mmtrain.exporters.probes import probe_images
from mmtrain.exporters.progress import Say, silent
from mmtrain.exporters.reference import Reference
from mmtrain.exporters.runtime.predict_standalone import Array, Place, Predictor
from mmtrain.exporters.timing import timed
from mmtrain.exporters.validating import Images, measured
from trainer_sdk.tasks import Task

SCORE_MARGIN = 2e-3
BATCHES = (1, 8)


@dataclass(frozen=True)
class Candidate:
    """A file that was written, with all that it was made from."""

    task: Task
    model_name: str
    export_format: str
    precision: Precision
    opset: int | None
    folder: Path
    """With `metadata.json` and the model."""
    model_files: tuple[Path, ...]
    graph: Graph
    reference: Reference
    operators: dict[str, int]
    runtime: dict[str, str]
    notes: tuple[str, ...] = ()


def verify(
    candidate: Candidate,
    *,
    tolerance: float = 1e-3,
    max_drop: float | None = None,
    images: Images | None = None,
    most_images: int = 10,
    class_names: Sequence[str] = (),
    threads: int = 0,
    measure_speed: bool = True,
    say: Say = silent,
) -> Certificate:
    """Everything the certificate says.

    Args:
        tolerance: of the probes, relative.
        max_drop: points of the metric; else by precision.
        images: validation images with their truth.
        threads: of the runtime and of PyTorch in the timing; 0: their own choice.
    """
    predictor = Predictor(candidate.folder, threads=threads)
    drop = LARGEST_DROP[candidate.precision] if max_drop is None else max_drop
    return Certificate(
        model_name=candidate.model_name,
        task=candidate.task.value,
        format=candidate.export_format,
        precision=candidate.precision,
        opset=candidate.opset,
        file=_facts(candidate),
        tolerances=Tolerances(probe=tolerance, drop_points=drop),
        tensors=_tensors(candidate.graph, predictor),
        probes=_probes(candidate, predictor, say),
        probe_images=len(probe_images()),
        validation=_validation(candidate, predictor, images, most_images, class_names, say),
        speed=_speed(candidate.graph, predictor, threads, say) if measure_speed else None,
        runtime=candidate.runtime,
        notes=candidate.notes,
    )


def _validation(
    candidate: Candidate,
    predictor: Predictor,
    images: Images | None,
    most: int,
    class_names: Sequence[str],
    say: Say,
) -> Validation | None:
    if images is None:
        return None
    sees = (candidate.reference.predict, predictor.predict)
    return measured(candidate.task, images, most, class_names, sees, say=say)


def _probes(candidate: Candidate, predictor: Predictor, say: Say) -> Difference:
    """The largest differences over all fixed images."""
    found, images = Difference(), probe_images()
    for number, image in enumerate(images, start=1):
        size = (image.shape[0], image.shape[1])
        found |= difference(candidate.reference.predict(image), predictor.predict(image), size, margin=SCORE_MARGIN)
        say("comparing probes", number, len(images))
    return found


def _tensors(graph: Graph, predictor: Predictor) -> Tensors:
    """Every output for one input, as the runtime prepares it, by the file and by PyTorch."""
    prepared = predictor.prepare(probe_images()[0])
    exported = predictor.run(prepared.tensor[None], [prepared.place])
    with torch.inference_mode():
        outputs = graph.module(*_inputs(graph, predictor, prepared.tensor[None], [prepared.place]))
    outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
    errors, skipped = {}, []
    for name, output in zip(graph.outputs, outputs, strict=True):
        expected = output.numpy()
        if expected.shape != exported[name].shape or name.startswith(("det_", "top_")):  # order may differ among equals
            skipped.append(name)
            continue
        errors[name] = relative(expected, exported[name])
    return Tensors(errors=errors, not_compared=tuple(skipped))


def relative(expected: Array, found: Array) -> float:
    """Largest difference over the largest value."""
    apart = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0)
    return float(apart / max(float(np.abs(expected).max(initial=0.0)), 1e-12))


def normalised(images: torch.Tensor, pre: dict[str, object]) -> torch.Tensor:
    """What the graph does itself where the preprocessing is embedded."""
    inner = pre["embedded_values"]
    assert isinstance(inner, dict)
    pixels = images.flip(1) if inner["color_space"] == "RGB" else images
    mean, std = (torch.tensor(inner[name], dtype=torch.float32)[None, :, None, None] for name in ("mean", "std"))
    return (pixels - mean) / std


def _speed(graph: Graph, predictor: Predictor, threads: int, say: Say) -> Speed:
    """Of batches of 1 and 8; what takes fewer images at a time takes them in turns."""
    if threads:
        torch.set_num_threads(threads)
    prepared = predictor.prepare(probe_images()[0])
    most = predictor.most_at_a_time
    note = f"The file takes {most} at a time: eight are in turns." if 0 < most < max(BATCHES) else ""
    pytorch, exported = [], []
    for number, batch in enumerate(BATCHES):
        say("timing", number, len(BATCHES))
        images = np.ascontiguousarray(np.repeat(prepared.tensor[None], batch, axis=0))
        parts = [slice(at, at + (most or batch)) for at in range(0, batch, most or batch)]
        places = [prepared.place] * batch
        exported.append(timed(lambda: [predictor.run(images[part], places[part]) for part in parts], batch))  # noqa: B023
        inputs = _inputs(graph, predictor, images, places)
        turns = parts if graph.one_image else [slice(0, batch)]
        with torch.inference_mode():
            pytorch.append(timed(lambda: [graph.module(*(one[part] for one in inputs)) for part in turns], batch))  # noqa: B023
    return Speed(
        threads=threads or torch.get_num_threads(), pytorch=tuple(pytorch), exported=tuple(exported), note=note
    )


def _inputs(graph: Graph, predictor: Predictor, images: Array, places: list[Place]) -> list[torch.Tensor]:
    """Of the graph in PyTorch, from the file's."""
    inputs = [torch.from_numpy(images)]
    if predictor.metadata["preprocessing"]["embedded"]:
        inputs = [normalised(inputs[0], predictor.metadata["preprocessing"])]
    if graph.picture_input:
        inputs.append(torch.tensor([place.picture_hw for place in places], dtype=torch.float32))
    return inputs


def _facts(candidate: Candidate) -> FileFacts:
    digest = hashlib.sha256()
    for path in candidate.model_files:
        digest.update(path.read_bytes())
    return FileFacts(
        name=" + ".join(path.name for path in candidate.model_files),
        size_bytes=sum(path.stat().st_size for path in candidate.model_files),
        sha256=digest.hexdigest(),
        operators=dict(sorted(candidate.operators.items())),
    )
