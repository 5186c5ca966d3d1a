"""Imports every package of the stack and runs what is compiled; says in words what is wrong and what to do."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
AGAIN = "delete .venv and run `make setup` again"


def torch_works() -> str:
    import torch

    where = "CPU"
    if torch.cuda.is_available():
        where = torch.cuda.get_device_name(0)
        torch.ones(2, device="cuda").sum().item()
    return f"{torch.__version__} on {where}"


def mmcv_ops_work() -> str:
    """Ops bound to another torch fail here, not in the middle of a training."""
    import torch
    from mmcv.ops import nms

    boxes_xyxy = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        kept = nms(boxes_xyxy.to(device), scores.to(device), iou_threshold=0.5)[1]
        if kept.tolist() != [0, 2]:
            raise RuntimeError(f"nms on {device} kept boxes {kept.tolist()} instead of [0, 2]")
    return f"compiled ops run on {' and '.join(devices)}"


def imports(name: str) -> Callable[[], str]:
    def check() -> str:
        from mmtrain import compat

        compat.apply()
        module = compat.import_quietly(name)
        root = importlib.import_module(name.partition(".")[0])
        return str(getattr(root, "__version__", getattr(module, "__version__", "")))

    return check


CHECKS: tuple[tuple[str, Callable[[], str], str], ...] = (
    ("torch", torch_works, f"the torch of the lock is not what is installed, or the driver is too old for it: {AGAIN}"),
    ("torchvision", imports("torchvision"), f"its build does not fit this torch: {AGAIN}"),
    ("mmengine", imports("mmengine.runner"), AGAIN),
    ("mmcv", imports("mmcv"), AGAIN),
    ("mmcv.ops", mmcv_ops_work, f"built for another torch: delete ~/.cache/openmmlab-trainer/wheels, then {AGAIN}"),
    ("mmdet", imports("mmdet.apis"), AGAIN),
    ("mmseg", imports("mmseg.apis"), AGAIN),
    ("mmpose", imports("mmpose.apis"), f"xtcocotools must be built for this numpy: {AGAIN}"),
    ("mmdeploy", imports("mmdeploy.apis"), AGAIN),
    ("transformers", imports("transformers"), AGAIN),
    ("onnxruntime", imports("onnxruntime"), AGAIN),
    ("faster_coco_eval", imports("faster_coco_eval"), AGAIN),
)


def main() -> int:
    failures = []
    for name, check, advice in CHECKS:
        try:
            print(f"[setup]   {name:17} {check()}", flush=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is named and the next package is tried
            print(f"[setup]   {name:17} FAILED", flush=True)
            failures.append(f"  - {name}: {type(error).__name__}: {error}\n    what to do: {advice}")
    if failures:
        print("cannot work with this environment:\n" + "\n".join(failures), file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
