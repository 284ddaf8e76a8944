"""Environment variables that affect the speed of torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SHOW = (
    "import os, sys; from napari_geosr.cli.app import run; "
    "run(sys.argv[1:]); "
    "print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
)
_WORKERS = ("restore", "--help", "--workers=2")


@pytest.mark.parametrize(
    ("words", "given", "used"),
    [
        (_WORKERS, None, "PASSIVE"),
        (_WORKERS, "ACTIVE", "ACTIVE"),
        (("--version",), None, "None"),
    ],
)
def test_a_command_sets_it_before_torch_is_loaded(
    words: tuple[str, ...], given: str | None, used: str
) -> None:
    env = {name: value for name, value in os.environ.items() if "WAIT" not in name}
    if given is not None:
        env["OMP_WAIT_POLICY"] = given
    done = subprocess.run(
        [sys.executable, "-c", _SHOW, *words],
        env=env,
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-2:] == [used, "False"]


@pytest.mark.parametrize(("given", "used"), [(None, "1"), ("0", "0")])
def test_importing_the_package_requests_large_pages(
    given: str | None, used: str
) -> None:
    name = "THP_MEM_ALLOC_ENABLE"
    env = {key: value for key, value in os.environ.items() if key != name}
    if given is not None:
        env[name] = given
    show = f"import napari_geosr, os, sys; print(os.environ[{name!r}], *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", show],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    value, *modules = done.stdout.split()
    assert value == used
    assert "torch" not in modules
