"""Whether the model waits for its data, and what would help."""

from __future__ import annotations

from mmtrain.engine.messages import EpochEnd
from mmtrain.plan import TrainPlan

WORTH_A_WORD = 0.2
"""Of an epoch's time. Below it, faster loading is not worth anybody's attention."""


class Waiting:
    """Listens to a training's epochs and gives advice once.

    Args:
        cores: that loading processes can use on this machine.
    """

    def __init__(self, plan: TrainPlan, cores: int) -> None:
        self._plan = plan
        self._cores = cores
        self._heard = 0
        self._said = False

    def hear(self, news: EpochEnd) -> str | None:
        """A sentence, if this epoch is the first to be worth one."""
        self._heard += 1
        starting = self._heard == 1 and news.epoch < self._plan.epochs.value  # the loading processes start in it
        if self._said or starting or news.data_share is None or news.data_share < WORTH_A_WORD:
            return None
        self._said = True
        return f"the model waited {news.data_share:.0%} of epoch {news.epoch} for data: {self._way_out()}"

    def _way_out(self) -> str:
        workers = self._plan.workers
        if workers.value < self._cores:
            return f"raise workers ({workers.value}: {workers.reason}; usable cores: {self._cores})"
        return (
            f"workers is {workers.value} on {self._cores} usable core(s): give it more cores and workers, smaller "
            "picture files, or fewer augmentations (mosaic, mixup)"
        )
