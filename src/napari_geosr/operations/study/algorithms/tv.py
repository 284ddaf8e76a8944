"""Least squares with total variation, of the weight with the smallest error."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from napari_geosr.core.steps import ShouldStop, Step

if TYPE_CHECKING:
    from napari_geosr.operations.study.cell import Cell, Outcome

TITLE = "TV"
LEARNS = False
ALGORITHM = "tv"
CANDIDATES: tuple[dict[str, Any], ...] = tuple(
    {"weight": w} for w in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
)


def reconstruct_steps(
    cell: Cell, should_stop: ShouldStop
) -> Generator[Step, None, Outcome]:
    """See `napari_geosr.operations.study.algorithms`."""
    return cell.classical_steps(ALGORITHM, CANDIDATES, should_stop)
