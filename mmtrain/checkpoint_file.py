"""What a file must look like from outside before anything loads it. No torch: the parent asks, before the data move."""

from __future__ import annotations

import zipfile
from pathlib import Path

from trainer_sdk.errors import CheckpointError

MAX_BYTES = 16 * 10**9
"""Twenty times the largest checkpoint of any recipe with its optimizer's state; what is larger is something else."""
LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""How `torch.save` began a file before 1.6: its magic number, pickled (torch/serialization.py)."""
ZIP_MAGIC = b"PK\x03\x04"
GIT_LFS = b"version https://git-lfs"
HINT = "name a .pth or .pt file that this trainer or the model's MM package has written, whole"


def check_checkpoint_file(path: Path, name: str = "") -> None:
    """Size, format, and whether it is whole.

    Args:
        name: what to call it in the message; by default its path.

    Raises:
        CheckpointError: it can be no checkpoint.
    """
    try:
        size_bytes = path.stat().st_size
        problem = _problem(path, size_bytes)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    if problem:
        raise CheckpointError(f"the checkpoint {name or path} {problem}", hint=HINT)


def shown(address: str) -> str:
    """The address without what may be a signature: it is logged, sent, and written into plan and report."""
    return address.partition("?")[0] if address.startswith(("http://", "https://")) else address


def _problem(path: Path, size_bytes: int) -> str:
    if path.is_dir():
        return "is a folder"
    if not path.is_file():  # opening a pipe would wait for its writer
        return "is no file but a device, a pipe or a socket"
    if size_bytes > MAX_BYTES:
        return f"has {size_bytes / 1e9:.1f} GB, {MAX_BYTES / 1e9:.0f} GB at most"
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return "is empty"
    if head.startswith(ZIP_MAGIC):
        return _problem_of_zip(path)
    if head.startswith(LEGACY_MAGIC):
        return ""
    if head.lstrip().startswith(b"<"):
        return "is a web page, not a checkpoint"
    if head.startswith(GIT_LFS):
        return "is a pointer of Git LFS, not the file it points to"
    return "is no PyTorch checkpoint"  # with no word of its content: the path may be that of somebody's secret


def _problem_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "is cut short or damaged: its table of contents, which ends the file, cannot be read"
    if not any(entry.filename.endswith("/data.pkl") for entry in entries):
        return "is a zip archive, but none that torch.save wrote"
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):  # torch never does: a zip bomb would
        return "is a compressed archive, which torch.save does not write"
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        return f"unpacks to more than {MAX_BYTES / 1e9:.0f} GB"
    if sum(entry.file_size for entry in entries) > path.stat().st_size:  # they overlap: another kind of bomb
        return "is a zip archive that claims more than it holds"
    return ""
