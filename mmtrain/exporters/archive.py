"""The package's files by name, and its zip. The parent imports this: no torch."""

from __future__ import annotations

import zipfile
from pathlib import Path

CERTIFICATE, CERTIFICATE_PAGE, METADATA = "certificate.json", "certificate.html", "metadata.json"


def zipped(folder: Path, target: Path) -> Path:
    """Everything in the folder, in the archive's root; the archive appears whole."""
    half = target.with_suffix(".part")
    with zipfile.ZipFile(half, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(folder).as_posix())
    half.replace(target)
    return target
