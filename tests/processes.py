"""Several processes of one run, and those that a process has started.

A server that has NeMo imported and has computed nothing forks the first kind, in no time.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from clinical_asr.engines.nemo_sft.ranks import World


@cache
def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nemo.collections.asr", "transformers.loss.loss_tdt"])
    return context


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def together(work: Callable[..., Any], *arguments: Any, size: int = 2, patience: float = 120.0) -> list[Any]:
    """What ``work(world, *arguments)`` returns in each of ``size`` processes that know each other.

    An exception comes back as a value, None from a process that was killed. All of it must be picklable.
    """
    context, port = _server(), free_port()
    ends = [context.Pipe(duplex=False) for _ in range(size)]
    running = [
        context.Process(target=_one, args=(work, arguments, (rank, size, port), ends[rank][1])) for rank in range(size)
    ]
    for process in running:
        process.start()
    for _, answer in ends:
        answer.close()  # theirs alone now, so that a process that is killed is noticed
    try:
        return [_received(ends[rank][0], patience) for rank in range(size)]
    finally:
        for process in running:
            process.join(5)
            process.kill()


def _received(pipe: Any, patience: float) -> Any:
    if not pipe.poll(patience):
        raise TimeoutError(f"nothing came within {patience:g} s")
    try:
        return pipe.recv()
    except EOFError:
        return None


def _one(work: Callable[..., Any], arguments: tuple[Any, ...], place: tuple[int, int, int], answer: Any) -> None:
    import torch

    torch.set_num_threads(1)
    rank, size, port = place
    told = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in told.items()} | {"MASTER_ADDR": "127.0.0.1"}
    try:
        answer.send(work(World.of(os.environ), *arguments))
    except BaseException as error:
        traceback.print_exc()
        answer.send(error)


def descendants(of: int) -> dict[int, str]:
    """Command lines of the processes that came of one, Ray's own included."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    found, todo = {}, [of]
    while todo:
        children = [pid for pid, parent in parents.items() if parent == todo[-1] and pid not in found]
        todo.pop()
        todo += children
        found |= {pid: command_of(pid) for pid in children}
    return found


def command_of(pid: int) -> str:
    """Of a process; empty if it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def ray_workers(of: int) -> list[int]:
    """Ray's workers among them."""
    return [pid for pid, command in descendants(of).items() if command.startswith("ray::Worker")]
