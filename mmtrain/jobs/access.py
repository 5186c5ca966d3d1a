"""How a job reaches its pictures: from a folder, or, with CONFIG data_access=stream, from the bucket they stay in."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from mmtrain.datasets.fetch import FetchedDataset
from mmtrain.datasets.pictures import Pictures, PicturesElsewhere, PicturesHere
from mmtrain.datasets.stream import StreamedImages, cache_capacity_bytes
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.session import JobSession

CACHE_FOLDER = "stream_cache"


@dataclass(frozen=True)
class Access:
    """Where the images are: for the worker, and for whoever wants to read one here."""

    images: Path | StreamedImages
    pictures: Pictures

    @property
    def streams(self) -> bool:
        return isinstance(self.images, StreamedImages)

    def copies(self, paths: dict[str, str], folder: Path) -> Path:
        """A folder in which some pictures lie at their paths: the data set's own, or one to be filled."""
        if not isinstance(self.images, StreamedImages):
            return self.images
        for path in paths.values():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.pictures.read(path))
        return folder


def choose_access(spec: TrainSpec, fetched: FetchedDataset, session: JobSession) -> Access:
    """What CONFIG asks for; a local folder is never streamed, there is nothing to gain."""
    if spec.config.data_access == "stream" and fetched.bucket is None:
        session.log("data_access=stream has no effect: the data set is a folder of this machine", level="WARNING")
    if spec.config.data_access == "copy" or fetched.bucket is None:
        return Access(fetched.root, PicturesHere(fetched.root))
    cache_dir = session.workspace.work / CACHE_FOLDER
    free_bytes = shutil.disk_usage(session.workspace.work).free
    images = StreamedImages(
        uri=f"s3://{fetched.bucket}/{fetched.prefix}".rstrip("/"),
        cache_dir=cache_dir,
        cache_bytes=cache_capacity_bytes(spec.config.stream_cache_gb, free_bytes),
    )
    session.at_end.callback(shutil.rmtree, cache_dir, ignore_errors=True)  # up to 50 GB
    session.log(f"images are read from {images.uri} while training, up to {images.cache_bytes / 1e9:.1f} GB kept here")
    return Access(images, PicturesElsewhere(session.settings.datasets, images))
