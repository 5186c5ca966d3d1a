"""Tests; a package so that `tests.doubles` can be imported and run from the repository root."""
