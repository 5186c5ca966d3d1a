"""Two processes that train together: what each is shown, what they agree on, and how one hears of the other's end."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed, multiprocessing

from mmtrain.engine.alarm import failing_together
from mmtrain.engine.classify import classify, error_record
from mmtrain.engine.order import ERROR
from mmtrain.engine.place import Place
from mmtrain.engine.resume import choose_checkpoint
from mmtrain.engine.team import Team, differences
from tests.mm.test_resume import StopWhen, killed_at, train
from trainer_sdk.errors import ConfigError, Interrupted

PATIENCE_S = 60


class SeenHook(Hook):
    """Keeps which pictures each epoch shows to this process."""

    def __init__(self) -> None:
        self.epochs: dict[int, list[int]] = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.epochs.setdefault(runner.epoch, []).extend(int(index) for index in data_batch["sample_idx"])


def shown_once(team: Team, folder: Path) -> Any:
    seen = SeenHook()
    train(folder, seen, batch=5, epochs=2)
    return seen.epochs


def the_mean(team: Team, folder: Path) -> Any:
    return team.mean([float(team.place.rank), 10.0]), team.highest(team.place.rank)


def another_plan(team: Team, folder: Path) -> Any:
    team.agree({"batch": "4"})
    with pytest.raises(ConfigError) as caught:
        team.agree({"batch": str(4 + team.place.node), "lr0": "0.1"})
    return caught.value.message


def the_firsts_checkpoint(team: Team, folder: Path) -> Any:
    """The other machine has no file, or an older one of the same name."""
    if team.place.node > 0:
        (folder / "epoch_3.pth").write_bytes(b"older")
    found = choose_checkpoint(folder, "ours", iters_per_epoch=3, batch=4, team=team)
    assert found is not None
    return found.name, len(found.read_bytes())


def stop_together(team: Team, folder: Path) -> Any:
    asked = StopWhen(iteration=2 if team.place.node == 1 else 0)
    asked._team = team
    seen = SeenHook()
    with pytest.raises(Interrupted) as caught:
        train(folder, seen, asked, batch=5, epochs=50)
    return caught.value.message, seen.epochs


def alone_again(team: Team, folder: Path) -> Any:
    team.part()
    return distributed.is_initialized(), team.highest(team.place.rank)


SCENES: tuple[Callable[[Team, Path], Any], ...] = (
    shown_once, the_mean, another_plan, the_firsts_checkpoint, stop_together, alone_again,
)  # fmt: skip


def as_torchrun(rank: int, port: int) -> Place:
    said = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1, "GROUP_RANK": rank, "GROUP_WORLD_SIZE": 2}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": "True", "LOCAL_RANK": 0}
    os.environ.update({name: str(value) for name, value in {**said, **where}.items()})
    return Place.of(os.environ)


def play(rank: int, port: int, folder: str) -> None:
    """All scenes in one pair of processes: starting one costs seconds."""
    torch.set_num_threads(1)
    os.chdir(folder)  # MMEngine's metrics leave files here
    team = Team.of(as_torchrun(rank, port), gpus=False, timeout_s=PATIENCE_S)
    for scene in SCENES:
        own = Path(folder) / str(rank) / scene.__name__
        own.mkdir(parents=True, exist_ok=True)
        Path(folder, f"{scene.__name__}.{rank}.json").write_text(json.dumps(scene(team, own)))


@pytest.fixture(scope="module")
def store() -> distributed.TCPStore:
    """As torchrun keeps it at the first node."""
    return distributed.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=PATIENCE_S))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, store: distributed.TCPStore) -> Callable[..., list[Any]]:
    folder = tmp_path_factory.mktemp("team")
    killed_at(folder / "0" / the_firsts_checkpoint.__name__, 10)
    multiprocessing.spawn(play, (store.port, str(folder)), nprocs=2)

    def told(scene: Callable[..., Any]) -> list[Any]:
        return [json.loads((folder / f"{scene.__name__}.{rank}.json").read_text()) for rank in (0, 1)]

    return told


def test_together_they_are_shown_every_picture_once_an_epoch(played: Callable[..., list[Any]]) -> None:
    first, second = played(shown_once)
    assert list(first) == list(second) == ["0", "1"]
    for epoch in first:
        assert len(first[epoch]) == len(second[epoch]) == 5
        assert sorted(first[epoch] + second[epoch]) == list(range(10))
    assert first["0"] != first["1"]


def test_numbers_are_of_all(played: Callable[..., list[Any]]) -> None:
    assert played(the_mean) == [[[0.5, 10.0], 1]] * 2


def test_nodes_that_plan_differently_are_told_in_what(played: Callable[..., list[Any]]) -> None:
    said = "the nodes are about to train differently: batch is 4 on node 0, 5 on node 1"
    assert played(another_plan) == [said, said]
    assert differences([{"a": "1"}, {}]) == ["a is 1 on node 0, unknown on node 1"]


def test_all_go_on_from_the_first_ones_checkpoint(played: Callable[..., list[Any]]) -> None:
    first, second = played(the_firsts_checkpoint)
    assert first == second
    assert first[0] == "epoch_3.pth"
    assert first[1] > len(b"older")


def test_all_stop_after_the_same_iteration(played: Callable[..., list[Any]]) -> None:
    first, second = played(stop_together)
    assert first[0] == second[0] == "node 1 was told to stop"
    assert [len(epochs["0"]) for _, epochs in (first, second)] == [5, 5]
    assert first[1].keys() == second[1].keys()


def test_after_the_training_each_is_alone(played: Callable[..., list[Any]]) -> None:
    assert played(alone_again) == [[False, 0], [False, 1]]


def fail(rank: int, port: int, folder: str) -> None:
    """The second fails while the first waits for something that will never come."""
    own = Path(folder, str(rank))
    own.mkdir()
    try:
        with failing_together(as_torchrun(rank, port), own, os.environ, classify):
            if rank == 0:
                time.sleep(PATIENCE_S)
            raise MemoryError("no room")
    except Exception as error:  # noqa: BLE001 - as the worker's main
        (own / ERROR).write_text(json.dumps(error_record(error)))
        sys.exit(1)


def test_a_process_that_hangs_hears_what_befell_the_other(store: distributed.TCPStore, tmp_path: Path) -> None:
    with pytest.raises(multiprocessing.ProcessExitedException):
        multiprocessing.spawn(fail, (store.port, str(tmp_path)), nprocs=2, join=False).join(grace_period=PATIENCE_S)
    first, second = (json.loads((tmp_path / rank / ERROR).read_text()) for rank in ("0", "1"))
    assert (first["type"], first["message"]) == ("OutOfMemory", "node 1: out of memory: no room")
    assert (second["type"], second["message"]) == ("OutOfMemory", "out of memory: no room")
