"""How several processes share the matrix: all tests of a recipe in the one that has trained it."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


class ByRecipe(LoadScopeScheduling):
    """The marks of `--dist loadgroup` are not seen with pytest 9.2 (xdist 3.8)."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("[")[2] or nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByRecipe:
    """Recipes go from hand to hand one by one, as their trainings take from two seconds to half a minute."""
    return ByRecipe(config, log)
