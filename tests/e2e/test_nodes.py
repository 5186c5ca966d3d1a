"""One job on several machines, and on several processes of one: each node a `train.py` with a disk of its own."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from mmtrain.datasets.shapes import write_shapes
from mmtrain.engine.safe_load import load_checkpoint_safely
from tests.conftest import ROOT, RunningScript, RunScript, StartScript
from tests.doubles.backend import ContractBackend
from tests.e2e.test_faults import LONG, told, wait_for, worker_of
from tests.e2e.test_jobs import TRAIN_S, request

SAME = 1e-5
"""Of losses and weights: sums of float32 in another order, after four steps; measured: 2e-7."""


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "shapes", counts={"train": 8, "val": 4})


def start_nodes(start: StartScript, environ: dict[str, str], disks: Path) -> list[RunningScript]:
    """The first is told in torchrun's words, the second in Kubeflow's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    torchrun = {"PET_NNODES": "2", "PET_NODE_RANK": "0", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}
    kubeflow = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        start({**environ, **words, "WORKSPACE_DIR": str(disks / str(rank)), "NODES_TIMEOUT_S": "120"})
        for rank, words in enumerate((torchrun, kubeflow))
    ]


def curve(folder: Path) -> list[dict[str, float]]:
    """Losses and learning rate by epoch."""
    points = json.loads((folder / "out" / "report.json").read_text())["curves"]["train"]
    return [{name: value for name, value in point.items() if "loss" in name or name == "lr"} for point in points]


def weights(folder: Path) -> dict[str, Any]:
    return dict(load_checkpoint_safely(folder / "out" / "last.pth")["state_dict"])


def test_two_nodes_are_one_job_with_the_same_numbers(
    start_script: StartScript, run_script: RunScript, backend: ContractBackend, shapes: Path, tmp_path: Path
) -> None:
    """A model whose loss is normalised over all devices, without statistics of a batch: exactly the same training."""
    environ = {**request("fcos-r50", {"epochs": 2}, norm_eval=True, fliplr=0.5), "DATASET_PATH": str(shapes)}
    first, second = start_nodes(start_script, environ | {"CALLBACK_URL": backend.url}, tmp_path)
    both = [node.wait(TRAIN_S) for node in (first, second)]
    assert [node.exit_code for node in both] == [0, 0], both[0].stdout + both[1].stdout

    assert backend.rejected == []
    assert backend.status_of(123) == "completed"
    assert len(backend.calls) == len(both[0].events)
    silent = tmp_path / "1" / "123.node1"
    assert json.loads((silent / "outcome.json").read_text())["status"] == "completed"
    assert "the first one alone reports" in both[1].stdout
    assert list((silent / "out").iterdir()) == []

    alone = run_script({**environ, "WORKSPACE_DIR": str(tmp_path / "alone")}, timeout_s=TRAIN_S)
    assert alone.exit_code == 0, alone.stdout
    plan = json.loads((both[0].folder / "plan.json").read_text())
    assert (plan["nodes"]["value"], plan["processes"]["value"], plan["batch"]["value"]) == (2, 1, 4)
    assert "over all 2 devices, 2 on each" in plan["batch"]["reason"]
    first_epoch, second_epoch = curve(alone.folder)
    assert first_epoch["loss"] - second_epoch["loss"] > 1000 * SAME
    for one, other in zip(curve(alone.folder), curve(both[0].folder), strict=True):
        assert other == pytest.approx(one, abs=SAME)
    of_nodes = weights(both[0].folder)
    for name, value in weights(alone.folder).items():
        torch.testing.assert_close(of_nodes[name], value, rtol=0, atol=SAME, msg=name)
    val = [
        json.loads((folder / "work" / "predictions_val.json").read_text()) for folder in (alone.folder, first.folder)
    ]
    assert {row["image_id"] for row in val[0]} == {row["image_id"] for row in val[1]}


@pytest.fixture
def two_training(
    start_script: StartScript, backend: ContractBackend, shapes: Path, tmp_path: Path
) -> list[RunningScript]:
    """In the middle of a training that would take much longer than any test."""
    environ = {**request("rtmdet-tiny", LONG), "DATASET_PATH": str(shapes), "CALLBACK_URL": backend.url}
    both = start_nodes(start_script, environ, tmp_path)
    wait_for(lambda: "epoch_" in (both[0].folder / "work" / "last_checkpoint").read_text(), (FileNotFoundError,))
    return both


def test_one_node_that_is_told_to_stop_stops_all(two_training: list[RunningScript], backend: ContractBackend) -> None:
    two_training[1].process.send_signal(signal.SIGTERM)
    first, second = (node.wait(TRAIN_S) for node in two_training)
    assert (first.exit_code, second.exit_code) == (143, 143), first.stdout + second.stdout
    assert (first.folder / "work" / "interrupted.pth").exists()
    assert told(backend) == ["[Interrupted] node 1 was told to stop"]


def test_a_node_that_is_lost_is_named_and_ends_all(two_training: list[RunningScript], backend: ContractBackend) -> None:
    worker_of(two_training[1]).kill()
    first, second = (node.wait(TRAIN_S) for node in two_training)
    assert (first.exit_code, second.exit_code) == (4, 4), first.stdout + second.stdout
    (message,) = told(backend)
    assert message.startswith("[ResourceError] node 1 of 2 was lost while training")
    assert "goes on from the last checkpoint" in message


OUT_OF_MEMORY = """
import json, os, sys
if os.environ.get("RANK") == "1":
    sys.path.insert(0, {root!r})
    from mmtrain.engine.team import Team
    mean = Team.mean
    def mean_if_it_fits(self, numbers):
        if json.load(open(sys.argv[1] + "/worker.json"))["plan"]["batch"]["value"] > 4:
            raise MemoryError("no room for this batch")
        return mean(self, numbers)
    Team.mean = mean_if_it_fits
"""


def test_memory_that_runs_out_in_one_of_two_processes_halves_the_batch(
    run_script: RunScript, backend: ContractBackend, shapes: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(OUT_OF_MEMORY.format(root=str(ROOT)))
    environ = {**request("rtmdet-tiny", {"epochs": 2, "batch": 8}), "DATASET_PATH": str(shapes)}
    two = {"PET_NPROC_PER_NODE": "2", "PYTHONPATH": str(tmp_path), "CALLBACK_URL": backend.url}
    run = run_script(environ | two, timeout_s=TRAIN_S)
    assert run.exit_code == 0, run.stdout
    plan = json.loads((run.folder / "plan.json").read_text())
    assert (plan["batch"]["value"], plan["accumulate"]["value"], plan["processes"]["value"]) == (4, 2, 2)
    assert "no room for this batch" in plan["batch"]["reason"]
    assert "going on with 4 images at a time, 2 times a step (1 of 3 restarts)" in run.stdout
    assert backend.status_of(123) == "completed"


def test_an_unclear_cluster_ends_the_job_and_only_the_first_says_so(
    run_script: RunScript, backend: ContractBackend, shapes: Path
) -> None:
    environ = {**request("rtmdet-tiny"), "DATASET_PATH": str(shapes), "CALLBACK_URL": backend.url}
    unclear = environ | {"PET_NNODES": "2", "WORLD_SIZE": "3", "MASTER_ADDR": "first"}
    assert run_script({**unclear, "RANK": "1"}).exit_code == 3
    assert backend.calls == []
    assert run_script({**unclear, "RANK": "0"}).exit_code == 3
    (message,) = told(backend)
    assert message.startswith("[ConfigError] the nodes of the job are not clear: PET_NNODES=2 and WORLD_SIZE=3")
