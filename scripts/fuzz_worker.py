"""The process of fuzz.py that runs cases, and dies of the first one that does anything but convert or refuse."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import re
import resource
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fuzz_cases import MASK_FILE, Case, make_case, write_mask
from pycocotools import mask as coco_mask

from converters.__main__ import main as converters_main

MEMORY_BYTES = 4 * 2**30
"""Of address space, libraries included."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
TWO_PATHS = ("os.rename", "os.link", "os.symlink")
ONE_PATH = ("open", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod")
SPLITS = ("train", "val", "test")
MAX_SIDE_PX = 2**31 - 1
"""pycocotools and numpy keep sides in 32 bits."""

MAX_DRAWN_PX = 2**22


def work(connection: Connection, sources: list[Path], sandbox: Path, seed: int, rare_last: bool) -> None:
    """Runs cases until the parent is gone. Whatever a case does wrong ends this process; the parent reads its log."""
    out = prepare_process(sandbox)
    documents = [json.loads(path.read_bytes()) for path in sources]
    connection.send("ready")
    while True:
        number = connection.recv()
        case = make_case(seed, number, documents, rare_last=rare_last)
        connection.send(run_case(case, sandbox, out))


def prepare_process(sandbox: Path) -> Path:
    """Limits this process and sends its last words to a log; returns the only folder that it may write to."""
    out = sandbox / "a" / "b" / "out"
    out.mkdir(parents=True, exist_ok=True)
    write_mask(sandbox)
    os.dup2(os.open(sandbox / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.chdir(out.parent)
    os.nice(10)
    faulthandler.enable()
    sys.dont_write_bytecode = True  # a late import is no file of the case
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    allowed = (f"{out}/", f"{sandbox / 'source.json'}/")

    def forbid(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITES):
            return
        paths = arguments[: 2 if event in TWO_PATHS else 1] if event in (*TWO_PATHS, *ONE_PATH) else ()
        for path in (path for path in paths if not isinstance(path, int)):  # an int is a file that is open already
            where = os.path.normpath(Path.cwd() / os.fsdecode(path))
            assert f"{where}/".startswith(allowed), f"{event} outside the output folder: {where}"

    sys.addaudithook(forbid)
    return out


def run_case(case: Case, sandbox: Path, out: Path) -> str:
    """``converted``, or ``blocked: codes``, or ``refused: type of error``."""
    source = sandbox / "source.json"
    source.write_bytes(case.raw)
    for path in sorted(out.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        exit_code = converters_main([str(source), str(out), *case.arguments])
    check_files(sandbox)
    if exit_code == 0:
        check_coco(out)
        return "converted"
    error = re.search(r"^\[(\w+)\] (.*)", said.getvalue(), re.MULTILINE | re.DOTALL)
    assert error and exit_code == 3, f"exit code {exit_code}, said {said.getvalue()!r}"
    codes = sorted(set(re.findall(r"(?:^  - |: )(DS\d{3}) ", error[2], re.MULTILINE)))
    return f"blocked: {', '.join(codes)}" if codes else f"refused: {error[1]}: {_kind(error[2])}"


def _kind(message: str) -> str:
    return " ".join(re.sub(r"[^A-Za-z_ ].*", "", message, flags=re.DOTALL).split()[:8])


def check_files(sandbox: Path) -> None:
    """Beside the audit hook, which does not see what C code opens."""
    found = {str(path.relative_to(sandbox)) for path in sandbox.rglob("*") if path.is_file()}
    strange = {name for name in found if not name.startswith("a/b/out/")} - {"log", "source.json", MASK_FILE}
    assert not strange, f"files outside the output folder: {strange}"


def check_coco(out: Path) -> None:
    """Strict JSON, known ids, boxes inside their image."""
    for name in SPLITS:
        coco = json.loads((out / f"{name}.json").read_bytes(), parse_constant=_no_constant)
        sides = {image["id"]: (image["width"], image["height"]) for image in coco["images"]}
        categories = {category["id"] for category in coco["categories"]}
        for annotation in coco["annotations"]:
            x, y, w, h = annotation["bbox"]
            width, height = sides[annotation["image_id"]]
            assert max(width, height) <= MAX_SIDE_PX, "an image side of over 32 bits"
            inside = x >= -1e-6 and y >= -1e-6 and x + w <= width + 1e-6 and y + h <= height + 1e-6
            assert inside and w > 0 and h > 0, f"box {annotation['bbox']} in an image of {width} x {height}"
            assert annotation["category_id"] in categories and annotation["area"] > 0, annotation
            if annotation.get("segmentation") and width * height <= MAX_DRAWN_PX:
                draw_mask(annotation["segmentation"], width, height)


def draw_mask(segmentation: Any, width: int, height: int) -> None:
    """As training and evaluation will; pycocotools itself checks nothing and would crash this process."""
    compressed = isinstance(segmentation, dict) and isinstance(segmentation["counts"], str)
    rles = segmentation if compressed else coco_mask.frPyObjects(segmentation, height, width)
    assert coco_mask.decode(rles).shape[:2] == (height, width)


def _no_constant(found: str) -> float:
    raise AssertionError(f"{found} is not JSON")
