"""From a pair to the Train dock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_geosr.gui.kit.places import TRAIN, open_dock
from napari_geosr.gui.layers.data_row import DataRow
from napari_geosr.gui.train import questions as answers

if TYPE_CHECKING:
    import napari.viewer

    from napari_geosr.operations.pairs import Pairs

_METHOD = "supervised"


def train_with(viewer: napari.viewer.Viewer, pairs: Pairs) -> Any:
    """Open the Train dock and choose the files of a pair; return the dock."""
    report = pairs.report
    factor = int(report["upscale_factor"])
    is_flat = report["dimensions"] == "2D" or len(report["low"]["shape"]) == 2
    questions = answers.questions()
    index = answers.find(questions, _METHOD, "finer" if factor > 1 else "")
    dock = open_dock(viewer, TRAIN)
    dock.have.setCurrentIndex(index)
    dock.method.setCurrentText(_METHOD)
    settings: dict[str, Any] = {"dimensions": "2D"} if is_flat else {}
    if factor > 1:
        settings = {
            "upscale_factor": factor,
            "network": "light_sr",
            "dimensions": "2D" if is_flat else "3D",
        }
    dock.settings.adopt(settings)
    rows = {row.name: row for row in dock.findChildren(DataRow)}
    for name, key in zip(questions[index].names, ("low", "high"), strict=True):
        rows[name].set_files((pairs.files[key],))
    return dock
