"""Where a training process is among those that train together, as torchrun tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class SiblingDied(Exception):
    """Another process of this machine ended without a word: torchrun's report says how."""


class Place(NamedTuple):
    """One process of `world`, with `per_node` on each of `nodes` machines."""

    rank: int = 0
    world: int = 1
    per_node: int = 1
    node: int = 0
    nodes: int = 1

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Place:
        """Alone where torchrun says nothing."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
        return cls(*(int(environ.get(name, default)) for name, default in zip(names, cls(), strict=True)))

    @property
    def first(self) -> bool:
        """Of all: it talks to the parent."""
        return self.rank == 0

    @property
    def first_here(self) -> bool:
        """Of this machine: it writes what all processes here read."""
        return self.rank % self.per_node == 0

    @property
    def device(self) -> int:
        """Number of this process's GPU."""
        return self.rank % self.per_node

    def node_of(self, rank: int) -> int:
        """The machine of another process."""
        return rank // self.per_node
