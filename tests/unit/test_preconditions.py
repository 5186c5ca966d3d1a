"""What is looked at before the expensive part, and what of it is told."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmtrain.jobs import surroundings
from mmtrain.jobs.model import problems_beside_the_form
from mmtrain.jobs.needs import disk_needs, gpu_bytes, shm_bytes
from mmtrain.jobs.surroundings import check_plan, check_surroundings, disk_to_keep
from mmtrain.machine import Machine
from mmtrain.recipes import load_recipe
from tests.unit.test_memory import spec_of
from tests.unit.test_plan import CPU, GIB, plan_of
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import NetworkError, OutOfMemory, ResourceError
from trainer_sdk.failures.preconditions import lack_of, raise_together, unwritable, unwritable_storage
from trainer_sdk.jobspec import DatasetRef, TrainSpec
from trainer_sdk.request.nodes import ALONE
from trainer_sdk.request.reading import UsablePart
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import Task
from trainer_sdk.workspace import Workspace

TINY = load_recipe("rtmdet-tiny")
GB = 10**9


def session_of(folder: Path, **environ: str) -> Any:
    """As much of a session as is asked for."""
    environ = {"WORKSPACE_DIR": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), **environ}
    space = Workspace(folder, "1")
    space.clear()
    return SimpleNamespace(settings=Settings.from_env(environ), workspace=space, nodes=ALONE)


def check(session: Any, spec: TrainSpec | None = None, machine: Machine = CPU) -> None:
    check_surroundings(spec or spec_of(pretrained=False), TINY, machine, session)


def test_where_all_is_well_nothing_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    session = session_of(tmp_path, INTERNAL_STORAGE_ENDPOINT=f"file://{tmp_path}/storage")
    there = set(tmp_path.rglob("*"))
    check(session)
    assert [path for path in set(tmp_path.rglob("*")) - there if path.is_file()] == []


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disks with a hundred million bytes left."""
    usage = SimpleNamespace(free=100 * 10**6)
    monkeypatch.setattr("trainer_sdk.failures.preconditions.shutil", SimpleNamespace(disk_usage=lambda path: usage))


@pytest.mark.usefixtures("full")
def test_a_disk_that_is_too_small_is_told_with_both_numbers_and_what_they_are_made_of(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught:
        check(session_of(tmp_path))
    (lacking,) = caught.value.facts["lacking"]
    assert lacking.found_bytes == 100 * 10**6
    assert lacking.needed_bytes == sum(disk_needs(TINY, TrainConfig()).values())
    assert "2 checkpoints to go on from" in caught.value.message
    assert "free are 100 MB" in caught.value.message
    assert "WORKSPACE_DIR" in caught.value.hint


@pytest.mark.usefixtures("full")
def test_everything_that_lacks_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    endpoint = f"file://{tmp_path}/cache/storage"
    spec = spec_of(pretrained=False).model_copy(update={"dataset": DatasetRef(id="d", prefix="datasets/d/")})
    machine = Machine(cores=2, gpus=("T4",), gpu_free_bytes=(10**8,), shm_free_bytes=GIB)
    storage = {"INTERNAL_STORAGE_ENDPOINT": endpoint, "EXTERNAL_STORAGE_ENDPOINT": f"file://{tmp_path}"}
    with pytest.raises(ResourceError) as caught:
        check(session_of(tmp_path, **storage), spec, machine)
    said = caught.value.message
    assert said.startswith("the job cannot begin: 4 problems")
    for part in (f"{tmp_path}/cache/openmmlab-trainer/datasets cannot be written", "checkpoints/1 cannot be written",
                 "too little disk below", "too little memory of GPU 0"):  # fmt: skip
        assert part in said, part
    assert [lack.what for lack in caught.value.facts["lacking"]][1] == "memory of GPU 0"


def test_what_an_earlier_run_left_is_not_needed_again(tmp_path: Path) -> None:
    session = session_of(tmp_path)
    before = sum(disk_to_keep(spec_of(), TINY, session.workspace.work).values())
    (session.workspace.work / "epoch_1.pth").write_bytes(b"x" * 5000)
    assert sum(disk_to_keep(spec_of(), TINY, session.workspace.work).values()) == before - 5000


def test_a_checkpoint_needs_what_the_optimizer_keeps() -> None:
    weights = 4 * round(TINY.published.params_m * 1e6)
    whole = next(iter(disk_needs(TINY, TrainConfig(optimizer="SGD", momentum=0.9, ema=False)).values()))
    assert whole == 2 * 2 * weights  # two of them, weights and momentum
    with_average = next(iter(disk_needs(TINY, TrainConfig(optimizer="AdamW", ema=True)).values()))
    assert with_average == 2 * 4 * weights
    kept = next(iter(disk_needs(TINY, TrainConfig(optimizer="AdamW", ema=True, checkpoint_keep_max=5)).values()))
    assert kept == 6 * 4 * weights
    assert gpu_bytes(TINY, TrainConfig(freeze="backbone")) < gpu_bytes(TINY, TrainConfig())


def test_shared_memory_for_the_workers_that_were_asked_for(tmp_path: Path) -> None:
    plan = plan_of(workers=4, batch=16, imgsz=640)
    assert shm_bytes(plan) == 4 * 2 * 16 * 640 * 640 * 3
    machine = CPU.model_copy(update={"shm_free_bytes": 64 * 2**20})
    with pytest.raises(ResourceError, match="too little shared memory at /dev/shm: needed are 157 MB") as caught:
        check_plan(spec_of(), plan, TINY, machine, session_of(tmp_path))
    assert "--shm-size" in caught.value.hint
    assert "free are 67 MB" in caught.value.message


def test_label_maps_are_larger_than_images() -> None:
    semantic = plan_of(load_recipe("pspnet-r50", Task.SEMANTIC), workers=1, batch=2, imgsz=512)
    assert shm_bytes(semantic) == 2 * 2 * 512 * 512 * (3 + 8)


def test_workers_that_nobody_asked_for_are_as_many_as_shared_memory_can_serve(tmp_path: Path) -> None:
    machine = Machine(cores=8, gpus=(), shm_free_bytes=100 * 2**20)
    plan = plan_of(machine=machine, batch=16, imgsz=640)
    assert plan.workers.value == 1
    check_plan(spec_of(), plan, TINY, machine, session_of(tmp_path))


def test_a_gpu_that_others_use_is_told_before_anything_is_moved(tmp_path: Path) -> None:
    machine = Machine(cores=8, gpus=("T4", "T4"), gpu_free_bytes=(16 * GB, 2 * 10**8), shm_free_bytes=GIB)
    with pytest.raises(ResourceError, match="memory of GPU 1"):
        check(session_of(tmp_path), spec_of(pretrained=False, device="0,1"), machine)
    check(session_of(tmp_path), spec_of(pretrained=False, device="0"), machine)


def test_of_one_problem_its_own_type_stays_of_several_the_machines_wins() -> None:
    network, refused = NetworkError("down", hint="wait"), NetworkError("refused", hint="keys", retryable=False)
    lack = lack_of("disk", 2, 1, why="it", hint="more")
    assert lack is not None
    assert lack_of("disk", 1, 1, why="it", hint="more") is None
    with pytest.raises(NetworkError, match=r"^down$"):
        raise_together([network])
    with pytest.raises(NetworkError, match="2 problems") as caught:
        raise_together([network, refused])
    assert not caught.value.retryable
    with pytest.raises(ResourceError, match="down - wait"):
        raise_together([network, lack])
    raise_together([])


def test_a_folder_that_may_not_be_written() -> None:
    folder = Path("/sys/kernel/trainer")
    problem = unwritable(folder, "WORKSPACE_DIR")
    assert problem is not None
    assert problem.message.startswith(f"{folder} cannot be written: ")
    assert "rights of the folder" in problem.hint or "mount it for writing" in problem.hint


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    problem = unwritable(tmp_path / "file" / "work", "WORKSPACE_DIR")
    assert problem is not None
    assert "WORKSPACE_DIR" in problem.hint


def test_a_probe_object_is_removed_again(tmp_path: Path) -> None:
    settings = Settings.from_env({"INTERNAL_STORAGE_ENDPOINT": f"file://{tmp_path}/storage"})
    assert unwritable_storage(settings.checkpoints, "checkpoints/1/", tmp_path) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_memory_that_ran_out_does_not_come_back_by_itself() -> None:
    assert ResourceError("x").retryable
    assert not OutOfMemory("x").retryable


ASKED = partial(spec_of, pretrained=True)


def test_a_cache_of_weights_counts_only_where_weights_have_to_come(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    check(session_of(tmp_path), spec_of(pretrained=False))
    with pytest.raises(ResourceError, match="weights cannot be written"):
        check(session_of(tmp_path), ASKED())
    assert TINY.weights is not None
    (tmp_path / TINY.weights.file_name).write_bytes(b"")
    check(session_of(tmp_path, WEIGHTS_DIR=str(tmp_path)), ASKED())


def test_the_numbers_of_the_machine_are_looked_at_where_the_data_choose_the_model_later(tmp_path: Path) -> None:
    check_surroundings(spec_of(pretrained=False), None, CPU, session_of(tmp_path))
    assert surroundings.disk_to_keep(spec_of(), TINY, tmp_path)


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("rtmdet-tniy", None, ["rtmdet-tniy"]),
        ("rtmdet-tiny", TrainConfig(amp="fp16", device="cpu"), ["amp='fp16' needs a GPU"]),
        ("rtmdet-tiny", TrainConfig(device="0"), ["asks for GPU 0"]),
        ("rtmdet-tiny", None, []),
        ("auto", None, []),
        (None, TrainConfig(), []),
    ],
)
def test_what_model_and_machine_say_to_a_form_that_is_refused_already(
    name: str | None, config: TrainConfig | None, said: list[str]
) -> None:
    found = problems_beside_the_form(UsablePart(name, None, config, None), CPU)
    assert len(found) == len(said)
    assert all(part in problem for part, problem in zip(said, found, strict=True))


def test_a_storage_that_could_not_be_asked_is_told_with_the_rest(tmp_path: Path) -> None:
    machine = Machine(cores=8, gpus=("T4",), gpu_free_bytes=(10**8,), shm_free_bytes=GIB)
    session, unasked = session_of(tmp_path), NetworkError("refused", hint="keys", retryable=False)
    with pytest.raises(ResourceError, match="2 problems\n  - refused - keys\n  - too little memory of GPU 0"):
        check_surroundings(spec_of(pretrained=False), TINY, machine, session, unasked)
    with pytest.raises(NetworkError, match=r"^refused$"):
        check_surroundings(spec_of(pretrained=False), TINY, CPU, session, unasked)
