"""TomoGAN with the critic of Jensen and Shannon, as published."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from napari_geosr.core.steps import ShouldStop, Step

if TYPE_CHECKING:
    from napari_geosr.operations.study.cell import Cell, Outcome

TITLE = "TomoGAN (JS)"
LEARNS = True
METHOD = "tomogan"


def reconstruct_steps(
    cell: Cell, should_stop: ShouldStop
) -> Generator[Step, None, Outcome]:
    """See `napari_geosr.operations.study.algorithms`."""
    return cell.learned_steps(METHOD, {"distance": "jensen-shannon"}, should_stop)
