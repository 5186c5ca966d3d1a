"""The platform's object storage: moto's S3 server with the buckets of the contract (section 1.5).

    python -m tests.doubles.s3 --port 0 --folder DIR --dataset ID

prints its endpoint first; DIR becomes ``datasets/ID/`` of the data set bucket.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

DATASETS = "training-datasets"
CHECKPOINTS = "training-checkpoints"
ACCESS_KEY, SECRET_KEY = "double-access-key", "double-secret-key"


class S3Double:
    """Both storages of the platform behind one endpoint. Use as a context manager."""

    def __init__(self, port: int = 0) -> None:
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        self._server.start()
        self.endpoint = "http://{}:{}".format(*self._server.get_host_and_port())
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )
        self.reset()

    def __enter__(self) -> S3Double:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def reset(self) -> None:
        """Empty buckets."""
        self._control("reset")
        for bucket in (DATASETS, CHECKPOINTS):
            self.client.create_bucket(Bucket=bucket)

    @contextlib.contextmanager
    def checking_keys(self) -> Iterator[None]:
        """moto lets every key in until it is told otherwise; then ours, which no IAM user has, are refused as by S3."""
        self._control("reset-auth", b"0")
        try:
            yield
        finally:
            self._control("reset-auth", b"inf")

    def _control(self, command: str, data: bytes = b"") -> None:
        plain = {"Content-Type": "text/plain"}  # else the server takes the data for a form
        request = urllib.request.Request(f"{self.endpoint}/moto-api/{command}", data, plain, method="POST")
        urllib.request.urlopen(request).close()

    def environment(self) -> dict[str, str]:
        """The eight names that the backend forwards to a job."""
        shared = {"ENDPOINT": self.endpoint, "ACCESS_KEY": ACCESS_KEY, "SECRET_KEY": SECRET_KEY}
        return {
            **{f"{role}_STORAGE_{name}": value for role in ("EXTERNAL", "INTERNAL") for name, value in shared.items()},
            "EXTERNAL_BUCKET_DATASETS": DATASETS,
            "INTERNAL_BUCKET_CHECKPOINTS": CHECKPOINTS,
        }

    def put_folder(self, folder: Path, bucket: str = DATASETS, prefix: str = "") -> None:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.client.upload_file(str(path), bucket, prefix + path.relative_to(folder).as_posix())

    def put(self, bucket: str, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=bucket, Key=key, Body=data)

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def get(self, bucket: str, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=bucket, Key=key)["Body"].read())


def main() -> None:
    """Serves until it is told to stop."""
    parser = argparse.ArgumentParser(description="The platform's object storage, on the loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="a DICE folder to serve")
    parser.add_argument("--dataset", default="ds", help="its data set id")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with S3Double(chosen.port) as storage:
        if chosen.folder:
            storage.put_folder(chosen.folder, DATASETS, f"datasets/{chosen.dataset}/")
        print(storage.endpoint, flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
