"""What this machine decides: devices, processes, precision."""

from __future__ import annotations

from typing import Literal

from mmtrain.choices.decided import Decided, stated
from mmtrain.machine import Machine
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import ConfigError, ResourceError
from trainer_sdk.tasks import Task

SHM_PER_WORKER_BYTES = 64 * 2**20
PREFETCHED = 2
"""Batches that each data loading process has ready: torch's `prefetch_factor`."""
PIXEL_BYTES, LABEL_BYTES = 3, 8
"""Of an image, uint8, and of mmseg's label map, int64."""


def choose_device(config: TrainConfig, machine: Machine) -> tuple[Decided[str], tuple[int, ...]]:
    """The device asked for, or the best one present. A GPU that is not there is an error, never a silent CPU.

    Where the request names none, there are as many as PET_NPROC_PER_NODE says, else one.
    """
    present = len(machine.gpus)
    if config.device is None:
        if not present:
            return Decided(value="cpu", origin="machine", reason="no GPU here"), ()
        most = present if machine.processes == "auto" else machine.processes or 1
        if most > present:
            raise ResourceError(
                f"PET_NPROC_PER_NODE={most}, this machine has {present} GPU(s)",
                hint="give the container more GPUs, set PET_NPROC_PER_NODE=auto, or device to 'cpu'",
            )
        chosen = "0" if most == 1 else f"0-{most - 1}"
        return Decided(value=chosen, origin="machine", reason=f"{present} GPU(s): {machine.gpus[0]}"), tuple(
            range(most)
        )
    if config.device == "cpu":
        return Decided(value="cpu", origin="request", reason="asked for"), ()
    wanted = gpu_numbers(config.device)
    missing = [str(number) for number in wanted if number >= present]
    if missing:
        raise ResourceError(
            f"device {config.device!r} asks for GPU {', '.join(missing)}, this machine has {present or 'none'}",
            hint="start the container with --gpus all, correct CUDA_VISIBLE_DEVICES, or set device to 'cpu'",
        )
    if isinstance(machine.processes, int) and machine.processes != len(wanted):
        raise ConfigError(
            f"device={config.device!r} names {len(wanted)} GPU(s), PET_NPROC_PER_NODE={machine.processes}",
            hint="leave one of them out: one process trains on each GPU",
        )
    return Decided(value=config.device, origin="request", reason="asked for"), wanted


def processes(machine: Machine, gpus: tuple[int, ...]) -> Decided[int]:
    """Training processes on each node."""
    if gpus:
        return Decided(value=len(gpus), origin="machine", reason="one for each GPU")
    if isinstance(machine.processes, int):
        return Decided(value=machine.processes, origin="request", reason="PET_NPROC_PER_NODE")
    return Decided(value=1, origin="machine", reason="one uses all cores")


def nodes(machine: Machine) -> Decided[int]:
    """Machines that train together."""
    if machine.nodes == 1:
        return Decided(value=1, origin="machine", reason="this machine alone")
    reason = "PET_NNODES or WORLD_SIZE: each has the whole data set, and shows its share of every batch"
    return Decided(value=machine.nodes, origin="request", reason=reason)


def gpu_numbers(device: str) -> tuple[int, ...]:
    """``"0,2-3"`` -> (0, 2, 3).

    Raises:
        ConfigError: a range that runs backwards.
    """
    numbers: list[int] = []
    for part in device.split(","):
        first, _, last = part.partition("-")
        if last and int(last) < int(first):
            raise ConfigError(f"device={device!r}: the range {part} runs backwards", hint=f"write {last}-{first}")
        numbers += range(int(first), int(last or first) + 1)
    return tuple(sorted(set(numbers)))


def sync_bn(config: TrainConfig, devices: int, gpus: tuple[int, ...]) -> Decided[bool]:
    """Only where there is something to synchronise."""
    if config.sync_bn and devices > 1 and not gpus:
        return Decided(value=False, origin="machine", reason="asked for, but torch has it for GPUs only")
    if config.sync_bn and devices < 2:
        return Decided(value=False, origin="machine", reason="asked for, but one device has nothing to synchronise")
    return stated(config, "sync_bn", "off unless asked for")


def amp(config: TrainConfig, gpus: tuple[int, ...]) -> Decided[Literal["off", "fp16", "bf16"]]:
    """Raises: ConfigError on a CPU."""
    if config.amp and not gpus:
        raise ConfigError(
            f"amp={config.amp!r} needs a GPU, the device is the CPU",
            hint="leave amp out, or choose a GPU: MMEngine's AmpOptimWrapper refuses CPUs, with bf16 too",
        )
    if "amp" not in config.model_fields_set:
        return Decided(value="off", origin="recipe", reason="off unless asked for")
    precision: Literal["off", "fp16", "bf16"] = "fp16" if config.amp is True else config.amp or "off"
    return Decided(value=precision, origin="request", reason="asked for")


def compiled(config: TrainConfig, machine: Machine) -> Decided[bool]:
    """Raises: ResourceError without a compiler."""
    if config.compile and not machine.compiler:
        raise ResourceError(
            "compile=true needs a C++ compiler, this machine has none",
            hint="leave compile out, or install g++ (the container image holds none, to stay small)",
        )
    return stated(config, "compile", "off unless asked for: it pays off after hundreds of iterations of one shape")


def shm_of_a_loader(images: int, imgsz: tuple[int, int], task: Task) -> int:
    """What one data loading process takes of /dev/shm.

    Args:
        images: in each batch of one device.
    """
    width, height = imgsz
    return PREFETCHED * images * width * height * (PIXEL_BYTES + (LABEL_BYTES if task is Task.SEMANTIC else 0))


def workers(config: TrainConfig, machine: Machine, processes: int, loader_bytes: int) -> Decided[int]:
    """As many as cores, as far as shared memory goes.

    Args:
        loader_bytes: what each takes of it, as `shm_of_a_loader`.
    """
    if config.workers is not None:
        return Decided(value=config.workers, origin="request", reason="asked for")
    by_cores = min(8, max(1, machine.cores // processes))
    by_memory = machine.shm_free_bytes // max(SHM_PER_WORKER_BYTES, loader_bytes) // processes
    if by_memory < by_cores:
        found = f"only {machine.shm_free_bytes // 2**20} MiB of shared memory (--shm-size)"
        return Decided(value=int(by_memory), origin="machine", reason=found)
    return Decided(value=by_cores, origin="machine", reason=f"{machine.cores} usable cores")
