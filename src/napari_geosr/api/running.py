"""Run an operation in a script or notebook and issue its warnings."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from typing import TypeVar

from napari_geosr.core.errors import GeoSRWarning
from napari_geosr.core.steps import Step, WarningIssued, run_to_end

T = TypeVar("T")
#: ``stacklevel`` that attributes a warning to the line that called the public function;
#: the calls in between are `_warn`, `run_to_end`, `run_with_warnings` and the public
#: function.
_STACK_LEVEL = 5


def run_with_warnings(steps: Generator[Step, None, T]) -> T:
    """Consume `steps` and return their result; warnings become Python warnings.

    This function must be called directly by a public function, so that the warning
    refers to the line that called the public function.

    Warns
    -----
    GeoSRWarning
        For each warning of the operation.
    """
    return run_to_end(steps, _warn)


def _warn(step: Step) -> None:
    if isinstance(step, WarningIssued):
        warnings.warn(step.message, GeoSRWarning, stacklevel=_STACK_LEVEL)
