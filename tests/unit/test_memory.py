"""When memory runs out, a training goes on with fewer images at a time and as many in each step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmtrain.engine.messages import Finished
from mmtrain.jobs import memory, work
from mmtrain.jobs.identity import fingerprint_of
from mmtrain.jobs.memory import with_fewer_at_a_time
from mmtrain.jobs.probe import Measured
from mmtrain.plan import TrainPlan, make_plan
from mmtrain.recipes import load_recipe
from tests.unit.test_plan import CPU, profile_of
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import OutOfMemory
from trainer_sdk.jobspec import DatasetRef, TrainSpec
from trainer_sdk.request.nodes import Nodes
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import Task
from trainer_sdk.workspace import Workspace

PLAN_FOR = partial(
    make_plan,
    recipe=load_recipe("rtmdet-tiny"),
    machine=CPU,
    class_names=("a",),
    profile=profile_of(96),
    weights_file=None,
)


def spec_of(**config: Any) -> TrainSpec:
    return TrainSpec(
        job_id="1",
        task=None,
        model_name="rtmdet-tiny",
        dataset=DatasetRef(id="d", path="/d"),
        config=TrainConfig(**config),
    )


def fewer(batch: int, accumulate: int = 1) -> tuple[TrainPlan, TrainPlan | None]:
    spec = spec_of(batch=batch, accumulate=accumulate)
    return PLAN_FOR(spec), with_fewer_at_a_time(PLAN_FOR(spec), spec, PLAN_FOR, "12 GB were not enough")


@pytest.mark.parametrize(
    ("batch", "accumulate", "after"), [(16, 1, (8, 2)), (6, 2, (3, 4)), (9, 1, (3, 3)), (7, 1, (1, 7))]
)
def test_a_step_keeps_its_images_and_its_rate(batch: int, accumulate: int, after: tuple[int, int]) -> None:
    before, smaller = fewer(batch, accumulate)
    assert smaller is not None
    assert (smaller.batch.value, smaller.accumulate.value) == after
    assert smaller.lr0.value == pytest.approx(before.lr0.value)
    assert smaller.iters_per_epoch.value == -(-96 // after[0])
    assert (smaller.batch.origin, smaller.accumulate.origin) == ("machine", "machine")
    assert "12 GB were not enough" in smaller.batch.reason


def test_one_image_at_a_time_is_the_least() -> None:
    assert fewer(1)[1] is None


def test_a_training_knows_its_checkpoints_by_what_it_learns_not_by_how_much_fits(tmp_path: Path) -> None:
    for name in ("train", "val"):
        (tmp_path / f"{name}.json").write_text(name)
    files = SimpleNamespace(train=tmp_path / "train.json", val=tmp_path / "val.json", test=None)

    def fingerprint(**config: Any) -> str:
        auto = config["batch"] == "auto"
        return fingerprint_of(PLAN_FOR(spec_of(**config)), files, auto_batch=auto)  # type: ignore[arg-type]

    plan, smaller = fewer(16)
    assert smaller is not None
    before = fingerprint(batch=16)
    assert fingerprint_of(smaller, files, auto_batch=False) == before  # type: ignore[arg-type]
    assert fingerprint(batch=8, accumulate=2) == before
    assert fingerprint(batch=16, epochs=7) != before
    assert fingerprint(batch=8, lr0=0.1) != fingerprint(batch=16, lr0=0.1)
    assert fingerprint(batch="auto") not in (before, fingerprint(batch=plan.batch.value))
    (tmp_path / "val.json").write_text("another split")
    assert fingerprint(batch=16) != before


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[TrainPlan, list[str]]]:
    """Trains with a worker that holds no more than so many images at a time."""

    def train(room: int, nodes: int = 1) -> tuple[TrainPlan, list[str]]:
        notes: list[str] = []

        def run(plan: TrainPlan, job: Any) -> Finished:
            if plan.batch.value > room:
                raise OutOfMemory(f"out of memory with {plan.batch.value}")
            return Finished(best_epoch=1, epochs=1, train_s=1.0)

        monkeypatch.setattr(work, "_run", run)
        (tmp_path / "work").mkdir(exist_ok=True)
        space = Workspace(tmp_path, "")
        narrator = SimpleNamespace(remember=lambda news: None, note=notes.append)
        spec = spec_of(batch=32)
        session = SimpleNamespace(
            workspace=space, settings=Settings.from_env({}), nodes=Nodes(count=nodes), patience_s=lambda part: 0.0
        )
        job = SimpleNamespace(spec=spec, plan_for=PLAN_FOR, fingerprint="f", narrator=narrator, session=session)
        return work.let_worker_train(PLAN_FOR(spec), job)[0], notes  # type: ignore[arg-type]

    return train


def test_the_batch_is_halved_until_it_fits(trained: Callable[[int], tuple[TrainPlan, list[str]]]) -> None:
    plan, notes = trained(8)
    assert (plan.batch.value, plan.accumulate.value) == (8, 4)
    assert len(notes) == 2
    assert "going on with 8 images at a time, 4 times a step (2 of 3 restarts)" in notes[1]


def test_three_restarts_are_enough(trained: Callable[[int], tuple[TrainPlan, list[str]]]) -> None:
    with pytest.raises(OutOfMemory) as caught:
        trained(2)
    assert caught.value.message == "out of memory with 4; it happened with 4 images of 640 x 640 at a time"
    assert "lower imgsz" in caught.value.hint


def test_a_model_that_needs_two_images_is_not_given_one() -> None:
    plan_for = partial(PLAN_FOR, recipe=load_recipe("pspnet-r50", Task.SEMANTIC))
    spec = spec_of(batch=4)
    two = with_fewer_at_a_time(plan_for(spec), spec, plan_for, "no")
    assert two is not None
    assert two.batch.value == 2
    assert with_fewer_at_a_time(two, spec, plan_for, "no") is None


class Job:
    """A job's folder and its log; its memory is measured as told."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, batch: int | None) -> None:
        self.workspace = Workspace(folder, "1")
        self.workspace.work.mkdir(exist_ok=True)
        self.logged: list[str] = []
        self.measured = 0
        answer = None if batch is None else Measured(batch, "auto, measured")

        def measure(*_: Any, **__: Any) -> Measured | None:
            self.measured += 1
            return answer

        monkeypatch.setattr(memory, "measured_batch", measure)

    def log(self, text: str, **_: str) -> None:
        self.logged.append(text)

    def plan(self, fingerprint: str = "f", plan_for: Any = PLAN_FOR, **config: Any) -> TrainPlan:
        spec = spec_of(**config)
        return memory.as_memory_allows(plan_for(spec), spec, plan_for, None, fingerprint, self, streaming=False)  # type: ignore[arg-type]


def test_a_measured_batch_takes_the_learning_rate_with_it_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path, monkeypatch, batch=32)
    plan = job.plan(batch="auto")
    usual = PLAN_FOR(spec_of(batch="auto"))
    assert (usual.batch.value, plan.batch.value, plan.accumulate.value) == (16, 32, 1)
    assert plan.lr0.value == pytest.approx(2 * usual.lr0.value)
    assert plan.iters_per_epoch.value == 3
    assert (plan.batch.origin, plan.batch.reason) == ("machine", "auto, measured")
    assert job.plan(batch="auto") == plan
    assert job.measured == 1
    job.plan("another training", batch="auto")
    assert job.measured == 2


def test_what_ran_out_of_memory_is_not_tried_again_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path, monkeypatch, batch=None)
    _, smaller = fewer(16)
    assert smaller is not None
    memory.keep_decision(smaller, "f", job.workspace)
    plan = job.plan(batch=16)
    assert (plan.batch, plan.accumulate, plan.lr0.value) == (smaller.batch, smaller.accumulate, smaller.lr0.value)
    assert job.plan("another training", batch=16).batch.value == 16
    assert job.measured == 0


def test_a_batch_kept_on_another_machine_is_measured_anew_where_it_cannot_be_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path, monkeypatch, batch=16)
    memory.keep_decision(PLAN_FOR(spec_of(batch=17)), "f", job.workspace)
    two_gpus = partial(PLAN_FOR, machine=CPU.model_copy(update={"gpus": ("A10", "A10")}))
    assert job.plan(plan_for=two_gpus, batch="auto", device="0,1").batch.value == 16
    assert job.measured == 1
    assert "17 does not divide over 2 devices" in job.logged[0] or "batch=17" in job.logged[0]


def test_what_cannot_be_measured_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Job(tmp_path, monkeypatch, batch=None).plan(batch="auto").batch.value == 16


def test_several_nodes_name_the_batch_instead(trained: Callable[..., tuple[TrainPlan, list[str]]]) -> None:
    with pytest.raises(OutOfMemory, match="with 32") as caught:
        trained(8, nodes=2)
    assert 'set "batch": 16, "accumulate": 2, and start the job again' in caught.value.hint


def test_what_each_node_would_measure_for_itself_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path, monkeypatch, batch=32)
    two_nodes = partial(PLAN_FOR, machine=CPU.model_copy(update={"nodes": 2}))
    assert job.plan(plan_for=two_nodes, batch="auto").batch.value == 16
    assert job.measured == 0
