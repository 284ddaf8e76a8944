"""Filtered back-projection, with the filter that all others begin with."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from napari_geosr.core.steps import ShouldStop, Step

if TYPE_CHECKING:
    from napari_geosr.operations.study.cell import Cell, Outcome

TITLE = "FBP"
LEARNS = False
ALGORITHM = "fbp"
#: Nothing to choose: it is what the others are compared with.
CANDIDATES: tuple[dict[str, Any], ...] = ()


def reconstruct_steps(
    cell: Cell, should_stop: ShouldStop
) -> Generator[Step, None, Outcome]:
    """See `napari_geosr.operations.study.algorithms`."""
    return cell.classical_steps(ALGORITHM, CANDIDATES, should_stop)
