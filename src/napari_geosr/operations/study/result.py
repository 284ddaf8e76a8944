"""What a study tells of: a cell that is done, and all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_geosr.core.steps import Step


@dataclass(frozen=True)
class CellDone(Step):
    """A cell is judged; `row` has its figures."""

    row: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Studied:
    """A study: its rows, what they are compared with, its files.

    Attributes
    ----------
    rows : list of dict
        One for each cell, by number of projections and exposure; the whole scan first.
    reference : dict
        Figures of the truth, or of the full reconstruction.
    savings : list of dict
        What each number of projections and exposure needs.
    fewest : dict
        Fewest projections of the longest exposure that give the right porosity, by
        algorithm.
    least : dict
        By algorithm, ``projections`` and ``exposure`` with the least light that give
        the right porosity; None where none do.
    files : dict of Path
        ``csv``, ``json``, ``html``.
    warnings : tuple of str
        What is to be borne in mind.
    """

    rows: list[dict[str, Any]]
    reference: dict[str, Any]
    savings: list[dict[str, Any]]
    fewest: dict[str, int | None]
    least: dict[str, dict[str, float] | None]
    files: dict[str, Path]
    warnings: tuple[str, ...] = ()
