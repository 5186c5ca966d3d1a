"""Hands the heavy half of a job that trains nothing to one process, and listens to it."""

from __future__ import annotations

from mmtrain.display import Display
from mmtrain.engine.launch import launch_alone
from mmtrain.engine.messages import Done, News, Progressed, Remark
from mmtrain.engine.order import ERROR, MESSAGES, ORDER, STOP, AloneOrder
from mmtrain.engine.supervise import supervise_alone
from mmtrain.machine import Machine
from trainer_sdk.errors import ConfigError, ResourceError
from trainer_sdk.session import JobSession


def let_worker_do(
    module: str,
    order: AloneOrder,
    session: JobSession,
    display: Display,
    *,
    gpus: tuple[int, ...],
    streaming: bool = False,
    keys: tuple[str, ...] = (),
) -> Done:
    """Runs ``python -m <module> <work folder>`` on this order, to its end.

    Args:
        streaming: it reads images from the data sets' bucket, so it learns the key to it.
        keys: other secrets that it needs, by name.

    Raises:
        JobError: whatever the worker ended with.
    """
    folder = session.workspace.work
    for name in (ERROR, STOP, MESSAGES):
        (folder / name).unlink(missing_ok=True)
    session.workspace.save(f"work/{ORDER}", order)

    def listen(news: News) -> None:
        if isinstance(news, Progressed):
            display(news.done, news.total, title=news.what)
        elif isinstance(news, Remark):
            session.log(news.text, level=news.level)

    process = launch_alone(
        module, folder, threads=order.threads, gpus=gpus, environ=session.environ, streaming=streaming, keys=keys
    )
    return supervise_alone(process, folder, listen, stop=session.stop, watchdog_s=session.settings.watchdog_s)


def one_device(asked: str | None, machine: Machine) -> tuple[str, tuple[int, ...]]:
    """torch's word for the device, and the GPUs that the worker may see.

    Raises:
        ConfigError: several GPUs.
        ResourceError: a GPU that is not there. It is never silently the CPU.
    """
    if asked == "cpu" or (asked is None and not machine.gpus):
        return "cpu", ()
    asked = asked or "0"
    if not asked.isdigit():
        raise ConfigError(f"device={asked!r} names several GPUs: only a training uses more than one", hint="name one")
    if int(asked) >= len(machine.gpus):
        raise ResourceError(
            f"device {asked!r} asks for GPU {asked}, this machine has {len(machine.gpus) or 'none'}",
            hint="start the container with --gpus all, correct CUDA_VISIBLE_DEVICES, or set device to 'cpu'",
        )
    return "cuda:0", (int(asked),)  # the only one that it sees
