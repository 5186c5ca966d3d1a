"""The export job, from a request to a published package that is proven to be the trained model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from converters import write_conversion
from converters.mask_list import MASKS
from mmtrain.datasets.fetch import fetch, read_snapshot
from mmtrain.datasets.preflight import preflight
from mmtrain.display import Display
from mmtrain.exporters.archive import CERTIFICATE, CERTIFICATE_PAGE, zipped
from mmtrain.exporters.asked import check, check_machine, check_recipe
from mmtrain.exporters.order import EXPORTED, FOLDER, Exported, ExportOrder
from mmtrain.jobs.alone import let_worker_do
from mmtrain.jobs.evaluate import facts_of, raise_if_unusable, source_of
from mmtrain.machine import look_at_machine
from mmtrain.recipes import load_recipe
from trainer_sdk.errors import ExportError
from trainer_sdk.jobspec import ExportSpec
from trainer_sdk.model_events import ExportCompleted
from trainer_sdk.session import JobSession
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.tasks import Task

REJECTED = "rejected"


def run(spec: ExportSpec, session: JobSession) -> ExportCompleted:
    """From a request to a published package.

    Raises:
        ExportError: the certificate says that the file is not the trained model.
    """
    space = session.workspace
    space.save("job.json", spec)
    for note in spec.notes:
        session.log(note, level="WARNING")
    with session.step("check"), Display("checking", unit="models") as display:
        machine = look_at_machine(session.environ)
        check(spec.config, spec.format)
        check_machine(spec.format, machine.gpus)
        source = source_of(spec, session, "cpu")
        facts = facts_of(source, machine, session, display) if spec.dataset else None  # before data are moved for it
        if facts:
            check_recipe(facts.recipe, load_recipe(facts.recipe, facts.task).exports, spec.format)
    validation = _validation_images(spec, facts.task if facts else None, session)
    shutil.rmtree(space.work / FOLDER, ignore_errors=True)
    order = ExportOrder(
        parent=os.getpid(),
        threads=machine.cores,
        model=source,
        export_format=spec.format,
        config=spec.config,
        images_root=validation[0] if validation else None,
        annotations=validation[1] if validation else None,
    )
    gpus = (0,) if spec.format == "tensorrt" and machine.gpus else ()
    with session.step("export"), Display("exporting", unit="steps") as display:
        let_worker_do("mmtrain.exporters.worker", order, session, display, gpus=gpus)
        exported = Exported.model_validate_json((space.work / EXPORTED).read_bytes())
    session.log(f"certificate: {exported.verdict}; {exported.summary}")
    with session.step("publish"):
        where, size_bytes = _published(spec, session, passed=exported.verdict == "pass")
    if exported.verdict != "pass":
        raise ExportError(
            f"the {spec.format} file is not the trained model: {'; '.join(exported.failures)}",
            hint=f"certificate.html says how it was compared; the file is kept at {where} for a look, not for use",
        )
    said = {"package": where, "package_bytes": size_bytes, "verdict": exported.verdict, "summary": exported.summary}
    return ExportCompleted(output_s3_uri=where, file_size_bytes=exported.model_bytes, metadata=said)


def _validation_images(spec: ExportSpec, task: Task | None, session: JobSession) -> tuple[Path, Path] | None:
    """Where the images and the truth of the validation split lie; None where no data set is named."""
    if spec.dataset is None:
        session.log("no data set is named: the certificate compares on its probes alone", level="WARNING")
        return None
    space = session.workspace
    with session.step("fetch"), Display("fetching", unit="images") as display:
        fetched = fetch(spec.dataset, task, session.settings, display)
    with session.step("inspect"), Display("checking", unit="images") as display:
        snapshot = read_snapshot(spec.dataset, session.settings)  # says the training's split
        conversion, findings = preflight(fetched, task, display, snapshot=snapshot, keypoints=spec.config.keypoints)
        space.save("findings.json", findings)
        raise_if_unusable(findings)
        write_conversion(conversion, space.dataset, fetched.mask_path)
    folder = space.dataset / MASKS if conversion.task is Task.SEMANTIC else space.dataset
    return fetched.root, folder / "val.json"


def _published(spec: ExportSpec, session: JobSession, *, passed: bool) -> tuple[str, int]:
    """The zip with its certificate beside it; what did not pass lies apart, here and in the storage.

    Returns:
        Where the zip is, and its size.
    """
    space = session.workspace
    for name in (CERTIFICATE, CERTIFICATE_PAGE):
        shutil.copy2(space.work / FOLDER / name, space.out / name)
    name = f"export_{spec.job_id}.zip"
    folder = space.out if passed else space.out / REJECTED
    folder.mkdir(exist_ok=True)
    archive = zipped(space.work / FOLDER, folder / name)
    size_bytes = archive.stat().st_size
    shutil.rmtree(space.work / FOLDER)
    if not session.settings.checkpoints.from_environment:
        return str(archive), size_bytes
    storage = open_storage(session.settings.checkpoints)
    prefix = "/".join(
        part for part in ("" if passed else REJECTED, "exports", spec.training_job_id or "", spec.job_id) if part
    )
    for beside in (CERTIFICATE, CERTIFICATE_PAGE):
        storage.upload(space.out / beside, f"{prefix}/{beside}")
    return storage.upload(archive, f"{prefix}/{name}"), size_bytes
