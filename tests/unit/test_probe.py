"""How a batch is chosen from what was measured."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmtrain import choices
from mmtrain.engine.order import Tried
from mmtrain.jobs import probe
from mmtrain.jobs.probe import in_words, measured_batch, most_that_fits
from mmtrain.machine import MemoryLimit, memory_limit, peak_rss_bytes
from mmtrain.plan import TrainPlan
from tests.unit.test_memory import PLAN_FOR, spec_of
from tests.unit.test_plan import CPU
from trainer_sdk.errors import OutOfMemory
from trainer_sdk.failures import cgroup

GB = 10**9


def tried(batch: int, peak_gb: float | None, problem: str = "") -> Tried:
    peak = None if peak_gb is None else int(peak_gb * GB)
    return Tried(batch=batch, peak_bytes=peak, limit_bytes=24 * GB, limit="A10", seconds=1.0, problem=problem)


@pytest.mark.parametrize(
    ("usual", "least", "iters", "gpu", "expected"),
    [
        (8, 1, 100, True, (4, 8, 16, 32)),
        (8, 1, 39, True, (4, 8, 16)),
        (8, 1, 19, True, (4, 8)),
        (16, 1, 100, False, (2, 8, 16)),
        (4, 1, 100, False, (2, 4)),
        (2, 1, 100, False, (1, 2)),
        (2, 2, 100, True, (2, 4, 8)),
        (1, 1, 100, False, (1,)),
    ],
)
def test_which_batches_are_tried(usual: int, least: int, iters: int, gpu: bool, expected: tuple[int, ...]) -> None:
    assert choices.batches_to_try(usual, least, iters, gpu=gpu) == expected


def test_which_smaller_ones_are() -> None:
    assert choices.smaller_batches(8, 1) == (1, 2, 4)
    assert choices.smaller_batches(8, 2) == (2, 4)
    assert choices.smaller_batches(1, 1) == ()


def test_a_fifth_of_the_memory_stays_free() -> None:
    assert most_that_fits([tried(4, 5), tried(8, 19.2), tried(16, 19.3)]) == 8
    assert most_that_fits([tried(4, 5), tried(8, None)]) == 4
    assert most_that_fits([tried(1, 20), tried(2, 23)]) == 1  # over the share, but it went through
    assert most_that_fits([tried(1, None)]) is None


def test_what_was_measured_is_said() -> None:
    found = in_words([tried(8, 5.1), tried(16, 9.6), tried(32, None)])
    assert found == "8 images 5.1 GB, 16 9.6 GB, 32 too much, of 24.0 GB (A10)"


Measure = Callable[..., tuple[int, str] | None]


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Measure:
    """``measure(room, devices)``: a machine on which so many images fit; 0.5 GB each."""

    def run(room: int, devices: int = 1) -> tuple[int, str] | None:
        def once(plan: TrainPlan, files: Any, batches: tuple[int, ...], session: Any, streaming: bool) -> list[Tried]:
            results = []
            for batch in batches:
                fits = batch <= room
                results.append(tried(batch, 0.5 * batch if fits else None, "" if fits else f"no room for {batch}"))
                if not fits or results[-1].suffices_for(None if plan.gpus else plan.batch.value, 0.8):
                    break
            return results

        monkeypatch.setattr(probe, "_probe", once)
        gpus = ("A10",) * devices
        device = f"0-{devices - 1}" if devices else "cpu"
        plan = PLAN_FOR(
            spec_of(batch="auto", device=device),
            machine=CPU.model_copy(update={"gpus": gpus}),
            profile=PROFILE,
        )
        return measured_batch(plan, None, SimpleNamespace(log=print), streaming=False)  # type: ignore[arg-type]

    return run


PROFILE = PLAN_FOR.keywords["profile"].model_copy(update={"images": {"train": 4000, "val": 10, "test": 10}})


def test_a_gpu_gets_what_fits_up_to_four_times_the_recipes(measure: Measure) -> None:
    found = measure(room=1000)
    assert found is not None
    assert found[0] == 32  # of 8, 16, 32, 64: 64 would be over the share
    found = measure(room=16)
    assert found is not None
    assert found[0] == 16
    assert "8 images 4.0 GB, 16 8.0 GB, 32 too much" in found[1]


def test_several_gpus_get_as_much_each(measure: Measure) -> None:
    found = measure(room=4, devices=2)
    assert found is not None
    assert found[0] == 8
    assert found[1].endswith("times 2 GPUs")


def test_a_cpu_never_gets_more_than_the_recipe_says(measure: Measure) -> None:
    found = measure(room=1000, devices=0)
    assert found is not None
    assert found[0] == 16
    assert "2 images 1.0 GB, of 24.0 GB" in found[1]
    assert "16 need at most 8.0 GB, more than 16 gains nothing on a CPU" in found[1]
    assert measure(room=15, devices=0) == found  # never tried: half of it was enough to know


def test_two_images_may_tell_enough_of_sixteen() -> None:
    two = tried(2, 3.0).model_copy(update={"empty_bytes": GB})
    assert two.at_most_bytes(16) == 17 * GB
    assert two.suffices_for(16, 0.8)
    assert not two.suffices_for(20, 0.8)
    assert not two.suffices_for(None, 0.8)
    assert not tried(2, None).suffices_for(2, 0.8)


def test_where_half_of_the_usual_is_too_much_less_is_tried(measure: Measure) -> None:
    found = measure(room=3)
    assert found is not None
    assert found[0] == 2
    assert "1 images 0.5 GB, 2 1.0 GB, 4 too much, 8 too much" in found[1]


def test_where_not_even_one_fits_the_job_ends_before_it_trains(measure: Measure) -> None:
    with pytest.raises(OutOfMemory, match=r"not even 1 image.*no room for 1") as caught:
        measure(room=0)
    assert "lower imgsz" in caught.value.hint


def test_the_least_of_all_limits_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def limit_with(container_bytes: int | None) -> MemoryLimit:
        monkeypatch.setattr(cgroup, "memory_limit_bytes", lambda: container_bytes)
        return memory_limit()

    whole = limit_with(None)
    assert whole.source == "memory of this machine"
    assert limit_with(1_000_000) == (1_000_000, "memory limit of the container")
    assert limit_with(9223372036854771712) == whole  # cgroup v1's word for no limit
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (5000, 6000))
    assert limit_with(1_000_000) == (5000, "memory limit of the process (ulimit -d)")


def test_the_peak_of_a_process_is_its_own(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("VmPeak:\t 90 kB\nVmHWM:\t    2048 kB\n")
    assert peak_rss_bytes(status) == 2048 * 1024
    assert peak_rss_bytes(tmp_path / "nothing") is None
