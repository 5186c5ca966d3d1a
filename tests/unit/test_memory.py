"""When memory runs out, a training goes on with fewer images at a time and as many in each step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmtrain.engine.messages import Finished
from mmtrain.jobs import work
from mmtrain.jobs.identity import fingerprint_of
from mmtrain.jobs.memory import with_fewer_at_a_time
from mmtrain.plan import TrainPlan, make_plan
from mmtrain.recipes import load_recipe
from tests.unit.test_plan import CPU, profile_of
from trainer_sdk.errors import OutOfMemory
from trainer_sdk.jobspec import DatasetRef, TrainConfig, TrainSpec

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
    plan, smaller = fewer(16)
    assert smaller is not None
    assert fingerprint_of(smaller, files) == fingerprint_of(plan, files)  # type: ignore[arg-type]
    other = PLAN_FOR(spec_of(batch=16, epochs=7))
    assert fingerprint_of(other, files) != fingerprint_of(plan, files)  # type: ignore[arg-type]
    before = fingerprint_of(plan, files)  # type: ignore[arg-type]
    (tmp_path / "val.json").write_text("another split")
    assert fingerprint_of(plan, files) != before  # type: ignore[arg-type]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], tuple[TrainPlan, list[str]]]:
    """Trains with a worker that holds no more than so many images at a time."""

    def train(room: int) -> tuple[TrainPlan, list[str]]:
        notes: list[str] = []

        def run(plan: TrainPlan, fingerprint: str, job: Any) -> Finished:
            if plan.batch.value > room:
                raise OutOfMemory(f"out of memory with {plan.batch.value}")
            return Finished(best_epoch=1, epochs=1, train_s=1.0)

        monkeypatch.setattr(work, "_run", run)
        monkeypatch.setattr(work, "fingerprint_of", lambda plan, files: "f")
        (tmp_path / "work").mkdir(exist_ok=True)
        space = SimpleNamespace(work=tmp_path / "work", save=lambda name, plan: plan)
        narrator = SimpleNamespace(remember=lambda news: None, note=notes.append)
        spec = spec_of(batch=32)
        job = SimpleNamespace(
            spec=spec, plan_for=PLAN_FOR, files=None, narrator=narrator, session=SimpleNamespace(workspace=space)
        )
        return work.let_worker_train(PLAN_FOR(spec), job)[0], notes  # type: ignore[arg-type]

    return train


def test_the_batch_is_halved_until_it_fits(trained: Callable[[int], tuple[TrainPlan, list[str]]]) -> None:
    plan, notes = trained(8)
    assert (plan.batch.value, plan.accumulate.value) == (8, 4)
    assert len(notes) == 2
    assert "going on with 8 images at a time, 4 times a step (2 of 3 restarts)" in notes[1]


def test_three_restarts_are_enough(trained: Callable[[int], tuple[TrainPlan, list[str]]]) -> None:
    with pytest.raises(OutOfMemory, match="with 4"):
        trained(2)
