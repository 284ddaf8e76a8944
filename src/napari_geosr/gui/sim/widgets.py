"""Widgets and layout of the *SIM* dock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLineEdit, QTreeWidgetItem, QVBoxLayout, QWidget

from napari_geosr.core.sim_frames import ORDERS
from napari_geosr.gui.jobs.cluster import ClusterButton
from napari_geosr.gui.jobs.row import JobRow
from napari_geosr.gui.kit.action_bar import ActionBar, fill_dock
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.form import AUTOMATIC, ConfigForm
from napari_geosr.gui.kit.widgets import (
    FormAligner,
    PartScroller,
    Section,
    add_row,
    button,
    form_layout,
    list_tree,
    scrolling,
    text_label,
)
from napari_geosr.gui.layers.combo import LayerCombo
from napari_geosr.gui.layers.curtain import CompareBox
from napari_geosr.gui.layers.data_row import is_training_image
from napari_geosr.operations.sim import MIN_CONFIDENCE, PatternEstimate, SimConfig

if TYPE_CHECKING:
    import napari.viewer

EMPTY = "Open the raw frames first."
IDLE = "Next: Find patterns."
FOUND = "Next: Preview or Run."
DONE = "Done. Next: try another method."
#: Settings that are always visible, by group.
_GROUPS = {
    "Microscope": ("na", "wavelength", "index", "pixel"),
    "Frames": ("angles", "phases", "order", "harmonics"),
    "Reconstruction": ("method", "upscale_factor"),
}
_SHOWN = tuple(name for names in _GROUPS.values() for name in names)
#: Settings of the section Advanced, by group.
_RARE_GROUPS = {
    "Camera and optics": ("offset", "psf", "psf_sampling", "damping", "patterns"),
    "Wiener-SIM": ("regularisation", "apodisation", "notch"),
    "Joint Richardson–Lucy": ("iterations", "tv"),
    "Physics-informed network": ("recipe", "steps", "features", "patterns_after"),
    "Run": ("checks", "memory", "threads", "device"),
}
#: Columns of the table of patterns.
_COLUMNS = ("Direction", "Period", "Modulation", "Peak")


class SimWidgets(Dock):
    """The visible parts of the SIM dock."""

    scroller: PartScroller

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._make_inputs()
        self._make_results()
        self._make_actions()
        self._lay_out()

    def _make_inputs(self) -> None:
        self.combo = LayerCombo(self._viewer, is_training_image)
        self.combo.setAccessibleName("Raw frames")
        self.combo.setToolTip(
            "Layer with the raw frames: all angles and phases, and their slices, time "
            "points and channels."
        )
        self.arrangement = text_label(
            "Arrangement of the frames",
            "How the frames are arranged, as set or as detected.",
        )
        self.form = ConfigForm(
            SimConfig,
            skip=[name for name in SimConfig.model_fields if name not in _SHOWN],
            choices={"order": ORDERS},
            groups=_GROUPS,
        )
        order = self.form.editor("order")
        for line in order.findChildren(QLineEdit):
            line.setPlaceholderText(AUTOMATIC)
        self.rare = ConfigForm(SimConfig, skip=_SHOWN, groups=_RARE_GROUPS)
        self.advanced = Section(
            "&Advanced",
            self.rare,
            tool_tip="Camera offset, point-spread function, known patterns, and "
            "settings of the methods.",
        )

    def _make_results(self) -> None:
        self.table = PatternTable()
        self.hint = text_label(
            "Hint about the patterns",
            "How to correct a pattern.",
            "If a circle misses its peak in the spectrum, select the layer of "
            "patterns and drag the circle onto the peak.",
        )
        self.figures = text_label(
            "About the result",
            "Duration, iterations and signal-to-noise ratio of the last run.",
        )
        self.figures.setVisible(False)
        self.compare = CompareBox(self._viewer, labels=("widefield", "result"))
        # The grey values of the methods differ by an order of magnitude.
        self.compare.link_box.setChecked(False)

    def _make_actions(self) -> None:
        self.find_button = button(
            "Find pa&tterns",
            "Check the frames, find the illumination patterns, and show them in the "
            "spectrum.",
        )
        self.preview_button = button(
            "Preview",
            "Reconstruct the visible part, up to 512 × 512 pixels, with Wiener-SIM.",
            "Alt+Shift+P",
        )
        self.run_button = button(
            "&Run", "Reconstruct all planes with the method above."
        )
        self.cancel_button = button("&Cancel", "Stop and discard this result.")
        self.cluster = ClusterButton(self._viewer, self, "Alt+Shift+K")
        self.job_row = JobRow(self._viewer, "sim", self)

    def _lay_out(self) -> None:
        data = form_layout()
        add_row(data, "Raw frames", self.combo)
        inner = QWidget()
        FormAligner(inner)
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        column.addLayout(data)
        for widget in (
            self.job_row,
            self.arrangement,
            self.form,
            self.advanced,
            self.table,
            self.hint,
            self.figures,
            self.compare,
            self.cluster.widget,
        ):
            column.addWidget(widget)
        column.addStretch(1)
        self.bar = ActionBar(
            (self.find_button, self.preview_button),
            (self.run_button, self.cancel_button),
            idle=EMPTY,
            primary=self.run_button,
        )
        area = scrolling(inner)
        self.scroller = PartScroller(area)
        fill_dock(self, area, self.message, self.bar)

    def settings_forms(self) -> list[ConfigForm]:
        """Return the forms with the settings, from the top."""
        return [self.form, self.rare]


class PatternTable(QWidget):
    """Direction, period, modulation and confidence of the pattern of each angle.

    Hidden while no pattern is known.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.tree = list_tree(
            _COLUMNS,
            "Patterns",
            "Illumination patterns. Modulation ranges from 0 to 1. Peak is the "
            "confidence, that is, the height of the correlation peak relative to its "
            f"surroundings; below {MIN_CONFIDENCE:g}, the pattern counts as not found.",
            heights=(90, 110),
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.tree)
        self.setVisible(False)

    def show_estimate(self, estimate: PatternEstimate | None) -> None:
        """Show the patterns of an estimate; hide the table without one."""
        self.tree.clear()
        patterns = None if estimate is None else estimate.patterns
        self.setVisible(patterns is not None and bool(patterns.fringes))
        if estimate is None or patterns is None:
            return
        for i, fringe in enumerate(patterns.fringes):
            known = i < len(patterns.confidence)
            peak = patterns.confidence[i] if known else math.nan
            row = QTreeWidgetItem(
                [
                    f"{i + 1}: {fringe.direction:.1f}°",
                    length_text(patterns.pixel_size / fringe.frequency, patterns.unit),
                    " / ".join(f"{m:.2f}" for m in fringe.modulation),
                    f"{peak:.1f}" if math.isfinite(peak) else "–",
                ]
            )
            problem = estimate.fits[i].problem if i < len(estimate.fits) else ""
            if problem:
                row.setText(0, f"{row.text(0)} \N{WARNING SIGN}")
                for column in range(len(_COLUMNS)):
                    row.setToolTip(column, problem)
            self.tree.addTopLevelItem(row)


def length_text(length: float, unit: str) -> str:
    """A length with three or more digits before the unit, such as ``"221 nm"``."""
    if unit == "µm" and length < 1:
        length, unit = 1000 * length, "nm"
    return f"{length:.3g} {unit}"
