"""A plain MMDetection training, without any of our code: what `make real` compares the job with.

Upstream's RTMDet-tiny configuration, edited as its user guide says: own classes, one image size everywhere, flip
only, no EMA, cosine, from scratch. Prints one JSON line: wall time and test metrics.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

STARTED = time.time()


def main() -> None:
    options = parse_arguments()
    import mmdet
    from mmengine.config import Config
    from mmengine.runner import Runner

    base = Path(mmdet.__file__).parent / ".mim/configs/rtmdet/rtmdet_tiny_8xb32-300e_coco.py"
    config = Config.fromfile(base)
    edit(config, options)
    runner = Runner.from_cfg(config)
    runner.train()
    best = next(Path(options.work_dir).glob("best_*.pth"))
    runner.load_checkpoint(str(best), map_location="cpu")
    metrics = runner.test()
    # From the start of the interpreter, as the job's wall time is taken.
    result = {"wall_s": round(time.time() - options.started, 1), "metrics": metrics, "best": best.name}
    Path(options.work_dir, "result.json").write_text(json.dumps(result))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=Path, required=True, help="folder with train.json, val.json, test.json")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--val-interval", type=int, default=4)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--started", type=float, default=STARTED)
    return parser.parse_args()


def edit(config: Any, options: argparse.Namespace) -> None:
    """The edits, in the order of the configuration."""
    size, grey = (options.size, options.size), {"img": (114, 114, 114)}
    classes = [row["name"] for row in json.loads((options.annotations / "train.json").read_text())["categories"]]
    config.model.bbox_head.num_classes = len(classes)
    config.model.backbone.init_cfg = None
    train = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True},
        {"type": "Resize", "scale": size, "keep_ratio": True},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "Pad", "size": size, "pad_val": grey},
        {"type": "PackDetInputs"},
    ]
    test = [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "scale": size, "keep_ratio": True},
        {"type": "Pad", "size": size, "pad_val": grey},
        {"type": "LoadAnnotations", "with_bbox": True},
        {"type": "PackDetInputs", "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")},
    ]
    for name, split, pipeline in (("train", "train", train), ("val", "val", test), ("test", "test", test)):
        loader = config[f"{name}_dataloader"]
        loader.num_workers, loader.batch_size = 2, 8
        loader.dataset.update(
            data_root="",
            ann_file=str(options.annotations / f"{split}.json"),
            data_prefix={"img": str(options.images)},
            metainfo={"classes": tuple(classes)},
            pipeline=pipeline,
        )
        if name != "train":
            config[f"{name}_evaluator"].ann_file = loader.dataset.ann_file
    config.train_dataloader.pin_memory = False
    config.train_cfg.update(max_epochs=options.epochs, val_interval=options.val_interval, dynamic_intervals=None)
    iterations = options.epochs * -(-count_images(options.annotations / "train.json") // 8)
    config.optim_wrapper.optimizer.lr = 0.002
    warmup = iterations // options.epochs
    config.param_scheduler = [
        {"type": "LinearLR", "start_factor": 1e-5, "by_epoch": False, "begin": 0, "end": warmup},
        {"type": "CosineAnnealingLR", "eta_min": 1e-4, "by_epoch": False, "begin": warmup, "end": iterations,
         "T_max": iterations - warmup},
    ]  # fmt: skip
    config.custom_hooks = []
    config.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=1, save_best="coco/bbox_mAP")
    config.randomness = {"seed": options.seed}
    config.work_dir = str(options.work_dir)


def count_images(path: Path) -> int:
    return len(json.loads(path.read_text())["images"])


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
