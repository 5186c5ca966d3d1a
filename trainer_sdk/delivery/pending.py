"""What the backend has not heard yet, oldest first; of the progress, only what still says something."""

from __future__ import annotations

from collections import OrderedDict

from trainer_sdk.delivery.journal import Record

CARRIED = ("metrics", "checkpoint_path", "best_checkpoint_path")
"""What of a progress event the backend keeps for its epoch; all else of it, the next one says better."""


class Pending:
    """A queue. To be used with the outbox's lock."""

    def __init__(self) -> None:
        self._records: OrderedDict[int, Record] = OrderedDict()
        self._plain: int | None = None
        self._newest: dict[int, int] = {}
        """By epoch, the progress that carries something."""
        self._held: int | None = None
        self.replaced = 0

    def __len__(self) -> int:
        return len(self._records)

    def has(self, kinds: frozenset[str]) -> bool:
        return any(record["kind"] in kinds for record in self._records.values())

    def add(self, record: Record) -> None:
        """A progress takes the place of one that waits and says nothing more: the newest of each epoch wins."""
        self._records[record["sequence"]] = record
        if record["kind"] != "progress":
            return
        self._replace(self._plain)
        self._plain = None
        carried, epoch = _carried(record), record["body"]["current_epoch"]
        if not carried:
            self._plain = record["sequence"]
            return
        earlier = self._records.get(self._newest.get(epoch, 0))
        if earlier is not None and _carried(earlier) <= carried:
            self._replace(earlier["sequence"])
        self._newest[epoch] = record["sequence"]

    def hold(self) -> Record | None:
        """The oldest, which now stays as it is until it is released or done."""
        record = next(iter(self._records.values()), None)
        self._held = record["sequence"] if record else None
        return record

    def release(self) -> None:
        """It was not delivered: a newer one may take its place."""
        self._held = None

    def done(self, record: Record) -> None:
        self._held = None
        del self._records[record["sequence"]]

    def _replace(self, sequence: int | None) -> None:
        if sequence is not None and sequence != self._held and sequence in self._records:
            del self._records[sequence]
            self.replaced += 1


def _carried(record: Record) -> set[str]:
    return {name for name in CARRIED if name in record["body"]}
