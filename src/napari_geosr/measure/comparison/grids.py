"""The grids on which volumes are compared with the base, in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from napari_geosr.core.types import AnyDict
from napari_geosr.measure.comparison.frame import Frame
from napari_geosr.measure.number_text import NOTHING, number_text
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.measure.reports.rows import figure_rows


@dataclass(frozen=True)
class PairGrid:
    """Grid and settings with which the grey-value metrics of a volume were computed.

    Attributes
    ----------
    frame : Frame
        Grid on which the volume is compared with the base.
    voxels : int
        Number of voxels of the frame that are known and inside the sample.
    data_range : float
        Range of grey values for PSNR and SSIM.
    ssim_window : str
        Window of the structural similarity; empty if it does not fit.
    base_range : float
        Range of grey values of the base, for the range-invariant PSNR.
    """

    frame: Frame
    voxels: int
    data_range: float
    ssim_window: str
    base_range: float

    @property
    def voxel_text(self) -> str:
        """Size of the frame's voxels, with the unit."""
        size = [f"{v:.4g}" for v in self.frame.voxel_size]
        edges = size[:1] if len(set(size)) == 1 else size
        return f"{' × '.join(edges)} {self.frame.length_unit}"

    def to_json_dict(self) -> AnyDict:
        """Return the grid as JSON-serialisable values."""
        return {
            "frame": self.frame.to_json_dict(),
            "voxels": self.voxels,
            "data_range": self.data_range,
            "base_range": self.base_range,
            "ssim_window": self.ssim_window,
        }


def each_once(texts: Mapping[str, str], titles: Mapping[str, str]) -> str:
    """Return the common text of all volumes, or else each text with a title."""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{text} ({titles[key]})" for key, text in texts.items())


def sentences_of(grids: Mapping[str, PairGrid], titles: Mapping[str, str]) -> list[str]:
    """Return a sentence on each grid: its voxels, and the volumes compared on it."""
    found: dict[str, list[str]] = {}
    for key, grid in grids.items():
        shape = " × ".join(map(str, grid.frame.shape))
        size = " × ".join(f"{v:.4g}" for v in grid.frame.voxel_size)
        text = (
            f"compared on {shape} voxels of {size} {grid.frame.length_unit}, of which "
            f"{number_text(grid.voxels)} are known in all volumes."
        )
        found.setdefault(text, []).append(titles[key])
    if len(found) == 1:
        return [f"Grey values are {text}" for text in found]
    return [
        f"Grey values of {' and '.join(names)} are {text}"
        for text, names in found.items()
    ]


def porosity_texts(
    reports: Mapping[str, PorosityReport],
    of_base: Mapping[str, PorosityReport],
    base: str,
) -> list[tuple[str, dict[str, str], str]]:
    """Return the label, one text per volume and the explanation of each pore metric.

    Parameters
    ----------
    reports : mapping of PorosityReport
    of_base : mapping of PorosityReport
        The base as measured for each of the other volumes: in the same region and with
        the same minimum pore size.
    """
    if base not in reports:
        return []
    found: dict[str, tuple[dict[str, str], str]] = {}
    for one in {id(report): report for report in (reports[base], *of_base.values())}:
        keys = [key for key in reports if key != base and id(of_base[key]) == one]
        if not keys:
            continue
        reference = of_base[keys[0]]
        rows = figure_rows([reference, *(reports[key] for key in keys)])
        for row in rows:
            texts, _ = found.setdefault(row.label, ({}, row.help))
            if reference is reports[base]:
                texts[base] = row.texts[0]
            changes = zip(keys, row.texts[1:], row.differences[1:], strict=True)
            for key, text, change in changes:
                has_change = change and change != NOTHING
                texts[key] = f"{text} ({change})" if has_change else text
    return [(label, texts, help_) for label, (texts, help_) in found.items()]
