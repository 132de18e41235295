"""A job's own process: runs one command to its end and writes down how it ended, whoever is still there to ask.

``python -m clinical_asr.agent.worker JOB_FOLDER LOCK_DESCRIPTOR``. The descriptor holds the job's lock; the command
inherits it, so that the job counts as running for as long as either lives.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from clinical_asr.agent.jobs import ENDED, ERRORS, OUTPUT, PROCESS, Ended, Order, now
from clinical_asr.jsonl import read_json, write_json


def run(folder: Path, lock: int) -> int:
    """The command's exit code; below 0 if a signal ended it."""
    order = read_json(folder / "job.json", Order)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it, and children would as well
    with (folder / OUTPUT).open("wb") as out, (folder / ERRORS).open("wb") as err:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "clinical_asr", *order.words],
            stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, pass_fds=(lock,),
        )  # fmt: skip
        write_json(folder / PROCESS, {"pid": child.pid})
        code = child.wait()
    write_json(folder / ENDED, Ended(exit_code=code, at=now()))
    return code


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
