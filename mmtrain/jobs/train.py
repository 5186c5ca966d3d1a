"""The train job, from a request to published weights. Each step leaves a file to restart or debug from."""

from __future__ import annotations

import os
from typing import Literal

from converters import Conversion, convert, write_conversion
from mmtrain.config.build import DatasetFiles
from mmtrain.datasets.fetch import FetchedDataset, fetch, read_snapshot
from mmtrain.datasets.inspect import Findings, judge, look_at_images, with_real_sizes
from mmtrain.display import Display
from mmtrain.engine.launch import launch, supervise
from mmtrain.engine.messages import Finished
from mmtrain.engine.order import WorkerOrder
from mmtrain.jobs.narrator import Narrator
from mmtrain.jobs.publish import completed, publish
from mmtrain.jobs.report import report_training
from mmtrain.machine import look_at_machine
from mmtrain.plan import TrainPlan, check_request, make_plan
from mmtrain.recipes import load_recipe
from mmtrain.weights import obtain_weights
from trainer_sdk.events import Completed
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.session import JobSession


def run(spec: TrainSpec, session: JobSession) -> Completed:
    """From a request to published weights."""
    space = session.workspace
    space.save("job.json", spec)
    for note in spec.notes:
        session.log(note, level="WARNING")
    with session.step("check"):  # what can fail without the data fails before a byte of them is moved
        recipe = load_recipe(spec.model_name, spec.task)
        machine = look_at_machine(session.environ, space.folder)
        check_request(spec.config, recipe, machine)
        weights = obtain_weights(recipe, session.settings) if spec.config.pretrained else None
    with session.step("fetch"), Display("fetching", unit="images") as display:
        fetched = fetch(spec.dataset, recipe.task, session.settings, display)
        snapshot = read_snapshot(spec.dataset, session.settings)
    with session.step("inspect"), Display("checking", unit="images") as display:
        looks = look_at_images(fetched, display)
    with session.step("convert"):
        dice, split = with_real_sizes(fetched.dice, looks), spec.config.split_config
        conversion = convert(dice, recipe.task, config_split=split, snapshot=snapshot)
        conversion, findings = judge(conversion, fetched, looks)
        space.save("findings.json", findings)
        findings.raise_if_blocked()
        write_conversion(conversion, space.dataset)
        _tell_findings(findings, session)
    with session.step("plan"):
        plan = make_plan(
            spec,
            recipe,
            machine,
            class_names=conversion.class_names,
            train_images=findings.images["train"],
            weights_file=str(weights) if weights else None,
        )
        space.save("plan.json", plan)
    with session.step("train"), Display("starting", unit="iterations") as display:
        narrator = Narrator(plan, session, display)
        finished = _train(plan, fetched, conversion, session, narrator)
    with session.step("report"):
        report = report_training(spec, recipe, plan, findings, finished, narrator.curves, fetched, space)
    with session.step("publish"):
        artifacts = publish(spec, recipe, fetched, session)
    return completed(spec, plan, report, finished, artifacts, session)


def _tell_findings(findings: Findings, session: JobSession) -> None:
    counts = ", ".join(f"{count} {name}" for name, count in findings.images.items())
    session.log(f"images: {counts}; {findings.split_reason}", event_type="dataset")
    for finding in findings.findings:
        level: Literal["INFO", "WARNING"] = "INFO" if finding.severity == "info" else "WARNING"
        session.log(f"{finding.text} - {finding.hint}", event_type="dataset", level=level)


def _train(
    plan: TrainPlan, fetched: FetchedDataset, conversion: Conversion, session: JobSession, narrator: Narrator
) -> Finished:
    space = session.workspace
    files = DatasetFiles(
        images=fetched.root,
        train=space.dataset / "train.json",
        val=space.dataset / "val.json",
        test=space.dataset / "test.json" if conversion.splits["test"].images else None,
    )
    identity = {"annotations_sha256": fetched.sha256, "original_class_ids": _original_class_ids(conversion)}
    space.save("work/worker.json", WorkerOrder(plan=plan, files=files, dataset=identity, parent=os.getpid()))
    process = launch(
        space.work,
        processes=max(1, len(plan.gpus)),
        threads=plan.threads.value,
        gpus=plan.gpus,
        environ=session.environ,
    )
    return supervise(process, space.work, narrator.listen)


def _original_class_ids(conversion: Conversion) -> list[int]:
    return [conversion.id_map.classes[index].id for index in range(len(conversion.class_names))]
