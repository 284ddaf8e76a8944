"""Noise2Inverse: parts of the few projections teach each other.

No projection beside the few is seen.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from napari_geosr.core.steps import ShouldStop, Step

if TYPE_CHECKING:
    from napari_geosr.operations.study.cell import Cell, Outcome

TITLE = "Noise2Inverse"
LEARNS = True
METHOD = "noise2inverse"


def reconstruct_steps(
    cell: Cell, should_stop: ShouldStop
) -> Generator[Step, None, Outcome]:
    """See `napari_geosr.operations.study.algorithms`."""
    return cell.learned_steps(METHOD, {"network": "msdnet"}, should_stop)
