"""What a tool answers about a job: how it ended and what that means, what it said, the JSON documents it wrote."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

from clinical_asr.agent.call import shown
from clinical_asr.agent.jobs import ERRORS, FINISHED, LOST, OUTPUT, Job
from clinical_asr.agent.project import Project
from clinical_asr.agent.tools import Tool
from clinical_asr.errors import FlywheelError

MEANING = {
    0: "done, passed or promoted",
    1: "a fault of the program; run it in a terminal with --debug and report it",
    2: "bad input: the last line of errors says what, where and the mend",
    3: "the gate says go back to an earlier stage, or something is left to do first",
    4: "inconclusive: it needs more terms or more guard rows",
    5: "not promoted, or not equal",
    130: "interrupted; the same call again continues",
}
FAULTS = (1, 2)
MOST_OUTPUT, MOST_ERRORS, MOST_DOCUMENT = 12_000, 4_000, 60_000  # bytes


def progress(job: Job, project: Project) -> dict[str, Any]:
    """Where a job stands: its state, the steps its cycle has finished, the last of what it said."""
    ended = job.ended
    told: dict[str, Any] = {
        "job": job.id, "tool": job.order.tool, "state": job.state, "started": job.order.at,
        "command": shown(job.order.words), "steps": _steps(job, project),
        "output": job.text(OUTPUT, 2_000), "errors": job.text(ERRORS, 2_000),
    }  # fmt: skip
    if ended is not None:
        told |= {"exit_code": ended.exit_code, "meaning": _meaning(ended.exit_code)}
    elif told["state"] == LOST:
        told["meaning"] = "the process was killed or the machine went down; the same call again continues"
    return told


def result(job: Job, project: Project, tool: Tool | None) -> dict[str, Any]:
    """What a finished job came to. Raises FlywheelError if it still runs."""
    if job.state not in (FINISHED, LOST):
        raise FlywheelError("is still running", job.id, "ask job_status")
    told = progress(job, project) | {"errors": job.text(ERRORS, MOST_ERRORS)}
    output = job.text(OUTPUT, MOST_DOCUMENT if tool and tool.tells_json else MOST_OUTPUT)
    document = _document(output) if tool and tool.tells_json else None
    told |= {"output": output} if document is None else {"output": "", "result": document}
    if document is not None and told.get("exit_code") in FAULTS:
        told["meaning"] = "refused, faulty, or something required is missing: the result says what"
    files = [_file(path, project) for path in job.order.made if (project.root / path).is_file()]
    return told | {"fault": _is_fault(told), "files": files}


def _is_fault(told: dict[str, Any]) -> bool:
    """True for an end that is an error: neither a decision nor a document, such as advice that refuses."""
    code = told.get("exit_code", 0)
    return told["state"] == LOST or code < 0 or (code in FAULTS and "result" not in told)


def _meaning(code: int) -> str:
    return MEANING.get(code, f"ended by signal {-code}; the same call again continues" if code < 0 else "unknown")


def _steps(job: Job, project: Project) -> list[dict[str, Any]]:
    """Lines of ``timings.jsonl`` in the folders it works in: stage, what was done, seconds."""
    found = []
    for place in job.order.places:
        path = project.root / place / "timings.jsonl"
        is_own = path.is_file() and path.resolve().is_relative_to(project.root)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if is_own else []
        found += [step for step in map(_document, lines) if _is_step(step)]
    return found


def _is_step(entry: Any) -> bool:
    """A line that is being written, or that somebody spoilt, is none."""
    return isinstance(entry, dict) and isinstance(entry.get("line"), str)


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _file(path: str, project: Project) -> dict[str, Any]:
    """A file it wrote; small JSON documents with what stands in them."""
    size = (project.root / path).stat().st_size
    told: dict[str, Any] = {"path": path, "bytes": size}
    if PurePosixPath(path).suffix == ".json" and size <= MOST_DOCUMENT:
        told["document"] = _document((project.root / path).read_text(encoding="utf-8", errors="replace"))
    return told
