"""Run an operation to its end in a script or notebook, warnings included."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from typing import TypeVar

from napari_geosr.core.errors import GeoSRWarning
from napari_geosr.core.steps import Step, WarningIssued, run_to_end

T = TypeVar("T")
#: Frames between `warnings.warn` and who called the public function: `_warn`,
#: `run_to_end`, `run_with_warnings`, the public function, and that caller.
_STACK_LEVEL = 5


def run_with_warnings(steps: Generator[Step, None, T]) -> T:
    """Consume `steps` and return their result; warnings become Python warnings.

    To be called by a public function itself, so that the warning names the line that
    called it.

    Warns
    -----
    GeoSRWarning
        With what the command line and the docks would show.
    """
    return run_to_end(steps, _warn)


def _warn(step: Step) -> None:
    if isinstance(step, WarningIssued):
        warnings.warn(step.message, GeoSRWarning, stacklevel=_STACK_LEVEL)
