"""The server: tools, resources and prompts of one project over standard input and output (Model Context Protocol)."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anyio
import mcp_types as types
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.stdio import stdio_server

from clinical_asr import __version__
from clinical_asr.agent import consent, prompts, resources
from clinical_asr.agent.asking import Desk, Question
from clinical_asr.agent.call import Call
from clinical_asr.agent.job_tools import JOB_TOOLS, JobTool
from clinical_asr.agent.jobs import RUNNING, Job, Jobs
from clinical_asr.agent.keys import Environment
from clinical_asr.agent.project import Project
from clinical_asr.agent.report import progress, result
from clinical_asr.agent.tools import Tool, Toolbox
from clinical_asr.errors import FlywheelError

NAME = "clinical-asr"
SHORT_WAIT, LONG_WAIT = 45.0, 3.0  # seconds a call waits for its job; clients give up after about a minute
INSTRUCTIONS = """Clinical speech recognition, measured and fine-tuned by one method. Call advise first. Paths are those
of the project folder. What costs, leaves the machine or replaces something is asked of the person by their client; a
refusal names the command that they can type. Long tools start a job: job_status follows it, job_result reads it.
"""
Context: TypeAlias = ServerRequestContext[Any, Any]
Params: TypeAlias = types.CallToolRequestParams
Told = dict[str, Any]


@dataclass
class Door:
    """One project, its tools, its jobs, and the questions that are open."""

    project: Project
    box: Toolbox
    environment: Environment
    desk: Desk = field(default_factory=Desk)

    def __post_init__(self) -> None:
        self.jobs = Jobs(self.project)

    async def call(self, ctx: Context, params: Params) -> types.CallToolResult | types.InputRequiredResult:
        """Any tool; an error a person or an agent can mend is an answer, in one line."""
        try:
            told = await self._answer(ctx, params)
        except FlywheelError as error:
            told = {"state": "refused", "error": str(error)}
        except OSError as error:
            told = {"state": "refused", "error": f"{error.strerror or error}"}
        return told if isinstance(told, types.InputRequiredResult) else self._result(told)

    async def _answer(self, ctx: Context, params: Params) -> Told | types.InputRequiredResult:
        given = params.arguments or {}
        if params.name in JOB_TOOLS:
            return await JOB_TOOLS[params.name].answer(self, ctx, given)
        if params.name not in self.box.tools:
            raise FlywheelError("no such tool", params.name[:80], "list the tools")
        self.environment.refuse_secrets(given, params.name)
        call = Call.of(self.box.tools[params.name], self.project, given)
        return await self._allowed(ctx, params, call)

    async def _allowed(self, ctx: Context, params: Params, call: Call) -> Told | types.InputRequiredResult:
        """Have the person asked if there is anything to ask, then start."""
        wanted = consent.needs(call)
        sentences: Mapping[str, str] = {}
        if wanted or call.waits_for_words:
            question = Question(self.environment.scrubbed(consent.question(call, wanted)), tuple(call.waits_for_words))
            answer = await self.desk.ask(ctx, params, question, call.typed())
            if isinstance(answer, types.InputRequiredResult):
                return answer
            sentences = answer
        services = {need.service for need in wanted if need.service is not None}
        tool = call.tool
        job = self.jobs.start(
            tool.name, call.words(sentences), tool.places(call.full), tool.made(call.full),
            self.environment.for_command(services, every=tool.sees_keys),
        )  # fmt: skip
        return await self.waited(ctx, job, LONG_WAIT if tool.long else SHORT_WAIT)

    async def waited(self, ctx: Context, job: Job, seconds: float) -> Told:
        """What the job came to, if it ends in time; else where it stands. Progress is told meanwhile."""
        deadline, told = time.monotonic() + seconds, -1
        while job.state == RUNNING and time.monotonic() < deadline:
            steps = progress(job, self.project)["steps"]
            if len(steps) > told:
                told = len(steps)
                await ctx.session.report_progress(told, None, steps[-1]["line"] if steps else "started")
            await anyio.sleep(0.1)
        if job.state == RUNNING:
            return progress(job, self.project) | {"next": f"job_status with job={job.id}"}
        return result(job, self.project, self.box.tools.get(job.order.tool))

    def _result(self, told: Told) -> types.CallToolResult:
        clean = self.environment.scrubbed(told)
        fault = "error" in told or bool(told.get("fault"))
        text = types.TextContent(text=json.dumps(clean, ensure_ascii=False, indent=1))
        return types.CallToolResult(content=[text], structured_content=clean, is_error=fault)


def make_server(project: Project, commands: Any, environment: Mapping[str, str]) -> Server[Any]:
    """A server for one project; ``commands`` is the root of the command line, ``environment`` its client's own."""
    door = Door(project, Toolbox.of(commands), Environment(dict(environment)))
    server: Server[Any] = Server(
        NAME, version=__version__, instructions=INSTRUCTIONS,
        on_list_tools=_fixed(types.ListToolsResult(tools=_offered(door))), on_call_tool=door.call,
        on_list_resources=_resources(door), on_read_resource=_reading(door),
        on_list_prompts=_fixed(types.ListPromptsResult(prompts=_prompts())), on_get_prompt=_prompt,
    )  # fmt: skip
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=NAME))
    return server


async def serve(project: Project, commands: Any, environment: Mapping[str, str]) -> None:
    """Serve until the client closes standard input; jobs go on without it."""
    server = make_server(project, commands, environment)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def _fixed(answer: Any) -> Callable[[Context, Any], Awaitable[Any]]:
    async def told(_: Context, __: Any) -> Any:
        return answer

    return told


def _offered(door: Door) -> list[types.Tool]:
    return [_tool(tool) for tool in door.box.tools.values()] + [_job_tool(tool) for tool in JOB_TOOLS.values()]


def _tool(tool: Tool) -> types.Tool:
    hints = types.ToolAnnotations(read_only_hint=tool.reads, destructive_hint=not (tool.reads or tool.keeps))
    return types.Tool(name=tool.name, description=tool.help, input_schema=tool.schema, annotations=hints)


def _job_tool(tool: JobTool) -> types.Tool:
    hints = types.ToolAnnotations(read_only_hint=tool.reads, destructive_hint=False)
    return types.Tool(name=tool.name, description=tool.help, input_schema=tool.schema, annotations=hints)


def _resources(door: Door) -> Callable[[Context, Any], Awaitable[types.ListResourcesResult]]:
    async def told(_: Context, __: Any) -> types.ListResourcesResult:
        found = resources.listed(door.project)
        return types.ListResourcesResult(resources=[
            types.Resource(uri=one.uri, name=one.name, mime_type=one.mime, size=one.size) for one in found
        ])  # fmt: skip

    return told


def _reading(door: Door) -> Callable[[Context, Any], Awaitable[types.ReadResourceResult]]:
    async def told(_: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        try:
            text, mime = resources.read(door.project, str(params.uri))
        except FlywheelError as error:
            raise _refused(error) from None
        clean = door.environment.scrubbed(text)
        contents = types.TextResourceContents(uri=str(params.uri), mime_type=mime, text=clean)
        return types.ReadResourceResult(contents=[contents])

    return told


def _prompts() -> list[types.Prompt]:
    return [
        types.Prompt(name=name, title=one.title, description=one.title, arguments=[
            types.PromptArgument(name=one.argument, description=one.about, required=False)])
        for name, one in prompts.offered().items()
    ]  # fmt: skip


async def _prompt(_: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    try:
        text = prompts.written(params.name, next(iter((params.arguments or {}).values()), ""))
    except FlywheelError as error:
        raise _refused(error) from None
    message = types.PromptMessage(role="user", content=types.TextContent(text=text))
    return types.GetPromptResult(messages=[message])


def _refused(error: FlywheelError) -> MCPError:
    return MCPError(code=types.INVALID_PARAMS, message=str(error))
