"""`make fuzz` itself: cases that can be repeated, and every kind of failure noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from fuzz_cases import make_case  # noqa: E402
from fuzz_worker import check_coco, check_files  # noqa: E402

DOCUMENT = {"classes": [{"id": 0, "name": "c"}], "images": [{"id": 1, "file_name": "1.jpg", "width": 8, "height": 8}]}


def test_a_number_always_means_the_same_case() -> None:
    first = [make_case(1, number, [DOCUMENT], rare_last=False) for number in range(50)]
    assert first == [make_case(1, number, [DOCUMENT], rare_last=False) for number in range(50)]
    assert first != [make_case(2, number, [DOCUMENT], rare_last=False) for number in range(50)]
    assert len({case.raw for case in first}) > 40


def test_cases_end_as_they_may(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/fuzz.py", "--count", "30", "--processes", "1", "--timeout", "120"]
    done = subprocess.run(
        [*command, "--failures", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 cases" in done.stdout and "converted" in done.stdout and "refused" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["open('../../x', 'w')", "os.rename('out/y', '../y')", "os.mkdir('/escaped')"])
def test_a_change_outside_the_output_folder_ends_the_process(tmp_path: Path, change: str) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from fuzz_worker import prepare_process\n"
        "out = prepare_process(pathlib.Path(sys.argv[1]))\n"
        "(out / 'y').write_text('allowed')\n"
        f"{change}\n"
    )
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=False)
    assert done.returncode == 1 and (tmp_path / "a" / "b" / "out" / "y").exists()
    assert "outside the output folder" in (tmp_path / "log").read_text()


def test_a_file_that_python_did_not_write_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").touch()
    with pytest.raises(AssertionError, match="a/x"):
        check_files(tmp_path)


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ({"bbox": [0, 0, 9, 9], "area": 1, "category_id": 0}, "box"),
        ({"bbox": [0, 0, 9, 9], "area": float("nan"), "category_id": 0}, "NaN"),
        ({"bbox": [0, 0, 8, 8], "area": 1, "category_id": 7}, "7"),
    ],
)
def test_unsound_output_is_noticed(tmp_path: Path, annotation: dict[str, object], said: str) -> None:
    document = {
        "images": [{"id": 1, "width": 8, "height": 8}],
        "categories": [{"id": 0}],
        "annotations": [{**annotation, "image_id": 1}],
    }
    (tmp_path / "train.json").write_text(json.dumps(document))
    with pytest.raises(AssertionError, match=said):
        check_coco(tmp_path)
