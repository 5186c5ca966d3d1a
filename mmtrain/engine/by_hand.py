"""Runs the config.py of a streaming job by hand: ``python -m mmtrain.engine.by_hand config.py``.

Its images are in a bucket, for which MMEngine has no reader of its own; the storage is the one that the environment
names (EXTERNAL_STORAGE_*). A config.py whose images are files needs neither this nor us.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mmtrain import compat
from trainer_sdk.settings import Settings


def main() -> None:
    """Trains."""
    parser = argparse.ArgumentParser(description="Runs the config.py of a streaming job.")
    parser.add_argument("config", type=Path)
    path = parser.parse_args().config
    compat.apply()
    from mmengine.config import Config
    from mmengine.runner import Runner

    from mmtrain.engine.stream import reach_images, read_ahead

    config = Config.fromfile(path)
    compat.import_framework(config.default_scope)
    reach_images(config, Settings.from_env(os.environ), Path(config.work_dir) / "stream_cache")
    read_ahead(config)
    Runner.from_cfg(config).train()


if __name__ == "__main__":
    main()
