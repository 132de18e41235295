"""A real sshd on loopback, for as long as a test needs one: own keys, own port, nothing of the machine's settings."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MISSING = [name for name in ("ssh", "ssh-keygen", "rsync") if shutil.which(name) is None]
SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)


@dataclass(frozen=True)
class Server:
    """Where it listens and how to get in."""

    target: str
    options: tuple[str, ...]


@contextmanager
def sshd(folder: Path) -> Iterator[Server]:
    """Start it, wait until it answers, stop it."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile {folder / 'pid'}\n"
        f"AuthorizedKeysFile {folder / 'user.pub'}\nStrictModes no\nPermitRootLogin yes\nUsePAM no\n"
        "PasswordAuthentication no\nAcceptEnv STAND_IN_*\nPermitUserEnvironment no\n"
    )
    Path("/run/sshd").mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.DEVNULL)
    options = ("-p", str(port), "-i", str(folder / "user"), "-o", "StrictHostKeyChecking=no", "-F", "none",
               "-o", f"UserKnownHostsFile={folder / 'known_hosts'}", "-o", "LogLevel=ERROR")  # fmt: skip
    server = Server(f"{getpass.getuser()}@127.0.0.1", (*options, "-o", "SendEnv=STAND_IN_*"))
    try:
        _wait(server)
        yield server
    finally:
        process.terminate()
        process.wait()


def _wait(server: Server, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    command = ["ssh", "-o", "BatchMode=yes", *server.options, server.target, "true"]
    while subprocess.run(command, capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError("sshd does not answer")
        time.sleep(0.1)
