"""CGLS: conjugate gradients, stopped where the error is smallest."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from napari_geosr.core.steps import ShouldStop, Step

if TYPE_CHECKING:
    from napari_geosr.operations.study.cell import Cell, Outcome

TITLE = "CGLS"
LEARNS = False
ALGORITHM = "cgls"
CANDIDATES: tuple[dict[str, Any], ...] = tuple(
    {"iterations": n} for n in (2, 5, 10, 20, 40, 80)
)


def reconstruct_steps(
    cell: Cell, should_stop: ShouldStop
) -> Generator[Step, None, Outcome]:
    """See `napari_geosr.operations.study.algorithms`."""
    return cell.classical_steps(ALGORITHM, CANDIDATES, should_stop)
