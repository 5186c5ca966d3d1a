"""How an export says what it is at: whoever waits takes long silence for a hang."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str, int, int], None]
"""What is done, how many steps of it, and of how many."""


def silent(what: str, done: int, total: int) -> None:
    """For who does not want to know."""
