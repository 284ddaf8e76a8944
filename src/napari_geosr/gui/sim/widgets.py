"""Widgets and layout of the *SIM* dock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLineEdit, QVBoxLayout, QWidget

from napari_geosr.core.sim_frames import ORDERS
from napari_geosr.gui.jobs.cluster import ClusterButton
from napari_geosr.gui.jobs.row import JobRow
from napari_geosr.gui.kit.action_bar import ActionBar, fill_dock
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.form import AUTOMATIC, ConfigForm
from napari_geosr.gui.kit.lists import FiguresTable
from napari_geosr.gui.kit.placeholder import show_placeholder
from napari_geosr.gui.kit.widgets import (
    PartScroller,
    Section,
    add_row,
    button,
    form_layout,
    scrolling,
    text_label,
)
from napari_geosr.gui.layers.combo import LayerCombo
from napari_geosr.gui.layers.data_row import is_training_image
from napari_geosr.gui.layers.questions.image_notes import ImageNotes
from napari_geosr.gui.sim.answers import AnswerCompare
from napari_geosr.gui.sim.order_strip import OrderStrip
from napari_geosr.gui.sim.pattern_table import PatternTable
from napari_geosr.gui.sim.placement import may_be_frames
from napari_geosr.operations.sim import SimConfig

if TYPE_CHECKING:
    import napari.viewer

EMPTY = "Open the raw frames first."
IDLE = "Next: Find patterns."
FOUND = "Next: Preview or Run."
NOT_FOUND = "Next: correct the patterns or the settings."
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


class SimWidgets(Dock):
    """The widgets of the SIM dock."""

    scroller: PartScroller

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._make_inputs()
        self._make_results()
        self._make_actions()
        self._lay_out()

    def _make_inputs(self) -> None:
        self.combo = LayerCombo(self._viewer, is_training_image, proposes=may_be_frames)
        self.combo.setAccessibleName("Raw frames")
        self.combo.setToolTip(
            "Layer with the raw frames: all angles and phases, and their slices, time "
            "points and channels."
        )
        self.notes = ImageNotes(self._viewer)
        self.combo.layerChanged.connect(
            lambda: self.notes.set_layer(self.combo.layer())
        )
        self.notes.set_layer(self.combo.layer())
        self.arrangement = text_label(
            "Arrangement of the frames",
            "How the frames are arranged, as set or as detected.",
        )
        self.strip = OrderStrip()
        self.form = ConfigForm(
            SimConfig,
            skip=[name for name in SimConfig.model_fields if name not in _SHOWN],
            choices={"order": ORDERS},
            groups=_GROUPS,
        )
        order = self.form.editor("order")
        for line in order.findChildren(QLineEdit):
            show_placeholder(line, AUTOMATIC)
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
            "If a circle misses its peak in the spectrum, select the patterns layer "
            "and drag the circle onto the peak, or double-click a direction or period "
            "and type the correct value.",
        )
        self.figures = FiguresTable(
            "About the result", "Measured values and checks of the last run."
        )
        self.figures.setVisible(False)
        self.answers = AnswerCompare(self._viewer)
        self.compare = self.answers.box

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
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        column.addLayout(data)
        for widget in (
            self.notes,
            self.job_row,
            self.form,
            # The frames are drawn a moment later: the settings above do not move.
            self.arrangement,
            self.strip,
            self.advanced,
            self.table,
            self.hint,
            self.figures,
            self.answers,
            self.cluster.widget,
        ):
            column.addWidget(widget)
        column.addStretch(1)
        self.bar = ActionBar(
            (self.find_button, self.preview_button),
            (self.run_button, self.cancel_button),
            idle=EMPTY,
            primary=self.find_button,
        )
        area = scrolling(inner)
        self.scroller = PartScroller(area)
        fill_dock(self, area, self.message, self.bar)

    def show_next(self, problems: Sequence[str] | None) -> None:
        """Name the next step while nothing is running, and highlight its button.

        Parameters
        ----------
        problems : sequence of str or None
            Problems with the patterns on screen; None if no patterns were searched for.
        """
        if problems is None:
            text = EMPTY if self.combo.layer() is None else IDLE
        else:
            text = NOT_FOUND if problems else FOUND
        self.bar.state.set_idle(text)
        can_run = problems is not None and not problems
        self.bar.set_primary(self.run_button if can_run else self.find_button)

    def settings_forms(self) -> list[ConfigForm]:
        """Return the forms with the settings, from top to bottom."""
        return [self.form, self.rare]
