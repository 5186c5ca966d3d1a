"""Which machine of a job this one is: torchrun's words and Kubeflow's, and what contradicts itself."""

from __future__ import annotations

import pytest

from mmtrain.choices import choose_device
from mmtrain.engine.death import death
from mmtrain.engine.launch import worker_environment
from mmtrain.engine.place import Place
from mmtrain.machine import Machine
from tests.unit.test_launch import remains
from tests.unit.test_plan import FOUR_GPUS, plan_of
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import ConfigError, ResourceError
from trainer_sdk.request.nodes import ALONE, Nodes, read_nodes, unclear_nodes

TORCHRUN = {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "first", "PET_MASTER_PORT": "29400"}
KUBEFLOW_OLD = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "first", "MASTER_PORT": "29400"}
SECOND = Nodes(count=2, rank=1, address="first", port=29400)


@pytest.mark.parametrize(
    ("environ", "nodes"),
    [
        ({}, ALONE),
        ({"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "localhost"}, Nodes(address="localhost")),
        (TORCHRUN, SECOND),
        (KUBEFLOW_OLD, SECOND),
        ({**TORCHRUN, **KUBEFLOW_OLD, "PET_NPROC_PER_NODE": "auto"}, SECOND.model_copy(update={"processes": "auto"})),
        (
            {**TORCHRUN, **KUBEFLOW_OLD, "PET_NPROC_PER_NODE": "4", "WORLD_SIZE": "8"},
            SECOND.model_copy(update={"processes": 4}),
        ),
        (
            {"PET_NNODES": "2:2", "PET_NODE_RANK": "1", "PET_RDZV_ENDPOINT": "first:29400", "PET_RDZV_BACKEND": "c10d"},
            SECOND,
        ),
        (
            {"PET_NNODES": "2", "PET_NODE_RANK": "0", "PET_RDZV_ENDPOINT": "first", "NODES_TIMEOUT_S": "60"},
            Nodes(count=2, address="first", timeout_s=60),
        ),
    ],
)
def test_both_dialects_say_the_same(environ: dict[str, str], nodes: Nodes) -> None:
    assert read_nodes(environ) == nodes


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({**TORCHRUN, "RANK": "0"}, "PET_NODE_RANK=1 and RANK=0 contradict each other"),
        ({**TORCHRUN, "MASTER_ADDR": "other"}, "PET_MASTER_ADDR=first and MASTER_ADDR=other contradict"),
        ({**TORCHRUN, "MASTER_PORT": "1"}, "PET_MASTER_PORT=29400 and MASTER_PORT=1 contradict"),
        ({**TORCHRUN, "PET_RDZV_ENDPOINT": "other:29400"}, "PET_RDZV_ENDPOINT=other contradict"),
        ({**TORCHRUN, "WORLD_SIZE": "3"}, "PET_NNODES=2 and WORLD_SIZE=3 contradict each other"),
        ({**TORCHRUN, "PET_NNODES": "1:3"}, "PET_NNODES='1:3': the number of nodes is fixed"),
        ({**TORCHRUN, "PET_NODE_RANK": "2"}, "node 2 of 2: they are counted from 0"),
        ({**TORCHRUN, "PET_NODE_RANK": "one"}, "PET_NODE_RANK='one' is not a whole number"),
        ({**TORCHRUN, "PET_RDZV_BACKEND": "etcd"}, "PET_RDZV_BACKEND='etcd'"),
        ({"PET_NNODES": "2", "PET_MASTER_ADDR": "first"}, "neither PET_NODE_RANK nor RANK says which one"),
        ({"PET_NNODES": "2", "PET_NODE_RANK": "1"}, "says where the first one is"),
        ({"WORLD_SIZE": "4", "RANK": "1", "PET_NPROC_PER_NODE": "2"}, "WORLD_SIZE=4 may count nodes or processes"),
        ({"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}, "LOCAL_RANK is set: torchrun started this script"),
    ],
)
def test_what_is_not_clear_is_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_nodes(environ)
    assert said in caught.value.message
    assert caught.value.hint


def test_who_may_not_be_the_first_keeps_silent_also_in_an_unclear_environment() -> None:
    assert not unclear_nodes({"PET_NODE_RANK": "0", "RANK": "2"}).first
    assert unclear_nodes({"PET_NODE_RANK": "x"}).first


def test_nodes_can_share_the_workspace() -> None:
    assert [Nodes(count=2, rank=rank).folder("7") for rank in (0, 1)] == ["7", "7.node1"]


def test_what_was_said_to_us_is_not_said_to_torchrun_again() -> None:
    given = {**TORCHRUN, **KUBEFLOW_OLD, "PET_MAX_RESTARTS": "3", "NCCL_DEBUG": "INFO", "GLOO_SOCKET_IFNAME": "eth0"}
    found = worker_environment(given, threads=1, gpus=())
    assert not [name for name in found if name.startswith("PET_")]
    assert not {"MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK"} & found.keys()
    assert {"NCCL_DEBUG", "GLOO_SOCKET_IFNAME"} <= found.keys()


def on(machine: Machine, nodes: int, processes: int | str | None = None) -> Machine:
    return machine.model_copy(update={"nodes": nodes, "processes": processes})


def test_the_batch_is_the_total_over_all_devices_of_all_nodes() -> None:
    plan = plan_of(machine=on(FOUR_GPUS, 2), device="0-3", batch=64, train_images=100)
    assert (plan.nodes.value, plan.processes.value, plan.devices) == (2, 4, 8)
    assert "the total over all 8 devices, 8 on each" in plan.batch.reason
    assert "scaled to batch 64" in plan.lr0.reason
    assert plan.iters_per_epoch.value == 2
    assert plan.threads.value == FOUR_GPUS.cores // 4
    assert plan.lr0.value == plan_of(machine=FOUR_GPUS, batch=64, train_images=100).lr0.value
    with pytest.raises(ConfigError, match="batch=12 does not divide over 8 devices"):
        plan_of(machine=on(FOUR_GPUS, 2), device="0-3", batch=12)


def test_every_device_has_as_many_iterations_as_the_plan_says() -> None:
    """Seven images over two devices are four each, one of them twice: two batches of two."""
    plan = plan_of("pspnet-r50", machine=on(FOUR_GPUS, 1, 2), batch=4, train_images=7)
    assert (plan.devices, plan.drop_last.value, plan.iters_per_epoch.value) == (2, False, 2)


@pytest.mark.parametrize(("processes", "gpus"), [(None, (0,)), ("auto", (0, 1, 2, 3)), (2, (0, 1))])
def test_without_a_device_there_are_as_many_as_the_launcher_says(
    processes: int | str | None, gpus: tuple[int, ...]
) -> None:
    assert choose_device(TrainConfig(), on(FOUR_GPUS, 2, processes))[1] == gpus


def test_more_processes_than_gpus_or_another_number_of_them_is_refused() -> None:
    with pytest.raises(ResourceError, match="PET_NPROC_PER_NODE=8, this machine has 4"):
        choose_device(TrainConfig(), on(FOUR_GPUS, 2, 8))
    with pytest.raises(ConfigError, match=r"names 2 GPU.*PET_NPROC_PER_NODE=4"):
        choose_device(TrainConfig(device="0,1"), on(FOUR_GPUS, 2, 4))


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "torch.distributed.DistStoreError: Timed out after 7 seconds waiting for clients. 1/2 clients joined.",
            "1 of 2",
        ),
        ("torch.distributed.DistNetworkError: The client socket has timed out after 6000ms", "cannot be reached"),
    ],
)
def test_nodes_that_did_not_meet_are_named(tmp_path: pytest.TempPathFactory, log: str, said: str) -> None:
    error = death(1, remains(tmp_path, log), oom_killed=False)  # type: ignore[arg-type]
    assert isinstance(error, ResourceError)
    assert said in error.message
    assert "PET_MASTER_ADDR" in error.hint


def test_torchrun_says_where_a_process_is() -> None:
    said = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2"}
    place = Place.of(said)
    assert (place.node, place.device, place.first, place.first_here) == (1, 1, False, False)
    assert Place.of({}) == Place(rank=0, world=1, per_node=1, node=0, nodes=1)
    assert place.node_of(3) == 0
