"""The last hand on a rented machine: a process apart, which ends the rental when the one that rented it cannot.

    python guard.py SECONDS PAUSE brev delete NAME

It waits for the word ``released`` on standard input. If that closes without it (the renting process was killed,
crashed, lost its terminal), or once SECONDS have passed, it runs the command, every PAUSE seconds until that succeeds.
Standard library only: it is started as a file, so that nothing of the package has to load for it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

RELEASED = b"released\n"
TRIES = 120
"""With a pause of 30 s an hour."""


def main(seconds: float, pause: float, command: list[str]) -> int:
    """0: released, or the rental was ended; 1: it could not be ended."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what ends the renting process must not end its guard
    if _is_released(seconds):
        return 0
    for _ in range(TRIES):
        if subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0:
            return 0
        time.sleep(pause)
    return 1


def _is_released(seconds: float) -> bool:
    """False if standard input closes without the word, or says nothing for ``seconds``."""
    if not select.select([0], [], [], seconds)[0]:
        return False
    return os.read(0, len(RELEASED)) == RELEASED


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
