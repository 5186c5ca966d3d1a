"""Stands where torch is, for a job whose worker is `tests.doubles.light_worker`: only its launcher is there."""
