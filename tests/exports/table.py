"""The table of exports: every test of the matrix adds its row, which the end of the session writes as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from mmtrain.exporters.certificate import Certificate

ROWS = Path(__file__).resolve().parents[2] / "workspace" / "exports" / "rows.jsonl"
"""Rows of earlier sessions stay, each replaced by a newer one of the same model and format."""
HEAD = "| model | task | format | verdict | objects | box | score | mask | keypoint | pixels | outputs | size, MB |"
Row = Callable[[str, Certificate], None]


@pytest.fixture(scope="session")
def row() -> Iterator[Row]:
    """Takes a recipe's name with its task, and a certificate."""
    rows = {(one["name"], one["format"]): one for one in _earlier()}

    def add(name: str, certificate: Certificate) -> None:
        probes = certificate.probes
        rows[name, certificate.format] = {
            "name": name, "format": certificate.format, "verdict": certificate.verdict, "objects": probes.pairs,
            "unmatched": probes.unmatched,
            "errors": [probes.box, probes.score, probes.mask, probes.keypoint, probes.pixels],
            "outputs": max(certificate.tensors.errors.values(), default=None), "size": certificate.file.size_bytes,
        }  # fmt: skip
        ROWS.parent.mkdir(parents=True, exist_ok=True)
        ROWS.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in rows.values()))

    yield add
    ROWS.with_name("table.md").write_text(table(list(rows.values())))


def _earlier() -> list[dict[str, object]]:
    return [orjson.loads(line) for line in ROWS.read_bytes().splitlines()] if ROWS.exists() else []


def table(rows: list[dict[str, object]]) -> str:
    """In Markdown."""
    lines = [HEAD, "|" + "---|" * 12]
    for one in sorted(rows, key=lambda row: (str(row["name"]), str(row["format"]))):
        task, _, model = str(one["name"]).partition("-")
        objects = f"{one['objects']}" + (f" ({one['unmatched']} alone)" if one["unmatched"] else "")
        errors = " | ".join(f"{error:.1g}" for error in one["errors"])  # type: ignore[attr-defined]
        outputs = "-" if one["outputs"] is None else f"{one['outputs']:.1g}"
        size = f"{int(one['size']) / 1e6:.1f}"  # type: ignore[call-overload]
        cells = (model, task, one["format"], one["verdict"], objects, errors, outputs, size)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"
