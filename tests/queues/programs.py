"""Writes programs that tests start."""

from __future__ import annotations

import subprocess
from pathlib import Path


def write_program(path: Path, text: str) -> Path:
    """Write an executable file in another process.

    If this process wrote it while another of its threads starts a process, that process
    could inherit the open file for a moment, and the program could not be started
    ("Text file busy").
    """
    script = 'cat >"$1" && chmod 755 "$1"'
    subprocess.run(["sh", "-c", script, "sh", path], input=text, text=True, check=True)
    return path
