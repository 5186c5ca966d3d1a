"""Storage: data sets on their way here"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.proxy import FaultyProxy
from tests.doubles.s3 import DATASETS
from tests.faults.conftest import Seen
from trainer_sdk.s3 import S3Storage
from trainer_sdk.settings import Settings


def storage_behind(proxy: FaultyProxy, s3: Any) -> S3Storage:
    return S3Storage(Settings.from_env(proxy.environment(s3.environment())).datasets, DATASETS)


@pytest.mark.short
@pytest.mark.fault("three answers 503 SlowDown in a row", expected="the object arrives whole")
def test_slow_down(s3: Any, tmp_path: Path, seen: Seen) -> None:
    s3.put(DATASETS, "a.bin", b"x" * 1000)
    with FaultyProxy(s3.endpoint) as proxy:
        proxy.failures = 3
        started = time.monotonic()
        storage_behind(proxy, s3).download("a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == b"x" * 1000
    seen("1000 of 1000 bytes arrived, MD5 right", recovery_s=time.monotonic() - started)
