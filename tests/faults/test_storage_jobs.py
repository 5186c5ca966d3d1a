"""Whole jobs whose storage goes away"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mmtrain.datasets.shapes import write_shapes
from tests.conftest import RunScript
from tests.doubles import network as faults
from tests.doubles.backend import ContractBackend
from tests.doubles.network import Network, Request
from tests.doubles.s3 import CHECKPOINTS, S3Double
from tests.e2e.test_jobs import request
from tests.faults.conftest import Seen

JOB_S = 540.0
"""Patience of the tests, for a busy machine."""
pytestmark = pytest.mark.timeout(2 * JOB_S + 60)


@pytest.fixture
def network(s3: S3Double, tmp_path: Path) -> Iterator[Network]:
    """The storage with a small data set, behind a network."""
    folder = write_shapes(tmp_path / "shapes", counts={"train": 8, "val": 4})
    s3.put_folder(folder, prefix="datasets/d/")
    with Network(s3.endpoint) as network:
        yield network


@pytest.fixture
def environ(s3: S3Double, network: Network, backend: ContractBackend, tmp_path: Path) -> dict[str, str]:
    job = request("rtmdet-tiny", {"epochs": 2}) | {"DATASET_ID": "d", "CALLBACK_URL": backend.url}
    return job | network.storage_environment(s3.environment()) | {"DATASET_CACHE_DIR": str(tmp_path / "cache")}


def of_results(request: Request) -> bool:
    return request.method in ("PUT", "POST") and "/checkpoints/123/best.pt" in request.path


def kept_meanwhile(request: Request) -> bool:
    return request.method == "PUT" and "/checkpoints/123/resume/" in request.path


def published(s3: S3Double) -> set[str]:
    return {key.removeprefix("checkpoints/123/") for key in s3.keys(CHECKPOINTS)}


@pytest.mark.fault("nobody listens for 15 s when results are published", expected="waited for; completed")
def test_an_outage_in_publish(
    run_script: RunScript, s3: S3Double, network: Network, backend: ContractBackend, environ: dict[str, str], seen: Seen
) -> None:
    network.fail(lambda exchange: network.cut_for(15.0), when=of_results, times=1)
    done = run_script(environ, timeout_s=JOB_S)
    recovery_s = network.since_last_fault_s() - 15.0
    assert done.exit_code == 0, done.stdout
    assert backend.status_of(123) == "completed"
    assert s3.get(CHECKPOINTS, "checkpoints/123/best.pt") == (done.folder / "out" / "best.pth").read_bytes()
    assert {"best.pt", "last.pt", "manifest.json", "completed.json", "report.html"} <= published(s3)
    seen(f"completed, {len(published(s3))} objects published", recovery_s=recovery_s)


@pytest.mark.fault(
    "nobody listens any more when results are published",
    expected="NetworkError, exit 5, told; the rerun publishes and trains nothing",
)
def test_a_storage_that_stays_away(
    run_script: RunScript, s3: S3Double, network: Network, backend: ContractBackend, environ: dict[str, str], seen: Seen
) -> None:
    network.fail(lambda exchange: network.cut(), when=of_results, times=1)
    first = run_script({**environ, "STORAGE_PATIENCE_S": "3"}, timeout_s=JOB_S)
    assert first.exit_code == 5, first.stdout
    assert first.outcome["phase"] == "publish" and first.outcome["retryable"]
    assert backend.status_of(123) == "failed"
    trained = (first.folder / "work" / "epoch_2.pth").stat().st_mtime_ns
    network.restore()
    again = run_script(environ, timeout_s=JOB_S)
    assert again.exit_code == 0, again.stdout
    assert (again.folder / "work" / "epoch_2.pth").stat().st_mtime_ns == trained
    assert backend.status_of(123) == "completed"
    assert s3.get(CHECKPOINTS, "checkpoints/123/best.pt") == (again.folder / "out" / "best.pth").read_bytes()
    seen("exit 5, then exit 0; not an iteration trained again", recovery_s=sum(again.outcome["timings_s"].values()))


@pytest.mark.fault(
    "503 to every upload while the job trains", expected="the training goes on, the job is completed; a warning"
)
def test_uploads_while_training(
    run_script: RunScript, s3: S3Double, network: Network, backend: ContractBackend, environ: dict[str, str], seen: Seen
) -> None:
    network.fail(faults.status(503, "SlowDown"), when=kept_meanwhile)
    done = run_script({**environ, "STORAGE_PATIENCE_S": "5"}, timeout_s=JOB_S)
    assert done.exit_code == 0, done.stdout
    assert network.faults > 0
    assert backend.status_of(123) == "completed"
    assert {"best.pt", "manifest.json"} <= published(s3)
    told = "checkpoints cannot be kept" in done.stdout
    seen(f"completed after {network.faults} refusals; {'told in the log' if told else 'still trying at the end'}")


@pytest.mark.fault(
    "backend and storage both down from the first epoch until the results are there",
    expected="completed; every event arrives, in order",
)
def test_both_at_once(
    run_script: RunScript, s3: S3Double, network: Network, backend: ContractBackend, environ: dict[str, str], seen: Seen
) -> None:
    with Network(backend.url) as between:

        def all_down(exchange: faults.Exchange) -> None:
            exchange.answer(exchange.pass_on())
            network.fail(faults.reset, seconds=25.0)
            between.cut_for(25.0)

        between.fail(all_down, when=lambda asked: b'"current_epoch":1' in asked.body.replace(b" ", b""), times=1)
        done = run_script({**environ, "CALLBACK_URL": between.url}, timeout_s=JOB_S)
        recovery_s = max(0.0, between.since_last_fault_s() - 25.0)
    assert done.exit_code == 0, done.stdout
    assert network.faults > 0 and between.faults == 1
    assert backend.status_of(123) == "completed"
    assert done.outcome["undelivered_events"] == 0
    assert {"best.pt", "manifest.json"} <= published(s3)
    order = [call.what for call in backend.accepted if call.what != "logs"]
    assert order[0] == "progress" and order[-1] == "completion"
    assert {call.body["epoch"] for call in backend.accepted if call.what == "results"} == {1, 2}
    seen(f"completed, {len(order)} events arrived; {network.faults} requests to the storage failed", recovery_s)
