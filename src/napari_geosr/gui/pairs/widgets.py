"""Widgets and layout of the *Pairs* dock."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_origin

from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_geosr.core.config import Config
from napari_geosr.core.types import AnyDict
from napari_geosr.gui.kit.action_bar import ActionBar, fill_dock
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.form import ConfigForm, KindForm
from napari_geosr.gui.kit.lists import FiguresTable
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.widgets import (
    FolderRow,
    PartScroller,
    Section,
    add_row,
    button,
    combo,
    form_layout,
    scrolling,
    text_label,
)
from napari_geosr.gui.layers.data_row import DataRow, add_data_row
from napari_geosr.operations.pairs.config import (
    PairsConfig,
    imaging_class,
    imaging_titles,
)

if TYPE_CHECKING:
    import napari.viewer


TWO = "Low- and high-resolution scans"
ONE = "Only a high-resolution scan"
#: Hints on the next action: without scans, with them, and after a pair is built.
IDLE = "Choose the scans, then press Build pair."
READY = "Ready: press Build pair."
BUILT = "Done. Next: Train with these pairs…"
#: Settings for all pairs, settings for two scans, and rarely used ones for two scans.
_SHARED = ("upscale_factor", "dimensions")
_ALIGNING = ("start", "offset", "transform")
_RARE = ("search_angle", "intensity", "memory")


class PairsWidgets(Dock):
    """The widgets of the Pairs dock."""

    scroller: PartScroller

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._make_inputs(self._viewer)
        self._make_settings()
        self._make_actions()
        self._lay_out()

    def _make_inputs(self, viewer: napari.viewer.Viewer) -> None:
        self.have = combo(
            "What do you have?",
            "If you have two scans, they are aligned. If you have only one, a "
            "low-resolution scan is simulated from it.",
        )
        self.have.addItems([TWO, ONE])
        self.low = DataRow(viewer, "Low resolution", keys=("1", "2"))
        self.high = DataRow(viewer, "High resolution", keys=("3", "4"))
        self.like = DataRow(viewer, "Reference low-resolution scan", keys=("5", "6"))
        self.like.touched = True  # optional, so no layer is suggested
        self.like_note = text_label(
            "About the reference scan",
            "Values set below replace the measured ones.",
            "A real low-resolution scan of the same material, if you have one. Its "
            "blur, noise and grey values are then measured.",
        )
        self.data_message = MessageRow(shortcut="Alt+Shift+K")

    def _make_settings(self) -> None:
        self.shared = ConfigForm(PairsConfig, skip=_all_but(_SHARED))
        self.aligning = ConfigForm(PairsConfig, skip=_all_but(_ALIGNING))
        self.rare = ConfigForm(PairsConfig, skip=_all_but(_RARE))
        self.imaging = ImagingBox()
        self.advanced = Section(
            "&Advanced",
            self.rare,
            tool_tip="Angular search range, grey values and memory.",
        )
        self.folder = FolderRow("pairs")

    def _make_actions(self) -> None:
        self.build_button = button(
            "&Build pair",
            "Align the two scans, or simulate the low-resolution scan, and save both "
            "in a new folder.",
        )
        self.cancel_button = button(
            "&Cancel", "Stop and discard the files of this pair."
        )
        self.figures = FiguresTable(
            "Pair quality", "Pair quality. All values are in pairs.json."
        )
        self.result_notes = text_label(
            "Notes on the pair", "Noise and sampling of the simulated scan."
        )
        self.blink_button = button(
            "Show b&efore",
            "Switch between the high-resolution scan before and after alignment.",
        )
        self.blink_button.setCheckable(True)
        self.train_button = button(
            "&Train with these pairs…", "Open the Train dock with both files selected."
        )
        self.train_button.setAccessibleName("Train with these pairs")

    def _lay_out(self) -> None:
        question = QLabel("What &do you have?")
        question.setBuddy(self.have)
        question.setToolTip(self.have.toolTip())
        question.setAccessibleName("What do you have?")
        self._data = form_layout()
        for title, row in (
            ("Low resolution", self.low),
            ("High resolution", self.high),
            ("Real scan", self.like),
        ):
            add_data_row(self._data, title, row)
        place = form_layout()
        add_row(place, "Folder", self.folder, self.folder.button)
        results = QHBoxLayout()
        results.addWidget(self.blink_button, 1)
        results.addWidget(self.train_button, 1)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        column.addWidget(question)
        column.addWidget(self.have)
        column.addLayout(self._data)
        for widget in (
            self.like_note,
            self.data_message,
            self.shared,
            self.aligning,
            self.imaging,
            self.advanced,
        ):
            column.addWidget(widget)
        column.addLayout(place)
        column.addWidget(self.figures)
        column.addWidget(self.result_notes)
        column.addLayout(results)
        column.addStretch(1)
        self.bar = ActionBar(
            (self.build_button, self.cancel_button),
            idle=IDLE,
            primary=self.build_button,
        )
        self.progress, self.progress_label = self.bar.progress, self.bar.state
        area = scrolling(inner)
        self.scroller = PartScroller(area)
        fill_dock(self, area, self.message, self.bar)

    def show_kind(self, aligned: bool) -> None:
        """Show the settings for two scans or for one."""
        for row, shown in ((self.low, aligned), (self.like, not aligned)):
            self._data.setRowVisible(row, shown)
            self._data.setRowVisible(row.questions, shown)
            if shown:
                row.questions.fit()  # an empty row would leave a gap
        for widget in (self.aligning, self.advanced):
            widget.setVisible(aligned)
        for widget in (self.imaging, self.like_note):
            widget.setVisible(not aligned)


def _all_but(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in PairsConfig.model_fields if name not in names)


class ImagingBox(KindForm):
    """Lists the imaging modalities; keeps the settings of each."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(
            "Imaging", "Instrument used for the low-resolution scan.", parent
        )
        self.set_kinds(imaging_titles())

    def config_type(self, kind: str) -> type[Config]:
        """Return the class of the settings of a modality."""
        return imaging_class(kind)

    def hidden_fields(self, config_type: type[Config]) -> list[str]:
        """Return the fields to hide: lists of numbers."""
        fields = config_type.model_fields.items()
        return [name for name, field in fields if get_origin(field.annotation) is tuple]

    def set_kind(self, kind: str, options: AnyDict) -> None:
        """Show a modality and its settings, if it is listed."""
        index = self.combo.findData(kind)
        if index < 0:
            return
        self.combo.setCurrentIndex(index)
        assert self.form is not None
        self.form.set_values(options)
