"""Which of a job's machines this one is: the only reader of torchrun's and Kubeflow's variables.

Two dialects. torchrun reads its options from ``PET_<OPTION>`` (``PET_NNODES``, ``PET_NODE_RANK``, ...). Kubeflow's
PyTorchJob sets these and, on every pod, ``MASTER_ADDR``, ``MASTER_PORT``, ``RANK`` (the pod's place) and
``WORLD_SIZE`` (pods, or pods x processes, by version). Whatever is said twice must be the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from trainer_sdk.errors import ConfigError

Value = TypeVar("Value", int, str)

RANKS = ("PET_NODE_RANK", "RANK")
ADDRESSES = ("PET_MASTER_ADDR", "MASTER_ADDR", "PET_RDZV_ENDPOINT")
PORTS = ("PET_MASTER_PORT", "MASTER_PORT", "PET_RDZV_ENDPOINT")
OF_ONE_PROCESS = ("LOCAL_RANK", "TORCHELASTIC_RUN_ID")
"""torchrun sets them for the processes that it starts."""
PREFIX = "PET_"
LAUNCHERS = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", *OF_ONE_PROCESS)
"""With all that begin with `PREFIX`: said to us, and not handed on."""
USUAL_PORT = 29500
PATIENCE_S = 1800
HINT = "docs/several-gpus.md says what to set on each node"


class Nodes(BaseModel):
    """The machines of one job, as each of them sees it."""

    model_config = ConfigDict(frozen=True)

    count: int = 1
    rank: int = 0
    """This one's place."""
    address: str = ""
    """Of the first, as the others reach it; with `port` where they meet."""
    port: int = USUAL_PORT
    processes: int | Literal["auto"] | None = None
    """Training processes on each machine; auto: one for each GPU."""
    timeout_s: int = PATIENCE_S
    """How long one waits for another."""

    @property
    def first(self) -> bool:
        """Whether this one talks to the backend and publishes: it alone does."""
        return self.rank == 0

    def folder(self, job_id: str) -> str:
        """The job folder's name: nodes may share WORKSPACE_DIR."""
        return job_id if self.first else f"{job_id}.node{self.rank}"


ALONE = Nodes()


def read_nodes(environ: Mapping[str, str]) -> Nodes:
    """What the environment says of the machines of the job.

    Raises:
        ConfigError: what it says is incomplete, contradicts itself, or cannot be had.
    """
    problems: list[str] = []
    said = {name: value for name, text in environ.items() if (value := text.strip())}
    started_by = next((name for name in OF_ONE_PROCESS if name in said), None)
    if started_by:
        problems.append(f"{started_by} is set: torchrun started this script, which starts torchrun itself")
        raise _error(problems, hint="start one `python train.py` on each node, without torchrun")
    processes = _processes(said, problems)
    count = _count(said, processes, problems)
    rank = _agreed({name: _number(said, name, problems) for name in RANKS}, problems)
    timeout_s = _number(said, "NODES_TIMEOUT_S", problems, least=1)
    host, port = _meeting_point(said, problems)
    if rank is not None and count and rank >= count:
        problems.append(f"node {rank} of {count}: they are counted from 0")
    if count > 1:
        if rank is None and not problems:
            problems.append(f"{count} nodes, and neither {' nor '.join(RANKS)} says which one this is")
        if host is None and not problems:
            problems.append(f"{count} nodes, and none of {', '.join(ADDRESSES)} says where the first one is")
        if said.get("PET_RDZV_BACKEND", "static") not in ("static", "c10d"):
            problems.append(f"PET_RDZV_BACKEND={said['PET_RDZV_BACKEND']!r}: nodes meet at the first one (static)")
    if problems:
        raise _error(problems)
    return Nodes(
        count=count,
        rank=rank or 0,
        address=host or "",
        port=port or USUAL_PORT,
        processes=processes,
        timeout_s=timeout_s or PATIENCE_S,
    )


def unclear_nodes(environ: Mapping[str, str]) -> Nodes:
    """For an environment that `read_nodes` refuses: whoever may not be the first keeps silent."""
    ranks = [int(environ[name]) for name in RANKS if environ.get(name, "").strip().isdecimal()]
    rank = max(ranks, default=0)
    return Nodes(count=rank + 1, rank=rank)


def without_launchers(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a torchrun of ours, which would take what was said to us for its own options."""
    return {name: value for name, value in environ.items() if name not in LAUNCHERS and not name.startswith(PREFIX)}


def _processes(said: Mapping[str, str], problems: list[str]) -> int | Literal["auto"] | None:
    if said.get("PET_NPROC_PER_NODE") in ("auto", "gpu", "cpu"):
        return "auto"
    return _number(said, "PET_NPROC_PER_NODE", problems, least=1)


def _count(said: Mapping[str, str], processes: int | Literal["auto"] | None, problems: list[str]) -> int:
    """Of machines; 0 when it cannot be said."""
    least, _, most = said.get("PET_NNODES", "").partition(":")
    if most and most != least:
        problems.append(f"PET_NNODES={said['PET_NNODES']!r}: the number of nodes is fixed while a job runs")
        return 0
    nodes = _number({**said, "PET_NNODES": least} if least else said, "PET_NNODES", problems, least=1)
    world = _number(said, "WORLD_SIZE", problems, least=1)
    each = processes if isinstance(processes, int) else 1
    if nodes is None and world is not None and each > 1:
        problems.append(f"WORLD_SIZE={world} may count nodes or processes, {each} a node: set PET_NNODES too")
    if nodes is not None and world not in (None, nodes, nodes * each):
        problems.append(f"PET_NNODES={nodes} and WORLD_SIZE={world} contradict each other")
    return nodes or world or 1


def _meeting_point(said: Mapping[str, str], problems: list[str]) -> tuple[str | None, int | None]:
    endpoint, _, endpoint_port = said.get("PET_RDZV_ENDPOINT", "").rpartition(":")
    if not endpoint:  # a host without a port
        endpoint, endpoint_port = endpoint_port, ""
    hosts = {name: said.get(name) for name in ADDRESSES} | {"PET_RDZV_ENDPOINT": endpoint or None}
    numbers = {**said, "PET_RDZV_ENDPOINT": endpoint_port}
    ports = {name: _number(numbers, name, problems, least=1) for name in PORTS}
    return _agreed(hosts, problems), _agreed(ports, problems)


def _number(said: Mapping[str, str], name: str, problems: list[str], least: int = 0) -> int | None:
    text = said.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or int(text) < least:
        problems.append(f"{name}={text!r} is not a whole number from {least} on")
        return None
    return int(text)


def _agreed(values: Mapping[str, Value | None], problems: list[str]) -> Value | None:
    """The one value, whoever says it."""
    given = {name: value for name, value in values.items() if value is not None}
    if len(set(given.values())) > 1:
        problems.append(" and ".join(f"{name}={value}" for name, value in given.items()) + " contradict each other")
    return next(iter(given.values()), None)


def _error(problems: list[str], hint: str = HINT) -> ConfigError:
    error = ConfigError.of_problems("the nodes of the job are not clear", problems, hint=hint)
    assert isinstance(error, ConfigError)
    return error
