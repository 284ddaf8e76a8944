"""Reports as files: CSV, JSON, PNG and one self-contained HTML page.

Every file is written under a temporary name and renamed when it is complete.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_geosr.core.documents import json_values
from napari_geosr.core.figure_png import as_label, as_png
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.units import convert_length
from napari_geosr.io.unfinished_files.atomic import write_bytes, write_text
from napari_geosr.measure.reports.html import page
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.measure.reports.table import IN_GROUP
from napari_geosr.measure.reports.values import value_table

Theme = Literal["light", "dark"]
INK = {"light": "#222222", "dark": "#e6e6e6"}
PAPER = {"light": "#ffffff", "dark": "#1b1d21"}
#: Colours that are distinguishable with any type of colour vision, on light and dark
#: backgrounds (palette of Okabe and Ito).
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_N_BINS = 24
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def write_csv(
    path: str | Path, report: PorosityReport, *, overwrite: bool = False
) -> Path:
    """Write the pore table with one row per pore, and units in the header.

    Parameters
    ----------
    path : str or Path
    report : PorosityReport
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    FileError
        If the file exists and `overwrite` is false, or it cannot be written.
    """
    titled = {}
    for name, values in report.table.items():
        unit = report.units.get(name)
        title = f"{name} ({unit})" if unit else name
        if values.dtype == np.bool_:  # as 1 and 0, which spreadsheets can sum
            titled[title] = values + 0
        elif name == IN_GROUP or name in report.groups:  # 1, 0 or empty
            titled[title] = np.where(
                np.isnan(values), "", np.where(values == 1, "1", "0")
            )
        else:
            titled[title] = values
    return write_columns(path, titled, overwrite=overwrite)


def write_values(
    path: str | Path,
    reports: Mapping[str, PorosityReport],
    *,
    overwrite: bool = False,
) -> Path:
    """Write all values with their units: one row per quantity, one column per report.

    Parameters
    ----------
    path : str or Path
    reports : mapping of PorosityReport
        Reports by the title of their column. Further columns contain the changes
        relative to the report called ``truth``, otherwise to the first, in per cent.
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    FileError
        As in `write_csv`.
    """
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(value_table(reports))
    return write_text(path, text.getvalue(), overwrite=overwrite)


def write_columns(
    path: str | Path,
    columns: Mapping[str, np.ndarray],
    *,
    overwrite: bool = False,
) -> Path:
    """Write columns of different lengths; shorter ones end with empty cells.

    This is how OpenPNM stores a network: pores and throats side by side
    (`openpnm.io.network_from_csv`).

    Parameters
    ----------
    path : str or Path
    columns : mapping of ndarray
        Columns by their titles.
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    FileError
        As in `write_csv`.
    """
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    cells = (_cells(values) for values in columns.values())
    writer.writerows(zip_longest(*cells, fillvalue=""))
    return write_text(path, text.getvalue(), overwrite=overwrite)


def _cells(values: np.ndarray) -> list[Any]:
    """Return the Python values of a column, with an empty string for NaN."""
    cells: list[Any] = values.tolist()
    if values.dtype.kind == "f":
        return ["" if math.isnan(cell) else cell for cell in cells]
    return cells


def write_json(
    path: str | Path,
    values: PorosityReport | AnyMapping,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a report, or a mapping that may contain reports, as JSON.

    Parameters
    ----------
    path : str or Path
    values : PorosityReport or mapping
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    FileError
        As in `write_csv`.
    """
    # First convert reports and arrays to plain values, in which NaN can be found.
    plain = json.loads(json.dumps(values, default=_plain))
    text = json.dumps(json_values(plain), indent=2, ensure_ascii=False, allow_nan=False)
    return write_text(path, text + "\n", overwrite=overwrite)


def _plain(value: object) -> Any:
    if isinstance(value, PorosityReport):
        return value.to_json_dict()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def write_png(
    path: str | Path,
    reports: Mapping[str, PorosityReport],
    *,
    overwrite: bool = False,
) -> Path:
    """Write a picture with the pore-size histograms of one or more reports.

    Parameters
    ----------
    path : str or Path
    reports : mapping of str to PorosityReport
        Reports by their names in the legend.
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    FileError
        As in `write_csv`.
    """
    return write_bytes(path, histogram_png(reports), overwrite=overwrite)


def histogram_png(
    reports: Mapping[str, PorosityReport], *, theme: Theme = "light"
) -> bytes:
    """Plot the number of pores against their volume (image: area), on log axes.

    All reports share the bins and the unit of the first report. If the voxel size of
    any report is unknown, all sizes are in voxels.

    Returns
    -------
    bytes
        PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ink, paper = INK[theme], PAPER[theme]
    figure = Figure(figsize=(7.2, 3.8), dpi=130, facecolor=paper)
    canvas = FigureCanvasAgg(figure)
    # Fixed margins are wide enough for labels of up to six digits; an automatic layout
    # takes longer than everything else.
    figure.subplots_adjust(left=0.11, right=0.98, bottom=0.14, top=0.97)
    axes: Any = figure.add_subplot(facecolor=paper)
    sizes, label = _sizes_in_one_unit(reports)
    filled = [values for values in sizes.values() if len(values)]
    if filled:
        low = min(float(v.min()) for v in filled)
        high = max(float(v.max()) for v in filled)
        edges = np.geomspace(low * 0.999, max(high, low * 2) * 1.001, _N_BINS + 1)
        for i, (name, values) in enumerate(sizes.items()):
            counts, _ = np.histogram(values, bins=edges)
            colour = COLOURS[i % len(COLOURS)]
            axes.stairs(counts, edges, fill=True, alpha=0.18, color=colour)
            axes.stairs(
                counts, edges, color=colour, linewidth=1.8, label=as_label(name)
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(_power_formatter())
        axes.xaxis.set_minor_formatter(_power_formatter())
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter("{x:.0f}")
        axes.legend(frameon=False, labelcolor=ink)
    else:
        axes.text(
            0.5, 0.5, "no pores", ha="center", color=ink, transform=axes.transAxes
        )
    axes.set_xlabel(label, color=ink)
    axes.set_ylabel("number of pores", color=ink)
    axes.tick_params(which="both", colors=ink)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
    return as_png(canvas)


def _power_formatter() -> Any:
    """Format labels of log axes as text: Matplotlib's formulas are slow to typeset."""
    from matplotlib.ticker import LogFormatterSciNotation

    class PowerFormatter(LogFormatterSciNotation):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return _without_formula(super().__call__(x, pos))

    return PowerFormatter()


def _without_formula(label: str) -> str:
    r"""``$\mathdefault{2\times10^{4}}$`` becomes ``2×10⁴``."""
    text = label.removeprefix(r"$\mathdefault{").removesuffix("}$")
    text = text.replace(r"\times", "×")
    return re.sub(r"\^\{(.*?)\}", lambda m: m[1].translate(_RAISED), text)


def _sizes_in_one_unit(
    reports: Mapping[str, PorosityReport],
) -> tuple[dict[str, np.ndarray], str]:
    first = next(iter(reports.values()))
    size = first.size_column
    if not all(r.has_physical_size and r.size_column == size for r in reports.values()):
        return {k: r.table["voxels"] for k, r in reports.items()}, "pore size (voxels)"
    power = 2 if first.is_flat else 3
    sizes = {
        name: r.table[size] * convert_length(1.0, r.unit, first.unit) ** power
        for name, r in reports.items()
    }
    return sizes, f"pore {size} ({first.units[size]})"


def write_html(
    path: str | Path,
    reports: Mapping[str, PorosityReport],
    *,
    title: str = "Porosity",
    pictures: Mapping[str, bytes | Path] | None = None,
    histogram: Path | None = None,
    provenance: Sequence[AnyMapping] = (),
    overwrite: bool = False,
) -> Path:
    """Write a self-contained page: values side by side, histogram, provenance.

    Parameters
    ----------
    path : str or Path
    reports : mapping of PorosityReport
        Reports by the name of their column. Differences refer to the report called
        ``truth``, otherwise to the first.
    pictures : mapping of bytes or Path, optional
        PNG pictures by caption.
    histogram : Path, optional
        The file written by `write_png`. By default, the histogram is drawn.
    provenance : sequence of mapping
        Provenance records, JSON-serialisable.

    Raises
    ------
    FileError
        As in `write_csv`.
    """
    shown = {
        caption: picture if isinstance(picture, bytes) else Path(picture).read_bytes()
        for caption, picture in (pictures or {}).items()
    }
    text = page(
        reports,
        title=title,
        pictures=shown,
        histogram={
            "light": histogram.read_bytes() if histogram else histogram_png(reports),
            "dark": histogram_png(reports, theme="dark"),
        },
        records=[
            json.dumps(record, default=_plain, indent=2, ensure_ascii=False)
            for record in provenance
        ],
    )
    return write_text(path, text, overwrite=overwrite)
