"""Figures show file names unchanged, and nothing is printed about them."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import napari_geosr
from napari_geosr.core.figure_png import as_label
from napari_geosr.measure.comparison.pictures import slices_png

PLANE = np.arange(64.0).reshape(8, 8)


@pytest.mark.parametrize("name", ["样品", "a$_$", r"a$\frac$", "_a", "$"])
def test_any_name_can_be_in_a_figure(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert slices_png({name: PLANE}, {}).startswith(b"\x89PNG")


def test_names_are_shown_as_they_are() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name in ("_a", "a$_$"):
        axes.plot([0, 1], label=as_label(name))
    handles, labels = axes.get_legend_handles_labels()
    assert len(handles) == 2
    assert labels == [" _a", r"a\$_\$"]


def test_all_figures_are_drawn_in_one_place() -> None:
    root = Path(napari_geosr.__file__).parent
    drawing = [
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(r"print_png|savefig", path.read_text(encoding="utf-8"))
    ]
    assert [Path(each).as_posix() for each in drawing] == ["core/figure_png.py"]
