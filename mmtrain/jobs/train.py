"""The train job, from a request to published weights. Each step leaves a file to restart or debug from."""

from __future__ import annotations

import functools

from converters import write_conversion
from mmtrain.datasets.balance import images_shown
from mmtrain.datasets.columns import columns_of
from mmtrain.datasets.fetch import fetch, read_snapshot
from mmtrain.datasets.inspect import at_input_size, most_opened
from mmtrain.datasets.preflight import preflight
from mmtrain.display import Display
from mmtrain.jobs.access import choose_access
from mmtrain.jobs.evidence import seen_in
from mmtrain.jobs.identity import fingerprint_of
from mmtrain.jobs.memory import as_memory_allows
from mmtrain.jobs.model import asked_recipe, chosen_model, problems_beside_the_form, task_wanted
from mmtrain.jobs.narrator import Narrator, tell_findings
from mmtrain.jobs.publish import completed, publish
from mmtrain.jobs.report import report_training, write_page_of_data
from mmtrain.jobs.rerun import completed_elsewhere, remember_completed
from mmtrain.jobs.surroundings import check_plan, check_surroundings, disk_to_keep
from mmtrain.jobs.tracking import Tracker
from mmtrain.jobs.work import Work, files_of, let_worker_train, take_up_work
from mmtrain.machine import look_at_machine
from mmtrain.plan import make_plan
from trainer_sdk.errors import NetworkError
from trainer_sdk.events import Completed, Metrics
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.request.reading import RefusedTraining
from trainer_sdk.session import JobSession


def run(spec: TrainSpec, session: JobSession) -> Completed:
    """From a request to published weights."""
    space = session.workspace
    _note_request(spec, session)
    earlier, unasked = _earlier_run(spec, session)
    if earlier is not None:
        return earlier
    with session.step("check"):  # what can fail without the data fails before a byte of them is moved
        machine = look_at_machine(session.environ, session.nodes)
        check_surroundings(spec, asked_recipe(spec, machine), machine, session, unasked)
        model = chosen_model(spec, machine, session.settings, space.work)
    with session.step("fetch"), Display("fetching", unit="images") as display:
        copied = spec.config.data_access == "copy"
        fetched = fetch(
            spec.dataset,
            task_wanted(spec, model),
            session.settings,
            display,
            download_images=copied,
            beside=disk_to_keep(spec, model.recipe, space.work) if model else {},
        )
        snapshot = read_snapshot(spec.dataset, session.settings)
        access = choose_access(spec, fetched, session)
    with session.step("inspect"), Display("checking", unit="images") as display:
        conversion, findings = preflight(
            fetched,
            task_wanted(spec, model),
            display,
            pictures=access.pictures,
            config_split=spec.config.split_config,
            snapshot=snapshot,
            keypoints=spec.config.keypoints,
            most=most_opened(spec.config.inspect_images),
        )
        space.save("findings.json", findings)
        if findings.blocking:
            write_page_of_data(spec.dataset.id, findings, conversion, fetched, access, space)
        findings.raise_if_blocked()
        write_conversion(conversion, space.dataset, fetched.mask_path)
    with session.step("plan"):
        model = model or chosen_model(spec, machine, session.settings, space.work, findings)
        plan_for = functools.partial(
            make_plan,
            recipe=model.recipe,
            machine=machine,
            class_names=conversion.class_names,
            profile=findings.profile,
            weights_file=model.weights_file,
            model=model.decided,
            keypoints=conversion.keypoints,
            shown_images=functools.partial(images_shown, columns_of(conversion.splits["train"])),
        )
        asked = plan_for(spec)
        files = files_of(access, conversion, space.dataset)
        fingerprint = fingerprint_of(asked, files, auto_batch=spec.config.batch == "auto")
        take_up_work(spec, fingerprint, session)
        plan = as_memory_allows(asked, spec, plan_for, files, fingerprint, session, streaming=access.streams)
        space.save("plan.json", plan)
        check_plan(spec, plan, model.recipe, machine, session)
        findings = space.save("findings.json", at_input_size(findings, conversion, plan.imgsz.value))
        tell_findings(findings, session)
    with session.step("train"), Display("starting", unit="iterations") as display:
        tracker = Tracker(session.environ if session.nodes.first else {}, spec.job_id)
        session.at_end.callback(tracker.close)
        tracker.plan(plan)
        narrator = Narrator(plan, session, display, tracker)
        narrator.tell_plan(asked)
        work = Work(spec, plan_for, access, fetched, conversion, session, narrator, files, fingerprint)
        plan, finished = let_worker_train(plan, work)
    if not session.nodes.first:
        session.log("trained; the first node measures, reports and publishes")
        return Completed(total_epochs_completed=finished.epochs, final_metrics=Metrics())
    with session.step("report"):
        write_page_of_data(spec.dataset.id, findings, conversion, fetched, access, space)
        report = report_training(spec, plan, findings, finished, narrator.curves, narrator.notes, access, space)
    with session.step("publish"):
        artifacts = publish(spec, model.recipe, fetched, session)
    outcome = completed(spec, plan, report, finished, artifacts, session)
    remember_completed(spec, outcome, session)
    return outcome


def _earlier_run(spec: TrainSpec, session: JobSession) -> tuple[Completed | None, NetworkError | None]:
    """What it told, or None; and why the storage could not be asked, which ends the job with whatever else it lacks."""
    try:
        return completed_elsewhere(spec, session), None
    except NetworkError as error:
        return None, error


def asked(session: JobSession) -> TrainSpec:
    """The request.

    Raises:
        ConfigError: of a refused one, with what the model and this machine say against the rest of it.
    """
    try:
        spec: TrainSpec = session.spec
        return spec
    except RefusedTraining as error:
        machine = look_at_machine(session.environ, session.nodes)
        raise error.and_also(problems_beside_the_form(error.usable, machine)) from None


def _note_request(spec: TrainSpec, session: JobSession) -> None:
    session.workspace.save("job.json", spec)
    session.observer.witnesses.append(functools.partial(seen_in, session.workspace))
    for note in spec.notes:
        session.log(note, level="WARNING")
