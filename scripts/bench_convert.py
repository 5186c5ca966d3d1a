"""How long the converters take beside datumaro and plain ``json``, and how that grows: ``make bench-convert``.

Every run is a process of its own, from start to end; time is wall clock and CPU, memory the peak resident set.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from bench_environment import bench_python

ROOT = Path(__file__).resolve().parent.parent
ANNOTATIONS_AN_IMAGE = 10
CLASSES = 80
BODIES = 20_011
"""Different polygons to draw from: a prime, so that neighbours differ from image to image."""

DATUMARO = """
import sys, datumaro
dataset = datumaro.Dataset.import_from(sys.argv[1], "coco_instances")
dataset.export(sys.argv[2], "coco_instances", save_media=False)
"""
JSON = (
    "import json, sys; file = open(sys.argv[1], 'rb'); document = json.load(file); print(len(document['annotations']))"
)


class Cost(NamedTuple):
    """What one process took."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def main() -> int:
    options = _parse()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for images in options.images:
            source = write_annotations(folder, images)
            rows += measure(folder, source, images, repeat=options.repeat, others=images == options.compare_at)
            source.unlink()
    print(json.dumps(rows, indent=2))
    return _judge(rows)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--compare-at", type=int, default=100_000, help="images at which the others run too")
    parser.add_argument("--repeat", type=int, default=3, help="runs each; the fastest counts")
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's temporary folder)")
    return parser.parse_args()


def write_annotations(folder: Path, images: int) -> Path:
    """A COCO file with ten polygons an image."""
    path = folder / "annotations" / "instances_train.json"
    path.parent.mkdir(exist_ok=True)
    (folder / "images" / "train").mkdir(parents=True, exist_ok=True)  # datumaro wants it, empty as it is
    bodies = [_body(random.Random(number)) for number in range(BODIES)]
    with path.open("w") as file:
        categories = [{"id": number + 1, "name": f"class {number}"} for number in range(CLASSES)]
        file.write(f'{{"info":{{}},"licenses":[],"categories":{json.dumps(categories)},"images":[')
        file.write(
            ",".join(f'{{"id":{i},"file_name":"{i:012d}.jpg","width":640,"height":480}}' for i in range(1, images + 1))
        )
        file.write('],"annotations":[')
        for i in range(1, images * ANNOTATIONS_AN_IMAGE + 1):
            file.write(f'{"," if i > 1 else ""}{{"id":{i},"image_id":{(i - 1) // ANNOTATIONS_AN_IMAGE + 1}')
            file.write(bodies[i % BODIES])
        file.write("]}")
    return path


def _body(draw: random.Random) -> str:
    """An annotation without its ids."""
    left, top, size = draw.uniform(0, 560), draw.uniform(0, 400), draw.uniform(8, 78)
    border = [(0, 0), (0.5, 0.1), (1, 0), (0.9, 0.5), (1, 1), (0.5, 0.9), (0, 1), (0.1, 0.5)]
    xy = [round(value, 1) for x, y in border for value in (left + x * size, top + y * size)]
    box = [min(xy[::2]), min(xy[1::2]), round(max(xy[::2]) - min(xy[::2]), 1), round(max(xy[1::2]) - min(xy[1::2]), 1)]
    fields = {"category_id": draw.randint(1, CLASSES), "bbox": box, "area": round(size * size * 0.8, 2), "iscrowd": 0}
    return "," + json.dumps({**fields, "segmentation": [xy]}, separators=(",", ":"))[1:]


def measure(folder: Path, source: Path, images: int, *, repeat: int, others: bool) -> list[dict[str, Any]]:
    """Rows of who, images, annotations, megabytes of JSON and the cost of the fastest run."""
    ours = [sys.executable, "-m", "converters", str(source), str(folder / "out"), "--task", "instance_segmentation"]
    commands = {"converters": [*ours, "--split", "0.8,0.1,0.1"]}
    if others:
        commands["datumaro"] = [str(bench_python()), "-c", DATUMARO, str(folder), str(folder / "datumaro")]
        commands["json (load only)"] = [sys.executable, "-c", JSON, str(source)]
    rows = []
    for who, command in commands.items():
        costs = []
        for _ in range(repeat if images <= 100_000 else 1):
            costs.append(run(command))
            subprocess.run(["rm", "-rf", str(folder / "out"), str(folder / "datumaro")], check=True)
        fastest = min(costs, key=lambda cost: cost.wall_s)
        row = {"who": who, "images": images, "annotations": images * ANNOTATIONS_AN_IMAGE}
        rows.append(row | {"json_mb": round(source.stat().st_size / 1e6)} | fastest._asdict())
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def run(command: list[str]) -> Cost:
    """The cost of a process that must succeed."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(command)[:200]} failed")
    wall_s = time.monotonic() - started
    return Cost(round(wall_s, 2), round(usage.ru_utime + usage.ru_stime, 2), round(usage.ru_maxrss / 1000))


def _judge(rows: list[dict[str, Any]]) -> int:
    by_who = {row["who"]: row for row in rows if len([r for r in rows if r["images"] == row["images"]]) > 1}
    if "datumaro" not in by_who:
        return 0
    ours, theirs = by_who["converters"], by_who["datumaro"]
    time_share, memory_share = ours["wall_s"] / theirs["wall_s"], ours["peak_mb"] / theirs["peak_mb"]
    print(
        f"beside datumaro: {time_share:.0%} of the time (at most 25 %), {memory_share:.0%} of the memory (at most 33 %)"
    )
    return int(time_share > 1 / 4 or memory_share > 1 / 3)


if __name__ == "__main__":
    sys.exit(main())
