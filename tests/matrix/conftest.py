"""How several processes share the matrix: all tests of a recipe in the one that has trained it."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)  # before xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Recipes go from hand to hand one by one, as their trainings take from two seconds to half a minute."""
    for item in items:
        if isinstance(item, pytest.Function) and "trained" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(item.callspec.id))
