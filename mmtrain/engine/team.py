"""What the processes of a training say to each other, beside gradients: few numbers, on the side of the CPU."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import distributed

from mmtrain.engine.place import Place
from trainer_sdk.errors import ConfigError

Value = TypeVar("Value")
Facts = Mapping[str, str]
SHOWN_CHARACTERS = 80


class Team:
    """The processes that train together; one alone is a team too, and never waits."""

    def __init__(self, place: Place, group: distributed.ProcessGroup | None = None) -> None:
        self.place = place
        self._group = group

    @classmethod
    def of(cls, place: Place, *, gpus: bool, timeout_s: int) -> Team:
        """Meets the others. MMEngine's own way takes every process to have a GPU.

        Args:
            timeout_s: how long a process waits in a step for another one.
        """
        if place.world == 1:
            return cls(place)
        if gpus:
            torch.cuda.set_device(place.device)
        patience = datetime.timedelta(seconds=timeout_s)
        distributed.init_process_group("nccl" if gpus else "gloo", timeout=patience)
        return cls(place, distributed.new_group(backend="gloo", timeout=patience))

    def highest(self, number: int) -> int:
        """Of the numbers that each says."""
        return number if self._group is None else int(self._reduced([number], distributed.ReduceOp.MAX)[0])

    def mean(self, numbers: Iterable[float]) -> list[float]:
        """Of each of the numbers that all say in the same order."""
        if self._group is None:
            return list(numbers)
        return [total / self.place.world for total in self._reduced(numbers, distributed.ReduceOp.SUM)]

    def from_first(self, value: Value) -> Value:
        """What the first one has; the others' is not asked for."""
        found = [value]
        if self._group is not None:
            distributed.broadcast_object_list(found, src=0, group=self._group)
        return found[0]

    def wait(self) -> None:
        """For all the others to come here."""
        if self._group is not None:
            distributed.barrier(self._group)

    def agree(self, facts: Facts) -> None:
        """Makes sure that all are about to do the same.

        Raises:
            ConfigError: with everything in which nodes differ.
        """
        if self._group is None:
            return
        said: list[tuple[int, Facts]] = [(0, {})] * self.place.world
        distributed.all_gather_object(said, (self.place.node, dict(facts)), self._group)
        by_node = dict(said)
        problems = differences([by_node[node] for node in sorted(by_node)])
        if problems:
            raise ConfigError.of_problems(
                "the nodes are about to train differently",
                problems,
                hint="give every node the same request, data, kind and number of GPUs, and image",
            )

    def part(self) -> None:
        """The common work is done; from now on each is alone, for MMEngine's samplers too."""
        if self._group is not None:
            self.wait()
            distributed.destroy_process_group()
            self._group = None

    def _reduced(self, numbers: Iterable[float], how: distributed.ReduceOp) -> list[float]:
        tensor = torch.tensor(list(numbers), dtype=torch.float64)
        distributed.all_reduce(tensor, how, self._group)
        return [float(number) for number in tensor]


ALONE = Team(Place())


def differences(said: list[Facts]) -> list[str]:
    """In what nodes differ, in words.

    Args:
        said: by each node, in order.
    """
    return [
        f"{name} is " + ", ".join(f"{_short(facts.get(name, 'unknown'))} on node {n}" for n, facts in enumerate(said))
        for name in sorted({name for facts in said for name in facts})
        if len({facts.get(name) for facts in said}) > 1
    ]


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
