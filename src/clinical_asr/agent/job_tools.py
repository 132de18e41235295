"""The tools that ask about jobs: list, status, result, cancel."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from clinical_asr.agent.jobs import RUNNING
from clinical_asr.agent.report import progress, result
from clinical_asr.agent.schema import check

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

    from clinical_asr.agent.server import Door

JOB = {"type": "string", "description": "The job's name, as the tool that started it or job_list tells it."}
WAIT = {"type": "number", "minimum": 0, "maximum": 50, "default": 0, "description": "Seconds to wait for its end."}
SIGNALS = ((signal.SIGINT, 8.0), (signal.SIGTERM, 4.0), (signal.SIGKILL, 4.0))
"""What is sent, and the seconds it is given: an interrupted command puts its work in order, and resumes."""
Told = dict[str, Any]
Handler = Callable[["Door", "ServerRequestContext[Any, Any]", Mapping[str, Any]], Awaitable[Told]]


@dataclass(frozen=True)
class JobTool:
    """A tool that runs no command."""

    name: str
    help: str
    properties: Mapping[str, Any]
    handler: Handler
    reads: bool = True

    @property
    def schema(self) -> Told:
        """JSON schema of the arguments."""
        needed = [name for name in self.properties if name == "job"]
        closed = {"type": "object", "additionalProperties": False}
        return {**closed, "properties": dict(self.properties), "required": needed}

    async def answer(self, door: Door, ctx: ServerRequestContext[Any, Any], given: Mapping[str, Any]) -> Told:
        """Raises ConfigError for what the schema does not take, FlywheelError for a job there is not."""
        check(self.schema, given, self.name)
        return await self.handler(door, ctx, given)


async def _list(door: Door, _: Any, __: Mapping[str, Any]) -> Told:
    jobs = door.jobs.all()[:100]
    return {"jobs": [{"job": job.id, "tool": job.order.tool, "state": job.state, "started": job.order.at,
                      "exit_code": job.ended.exit_code if job.ended else None} for job in jobs]}  # fmt: skip


async def _status(door: Door, ctx: ServerRequestContext[Any, Any], given: Mapping[str, Any]) -> Told:
    job = door.jobs.get(given["job"])
    if given.get("wait_seconds") and job.state == RUNNING:
        await door.waited(ctx, job, given["wait_seconds"])
    return progress(job, door.project)


async def _result(door: Door, _: Any, given: Mapping[str, Any]) -> Told:
    job = door.jobs.get(given["job"])
    return result(job, door.project, door.box.tools.get(job.order.tool))


async def _cancel(door: Door, _: Any, given: Mapping[str, Any]) -> Told:
    job = door.jobs.get(given["job"])
    for which, patience in SIGNALS:
        deadline = time.monotonic() + patience
        job.signal(which)
        while job.state == RUNNING and time.monotonic() < deadline:
            await anyio.sleep(0.05)
        if job.state != RUNNING:
            break
    return progress(job, door.project)


JOB_TOOLS = {tool.name: tool for tool in (
    JobTool("job_list", "All jobs of the project, newest first, of this server and of those before it.", {}, _list),
    JobTool("job_status", "Where a job stands: state, finished steps, the last of its output. May wait.",
            {"job": JOB, "wait_seconds": WAIT}, _status),
    JobTool("job_result", "What a finished job came to: exit code, its meaning, output, JSON documents.",
            {"job": JOB}, _result),
    JobTool("job_cancel", "Interrupt a job. What it finished is kept; the same call again continues.",
            {"job": JOB}, _cancel, reads=False),
)}  # fmt: skip
