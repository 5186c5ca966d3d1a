"""Says what a checkpoint is, before any data are moved for it: ``python -m mmtrain.engine.facts_worker <work>``."""

from __future__ import annotations

import sys
from pathlib import Path

from mmtrain.engine.messages import MessageWriter
from mmtrain.engine.order import MODEL, FactsOrder
from mmtrain.engine.serving import serve
from trainer_sdk.workspace import write_json


def run(order: FactsOrder, work_dir: Path, writer: MessageWriter) -> None:
    """Leaves `ModelFacts`. Raises: CheckpointError, ConfigError."""
    from mmtrain.engine.said import facts_of

    write_json(work_dir / MODEL, facts_of(order.source).model_dump(mode="json"))


if __name__ == "__main__":
    sys.exit(serve(run, FactsOrder, Path(sys.argv[1])))
