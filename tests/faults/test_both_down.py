"""Storage and backend while a job trains"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmtrain.engine.messages import EpochEnd
from mmtrain.engine.order import BROUGHT, MESSAGES
from mmtrain.jobs.keeping import Keeper
from mmtrain.jobs.progress import ProgressStore
from tests.conftest import JobScript, RunScript
from tests.doubles import network as faults
from tests.doubles.backend import ContractBackend
from tests.doubles.network import Fault, Network
from tests.doubles.s3 import CHECKPOINTS, S3Double
from tests.faults.conftest import Seen
from tests.unit.test_progress import Stopped, checkpoint
from trainer_sdk.settings import Settings
from trainer_sdk.storage.opening import open_storage

EPOCHS, DOWN_S = 6, 12.0
STORY = f"""
    from trainer_sdk.storage.opening import open_storage
    storage = open_storage(session.settings.checkpoints)
    assert list(storage.objects("checkpoints/123/")) == []
    for epoch in range(1, {EPOCHS} + 1):
        session.tell(Progress(current_epoch=epoch, total_epochs={EPOCHS}, progress_percent=epoch * 10,
                              metrics=Metrics(loss=1 / epoch)))
        file = session.workspace.work / f"epoch_{{epoch}}.pth"
        file.write_bytes(bytes([epoch]) * 100_000)
        storage.upload(file, f"checkpoints/123/epoch_{{epoch}}.pt")
        time.sleep(0.2)
    session.complete(DONE)
"""


@pytest.fixture
def network(s3: S3Double) -> Iterator[Network]:
    with Network(s3.endpoint) as network:
        yield network


@pytest.mark.short
@pytest.mark.fault(
    f"network, storage and backend are all gone for {DOWN_S:.0f} s", expected="every object and every event arrives"
)
def test_both_at_once(
    run_script: RunScript,
    job_script: JobScript,
    s3: S3Double,
    network: Network,
    backend: ContractBackend,
    seen: Seen,
) -> None:
    with Network(backend.url) as between:

        def all_down(exchange: faults.Exchange) -> None:
            network.cut_for(DOWN_S)
            between.cut_for(DOWN_S)

        network.fail(all_down, when=lambda asked: "epoch_3" in asked.path, times=1)
        environ = {"JOB_ID": "123", "MODEL_NAME": "rtmdet-tiny", "DATASET_ID": "d", "CALLBACK_URL": between.url}
        environ |= network.storage_environment(s3.environment())
        done = run_script(environ, script=job_script(STORY), timeout_s=120)
        recovery_s = network.since_last_fault_s() - DOWN_S
    assert done.exit_code == 0, done.stdout
    assert backend.status_of(123) == "completed"
    told = [call.body["current_epoch"] for call in backend.accepted if call.what == "progress"]
    assert list(dict.fromkeys(told)) == list(range(EPOCHS + 1))
    keys = [f"checkpoints/123/epoch_{epoch}.pt" for epoch in range(1, EPOCHS + 1)]
    assert [s3.get(CHECKPOINTS, key)[:1] for key in keys] == [bytes([epoch]) for epoch in range(1, EPOCHS + 1)]
    seen(f"{EPOCHS} of {EPOCHS} objects, {EPOCHS + 2} of {EPOCHS + 2} events, in order", recovery_s=recovery_s)


def an_epoch(work: Path, number: int) -> None:
    checkpoint(work / f"epoch_{number}.pth", f"weights of {number}")
    line = EpochEnd(epoch=number, iteration=4 * number, losses={"loss": 0.1}, lr=0.1).model_dump_json()
    with (work / MESSAGES).open("a") as file:
        file.write(line + "\n")


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            fault,
            id=name,
            marks=pytest.mark.fault(
                f"a checkpoint is kept while the job trains: every request {words}",
                expected="the training goes on; when it breaks off later, its newest checkpoint is kept",
            ),
        )
        for name, words, fault in (
            ("503", "answered 503 SlowDown", faults.status(503, "SlowDown")),
            ("reset", "reset", faults.reset),
            ("refused", "answered 403 AccessDenied", faults.status(403, "AccessDenied")),
            ("hang", "not answered", faults.hang(6.0)),
        )
    ],
)
def test_checkpoints_kept_meanwhile(s3: S3Double, network: Network, tmp_path: Path, seen: Seen, fault: Fault) -> None:
    environ = network.storage_environment(s3.environment()) | {"STORAGE_PATIENCE_S": "3"}
    store = ProgressStore(open_storage(Settings.from_env(environ).checkpoints), "checkpoints/123/resume/")
    assert store.read() is None
    network.fail(fault, seconds=8.0)
    ends = time.monotonic() + 10.0
    with contextlib.suppress(Stopped), Keeper(store, "ours", tmp_path, wait_s=lambda: 60):
        number = 0
        while time.monotonic() < ends:
            number += 1
            an_epoch(tmp_path, number)
            time.sleep(0.5)
        raise Stopped
    kept = store.read()
    assert network.faults > 0
    assert kept is not None and kept.epoch == number
    (tmp_path / "elsewhere").mkdir()
    store.bring(kept, tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / BROUGHT).read_bytes() == (tmp_path / f"epoch_{number}.pth").read_bytes()
    seen(f"epoch {kept.epoch} of {number} is there after {network.faults} faults, and can be gone on from")
