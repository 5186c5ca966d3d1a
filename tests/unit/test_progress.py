"""What of a running training is kept in the storage, and what another machine makes of it."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from mmtrain.engine.messages import EpochEnd, FitStarted, Iteration, MessageWriter, News, Validated, read_news
from mmtrain.engine.order import MESSAGES
from mmtrain.jobs.keeping import Keeper, reached_by, worth_keeping
from mmtrain.jobs.memory import MEMORY
from mmtrain.jobs.progress import RECORD, ProgressStore, bring_progress, epochs_in, progress_store
from trainer_sdk.settings import Settings
from trainer_sdk.storage.local import LocalStorage

PREFIX = "checkpoints/7/resume/"
CURVES = "20260101_000000/vis_data/events.out.tfevents.1.host.2.0"
BEST = "best_coco_bbox_mAP_epoch_1.pth"


class Stopped(Exception):
    """Ends a training in a test."""


def checkpoint(path: Path, content: str) -> None:
    """What torch.save would have written, as far as the parent looks."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("it/data.pkl", content)


def end_of(epoch: int) -> EpochEnd:
    return EpochEnd(epoch=epoch, iteration=3 * epoch, losses={"loss": 1.0 / epoch}, lr=0.1)


def validation_of(epoch: int) -> Validated:
    return Validated(epoch=epoch, metrics={"coco/bbox_mAP": 0.1}, best=True)


def iteration(epoch: int, number: int) -> Iteration:
    return Iteration(epoch=epoch, iteration=number, loss=1.0, lr=0.1)


def began(done: int = 0) -> FitStarted:
    return FitStarted(epochs=6, iters=18, parameters=1, done_epochs=done, done_iters=3 * done)


class Machine:
    """A job's work folder with the storage that it shares with others."""

    def __init__(self, folder: Path, storage: Path) -> None:
        self.work = folder
        self.work.mkdir()
        self.store = ProgressStore(LocalStorage(storage), PREFIX)
        self.said: list[tuple[str, str]] = []

    def train(self, epoch: int) -> None:
        checkpoint(self.work / f"epoch_{epoch}.pth", f"weights of {epoch}")
        self.say(iteration(epoch, 3 * epoch), end_of(epoch), validation_of(epoch))

    def say(self, *news: News) -> None:
        writer = MessageWriter(self.work / MESSAGES)
        for message in news:
            writer.say(message)

    def stop(self, training: str = "ours") -> None:
        """The end of a run that failed: the keeper looks once more."""
        with pytest.raises(Stopped), Keeper(self.store, training, self.work, wait_s=lambda: 60):
            raise Stopped

    def begin(self, training: str = "ours") -> None:
        def log(text: str, *, level: str = "INFO", event_type: str = "") -> None:
            self.said.append((level, text))

        session = SimpleNamespace(workspace=SimpleNamespace(work=self.work), log=log)
        bring_progress(self.store, training, session)  # type: ignore[arg-type]

    @property
    def files(self) -> set[str]:
        return {path.relative_to(self.work).as_posix() for path in self.work.rglob("*") if path.is_file()}


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def machine(tmp_path: Path, storage: Path) -> Callable[[str], Machine]:
    return lambda name: Machine(tmp_path / name, storage)


@pytest.fixture
def first(machine: Callable[[str], Machine]) -> Machine:
    """Was stopped after two epochs, the first of which was the best."""
    found = machine("first")
    checkpoint(found.work / BEST, "best")
    (found.work / CURVES).parent.mkdir(parents=True)
    (found.work / CURVES).write_bytes(b"curves")
    (found.work / MEMORY).write_bytes(b"{}")
    found.say(began())
    found.train(1)
    found.train(2)
    found.stop()
    return found


def objects(storage: Path) -> dict[str, Path]:
    return {path.name.partition("-")[2] or path.name: path for path in (storage / PREFIX).iterdir()}


def test_another_machine_finds_all_it_needs(first: Machine, machine: Callable[[str], Machine]) -> None:
    second = machine("second")
    second.begin()
    assert second.files == {"fetched.pth", BEST, MESSAGES, CURVES, MEMORY}
    assert (second.work / "fetched.pth").read_bytes() == (first.work / "epoch_2.pth").read_bytes()
    assert read_news(second.work / MESSAGES) == [began(), end_of(1), validation_of(1), end_of(2), validation_of(2)]
    assert [level for level, _ in second.said] == ["INFO"]
    assert "goes on from epoch 2, iteration 6, saved by an earlier run on another machine" in second.said[0][1]


def test_the_record_says_what_it_is_of(first: Machine, storage: Path) -> None:
    record = orjson.loads((storage / PREFIX / RECORD).read_bytes())
    assert (record["fingerprint"], record["epoch"], record["iteration"]) == ("ours", 2, 6)
    assert record["files"]["fetched.pth"]["size_bytes"] == (first.work / "epoch_2.pth").stat().st_size


def test_a_newer_checkpoint_takes_the_place_and_what_is_unchanged_stays(first: Machine, storage: Path) -> None:
    best = objects(storage)[BEST].stat().st_mtime_ns
    first.train(3)
    first.stop()
    assert set(objects(storage)) == {"epoch_3.pth", BEST, MESSAGES, Path(CURVES).name, MEMORY, RECORD}
    assert objects(storage)[BEST].stat().st_mtime_ns == best


def test_an_upload_that_breaks_off_leaves_the_earlier_one_whole(
    first: Machine, machine: Callable[[str], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = LocalStorage.upload

    def break_off(self: LocalStorage, source: Path, key: str) -> str:
        if key.endswith(RECORD):
            raise ConnectionError
        return upload(self, source, key)

    first.train(3)
    with monkeypatch.context() as change:
        change.setattr(LocalStorage, "upload", break_off)
        first.stop()
    second = machine("second")
    second.begin()
    assert (second.work / "fetched.pth").read_bytes() == (first.work / "epoch_2.pth").read_bytes()


def test_a_stopped_training_keeps_the_middle_of_its_epoch(first: Machine, machine: Callable[[str], Machine]) -> None:
    checkpoint(first.work / "interrupted.pth", "weights within the third")
    first.say(iteration(3, 8))
    first.stop()
    second = machine("second")
    second.begin()
    assert (second.work / "fetched.pth").read_bytes() == (first.work / "interrupted.pth").read_bytes()
    assert "from epoch 2, iteration 8, saved" in second.said[0][1]
    assert (second.work / "epoch_2.pth").read_bytes() == (first.work / "epoch_2.pth").read_bytes()
    times = [(second.work / name).stat().st_mtime_ns for name in ("epoch_2.pth", "fetched.pth")]
    assert times == sorted(times)


def test_a_storage_that_fails_is_told_once_and_asked_again(
    machine: Callable[[str], Machine], storage: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lonely = machine("lonely")
    storage.write_text("no folder")
    keeper = Keeper(lonely.store, "ours", lonely.work, wait_s=lambda: 60)
    with caplog.at_level(logging.WARNING, logger="trainer"):
        for epoch in (1, 2):
            lonely.train(epoch)
            keeper.look()
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        f"checkpoints cannot be kept at {lonely.store.uri}, the training goes on"
    ]
    storage.unlink()
    keeper.look()
    assert "epoch_2.pth" in objects(storage)


def test_a_completed_training_leaves_nothing(first: Machine, storage: Path) -> None:
    first.store.clear()
    assert list(first.store.storage.objects(PREFIX)) == []
    assert first.store.read() is None


def _remove(path: Path) -> None:
    path.unlink()


def _damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        ("epoch_2.pth", _remove, "is not there"),
        ("epoch_2.pth", _damage, "is damaged"),
        (BEST, _cut, "is damaged"),
        (MESSAGES, _remove, "is not there"),
        (RECORD, _cut, "is damaged"),
    ],
)
def test_what_is_not_whole_is_left_alone(
    first: Machine, machine: Callable[[str], Machine], storage: Path, name: str, harm: Any, said: str
) -> None:
    harm(objects(storage)[name])
    second = machine("second")
    second.begin()
    assert second.files == set()
    assert [level for level, _ in second.said] == ["WARNING"]
    assert said in second.said[0][1]


@pytest.mark.parametrize(
    "name",
    ["../fetched.pth", "/tmp/fetched.pth", "a/../../b.pth", "", "worker.json", "worker_error.json", "stop", "x.pth"],
)
def test_nothing_is_written_outside_the_work_folder(
    first: Machine, machine: Callable[[str], Machine], storage: Path, name: str
) -> None:
    record = orjson.loads((storage / PREFIX / RECORD).read_bytes())
    record["files"][name] = record["files"][BEST]
    (storage / PREFIX / RECORD).write_bytes(orjson.dumps(record))
    second = machine("second")
    second.begin()
    assert second.files == set()
    assert "none of work/" in second.said[0][1]


def test_another_training_under_the_same_id_begins_anew(first: Machine, machine: Callable[[str], Machine]) -> None:
    second = machine("second")
    second.begin("another")
    assert second.files == set()
    assert "of another training" in second.said[0][1]


def test_who_is_as_far_fetches_nothing(first: Machine, machine: Callable[[str], Machine]) -> None:
    here = machine("here")
    for epoch in (1, 2):
        here.train(epoch)
    here.begin()
    assert "fetched.pth" not in here.files
    assert here.said == []


def test_who_goes_on_does_not_put_back_what_he_had_before(
    first: Machine, machine: Callable[[str], Machine], storage: Path
) -> None:
    behind = machine("behind")
    behind.train(1)
    behind.begin()
    assert "fetched.pth" in behind.files
    behind.stop()
    assert orjson.loads((storage / PREFIX / RECORD).read_bytes())["epoch"] == 2


def test_how_far_a_checkpoint_came() -> None:
    news = [began(), end_of(1), iteration(2, 5)]
    assert reached_by(Path("epoch_1.pth"), news) == (1, 3)
    assert reached_by(Path("epoch_2.pth"), news) is None  # its epoch's losses are not told yet
    assert reached_by(Path("interrupted.pth"), news) == (1, 5)
    assert reached_by(Path("interrupted.pth"), []) == (0, 0)


def test_news_after_the_checkpoint_are_not_of_it() -> None:
    twice = [began(), end_of(1), end_of(2), began(1), end_of(2), validation_of(2), end_of(3)]
    assert worth_keeping(twice, 2) == [began(), end_of(1), began(1), end_of(2), validation_of(2)]


@pytest.mark.parametrize(
    ("names", "epochs"),
    [([], -1), (["epoch_3.pth", "epoch_12.pth"], 12), (["interrupted.pth"], 0), ([BEST, "checkpoint.pth"], -1)],
)
def test_how_far_a_folder_is(tmp_path: Path, names: list[str], epochs: int) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert epochs_in(tmp_path) == epochs


@pytest.mark.parametrize(
    ("endpoint", "kept"), [(None, False), ("file://{}/work/store", False), ("file://{}/store", True)]
)
def test_only_a_storage_that_outlives_the_job_folders_counts(tmp_path: Path, endpoint: str | None, kept: bool) -> None:
    environ = {"WORKSPACE_DIR": str(tmp_path / "work")}
    if endpoint:
        environ["INTERNAL_STORAGE_ENDPOINT"] = endpoint.format(tmp_path)
    assert (progress_store(Settings.from_env(environ), "7") is not None) == kept
