"""The process that exports: an order of the parent in, a folder with the package and one summary out."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import torch

from converters.pose_files import sigmas_of
from mmtrain.engine.messages import MessageWriter, Progressed
from mmtrain.engine.model_of import LoadedModel, load_model
from mmtrain.engine.serving import serve
from mmtrain.exporters.asked import check_recipe
from mmtrain.exporters.certificate import Certificate
from mmtrain.exporters.export import Source, export
from mmtrain.exporters.metadata import About
from mmtrain.exporters.order import EXPORTED, FOLDER, Exported, ExportOrder
from mmtrain.exporters.validating import Images
from trainer_sdk.workspace import write_json


def run(order: ExportOrder, work_dir: Path, writer: MessageWriter) -> None:
    """Exports and proves."""
    cv2.setNumThreads(1)
    torch.set_num_threads(order.threads)
    wanted = order.model
    loaded = load_model(
        wanted.path,
        device="cpu",
        name=wanted.name,
        model_name=wanted.model_name,
        task=wanted.task,
        class_names=wanted.class_names,
        keypoints=wanted.keypoints,
    )
    check_recipe(loaded.recipe.name, loaded.recipe.exports, order.export_format)
    certificate = export(
        source_of(loaded),
        order.config,
        order.export_format,
        work_dir / FOLDER,
        images=_images(order, loaded),
        threads=order.threads,
        say=lambda what, done, total: writer.say(Progressed(what=what, done=done, total=total)),
    )
    write_json(work_dir / EXPORTED, _summary(certificate).model_dump(mode="json"))


def source_of(loaded: LoadedModel) -> Source:
    """What an exporter needs of a model out of a checkpoint."""
    points = loaded.keypoints
    recipe, description = loaded.recipe, loaded.description
    return Source(
        model=loaded.model,
        pipeline=[dict(step) for step in loaded.cfg.test_dataloader.dataset.pipeline],
        preprocessor=dict(loaded.cfg.model.data_preprocessor),
        scope=loaded.cfg.default_scope,
        task=loaded.task,
        size_multiple=recipe.size_multiple,
        about=About(
            model_name=recipe.name,
            task=loaded.task.value,
            framework=recipe.base.partition("::")[0],
            class_names=loaded.class_names,
            class_ids=loaded.class_ids,
            keypoint_names=tuple(points.names) if points else (),
            skeleton=tuple(points.skeleton) if points else (),
            flip_pairs=tuple((one - 1, other - 1) for one, other in points.flip_pairs) if points else (),
            licence=recipe.weights.license if recipe.weights else "",
            trained_on=description.get("dataset", {}) if isinstance(description.get("dataset"), dict) else {},
        ),
    )


def _images(order: ExportOrder, loaded: LoadedModel) -> Images | None:
    if order.images_root is None or order.annotations is None:
        return None
    sigmas = sigmas_of(loaded.keypoints.names) if loaded.keypoints else ()
    return Images(root=order.images_root, annotations=order.annotations, sigmas=tuple(sigmas))


def _summary(certificate: Certificate) -> Exported:
    found = certificate.validation
    said = f"{found.metric} {found.pytorch.overall} -> {found.exported.overall}, " if found else ""
    probes = max(certificate.probes.largest, certificate.probes.pixels, *certificate.tensors.errors.values(), 0.0)
    return Exported(
        verdict=certificate.verdict,
        failures=tuple(certificate.failures),
        model_bytes=certificate.file.size_bytes,
        summary=f"{said}largest error on the probes {probes:.2g}",
    )


if __name__ == "__main__":
    sys.exit(serve(run, ExportOrder, Path(sys.argv[1])))
