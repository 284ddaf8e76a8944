"""Threads that wait for each other sleep, unless the person decided otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SHOW = (
    "import os, sys; from napari_geosr.cli.app import run; "
    "run(['--version']); print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
)


@pytest.mark.parametrize(("given", "used"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_a_command_sets_it_before_torch_is_loaded(given: str | None, used: str) -> None:
    env = {name: value for name, value in os.environ.items() if "WAIT" not in name}
    if given is not None:
        env["OMP_WAIT_POLICY"] = given
    done = subprocess.run(
        [sys.executable, "-c", _SHOW],
        env=env,
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-2:] == [used, "False"]
