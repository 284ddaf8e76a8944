"""Widgets and layout of the Reconstruct dock."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.config import Config
from napari_geosr.core.types import AnyDict
from napari_geosr.gui.jobs.cluster import ClusterButton
from napari_geosr.gui.jobs.row import JobRow
from napari_geosr.gui.kit.action_bar import ActionBar, Heading, fill_dock
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.form import ConfigForm, KindForm
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
from napari_geosr.gui.layers.projections import shows_projections
from napari_geosr.gui.layers.saving import SaveButton
from napari_geosr.gui.reconstruct.centre_box import CentreBox
from napari_geosr.gui.reconstruct.denoise_box import DenoiseBox
from napari_geosr.gui.reconstruct.open import OpenProjections
from napari_geosr.gui.study import StudyBox
from napari_geosr.operations.reconstruct.config import (
    SHARED_SETTINGS,
    ReconstructConfig,
    algorithms_for,
    settings_of,
)

if TYPE_CHECKING:
    import napari.viewer

#: Settings that are always visible, and settings that have separate widgets.
_ABOVE = ("every", "stripes", "zingers")
_ELSEWHERE = ("algorithm", "options", "centre", "half", *SHARED_SETTINGS)
#: Hints on the next action: without a scan, with one, and after a reconstruction.
NO_SCAN = "Open projections to begin."
READY = "Preview a slice, or press Reconstruct."
DONE = "Done. Next: Measure porosity…"
NO_ESTIMATE = "Preview a slice to estimate the time for all slices."

#: Text and tool tip of the button that starts a run.
RUN = "&Reconstruct", "Reconstruct the whole volume into a new layer."
RESUME = (
    "&Resume",
    "Reconstruct the missing slices of {!r}. Remove that layer to start again.",
)


class ReconstructWidgets(Dock):
    """The widgets of the Reconstruct dock."""

    scroller: PartScroller
    #: Whether a result with the current settings can be measured.
    is_done = False
    _has_scan = False

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._make_inputs(self._viewer)
        self._make_actions()
        self._make_sections(self._viewer)
        self._lay_out()

    def _make_inputs(self, viewer: napari.viewer.Viewer) -> None:
        self.open = OpenProjections(viewer)
        self.job_row = JobRow(viewer, "reconstruct", self)
        self.layer_combo = LayerCombo(viewer, shows_projections)
        self.layer_combo.setAccessibleName("Projections")
        self.layer_combo.setToolTip(
            "The projections to reconstruct. Open a file, or drag it into the viewer."
        )
        self.facts = text_label(
            "About the projections", "Information about the scan, read from the file."
        )
        self.algorithm = AlgorithmBox()
        self.above = ConfigForm(ReconstructConfig, skip=_all_but(_ABOVE))
        # The value is a multiple of the noise level, so one decimal is sufficient.
        self.above.editor("zingers").setDecimals(1)
        self.centre = CentreBox()
        self.row = QSpinBox()
        self.row.setAccessibleName("Slice")
        self.row.setToolTip(
            "Detector row of the slice to preview; the viewer's slider also changes it."
        )
        for inner in self.row.findChildren(QLineEdit):
            inner.setAccessibleName("Slice")
            inner.setToolTip(self.row.toolTip())

    def _make_actions(self) -> None:
        self.preview_button = button(
            "Pr&eview slice",
            "Reconstruct the current slice, and update it whenever a setting changes.",
        )
        self.preview_button.setCheckable(True)
        self.run_button = button(*RUN)
        self.cancel_button = button("&Cancel", "Stop. Finished slices are kept.")
        self.estimate = text_label(
            "Time and memory estimate",
            "Estimated from the last preview.",
            NO_ESTIMATE,
        )
        self.save_button = SaveButton("&Save result…")
        self.measure_button = button(
            "&Measure porosity…", "Open the Porosity dock with the reconstructed layer."
        )
        self.measure_button.setAccessibleName("Measure porosity")
        self.measure_button.setVisible(False)

    def _make_sections(self, viewer: napari.viewer.Viewer) -> None:
        self.form = ConfigForm(
            ReconstructConfig,
            skip=(*_ABOVE, *_ELSEWHERE),
            choices={"device": ("auto", "cpu", "cuda")},
        )
        self.settings = Section(
            "More settin&gs",
            self.form,
            tool_tip=(
                "Detector rows, slice size, device and corrections. Settings left "
                "empty are chosen automatically."
            ),
        )
        self.denoise = DenoiseBox(viewer)
        self.denoise_section = Section(
            "Denoise with Noise&2Inverse",
            self.denoise,
            tool_tip="Train a denoising network on the projections alone.",
        )
        self.cluster = ClusterButton(viewer, self, "Alt+Shift+K")
        self._study: StudyBox | None = None
        place = QWidget()
        self._study_column = QVBoxLayout(place)
        self._study_column.setContentsMargins(0, 0, 0, 0)
        self.study_section = Section(
            "Stud&y projections",
            place,
            tool_tip="Find the smallest number of projections that still gives "
            "the correct porosity and pore sizes.",
        )
        self.study_section.button.toggled.connect(lambda _: self.study)

    @property
    def study(self) -> StudyBox:
        """Settings and results of studies.

        Their widgets make up a quarter of the dock, and few people open this section.
        The widgets are created when the section is first opened, so that the dock
        itself opens in less than 0.1 s.
        """
        if self._study is None:
            self._study = StudyBox(self._viewer)
            self._study_column.addWidget(self._study)
            self.study_cluster = ClusterButton(
                self._viewer, self, "Alt+Shift+U", "Run study on a cluster…"
            )
            self._study_column.addWidget(self.study_cluster.widget)
            self._study.show()  # at once, not at the next update of the layout
            row = self.bar.add_row(*self._study.actions, on_top=True)
            self.study_section.button.toggled.connect(row.setVisible)
            row.setVisible(self.study_section.button.isChecked())
            self._connect_study(self._study)
        return self._study

    def _connect_study(self, study: StudyBox) -> None:
        """Connect the study to the dock and its scan."""

    def _lay_out(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        choice, place = form_layout(), form_layout()
        add_row(choice, "Pro&jections", self.layer_combo)
        add_row(place, "Centre", self.centre, self.centre.spin)
        add_row(place, "Sl&ice", self.row)
        column.addWidget(self.job_row)
        column.addWidget(self.open)
        column.addLayout(choice)
        for widget in (self.facts, self.algorithm, self.above):
            column.addWidget(widget)
        column.addLayout(place)
        column.addWidget(self.estimate)
        results = QHBoxLayout()
        results.addWidget(self.save_button, 1)
        results.addWidget(self.measure_button, 1)
        column.addWidget(Heading("Result", (self.save_button, self.measure_button)))
        column.addLayout(results)
        column.addWidget(self.settings)
        column.addWidget(self.denoise_section)
        column.addWidget(self.study_section)
        column.addWidget(self.cluster.widget)
        column.addStretch(1)
        self.bar = ActionBar(
            (self.preview_button, self.run_button, self.cancel_button),
            primary=self.run_button,
        )
        self.progress, self.progress_label = self.bar.progress, self.bar.state
        area = scrolling(inner)
        self.scroller = PartScroller(area)
        # The sections are at the bottom, so their fields are out of view at first.
        for section in (self.denoise_section, self.study_section):
            section.button.toggled.connect(partial(self._show_section, section))
        fill_dock(self, area, self.message, self.bar)
        self.layer_combo.layerChanged.connect(self._on_outdated)
        for part in (self.algorithm, self.above, self.form, self.centre):
            part.changed.connect(self._on_outdated)

    def _on_outdated(self) -> None:
        """Propose another run, because a choice was changed."""
        self.is_done = False
        self.show_next(has_scan=self._has_scan)

    def show_next(self, *, has_scan: bool) -> None:
        """Name the next step while nothing is running, and highlight its button."""
        self._has_scan = has_scan
        self.bar.set_primary(self.measure_button if self.is_done else self.run_button)
        ready = DONE if self.is_done else READY
        self.bar.state.set_idle(ready if has_scan else NO_SCAN)

    def _show_section(self, section: Section, is_open: bool) -> None:
        if is_open:
            self.scroller.show_part(section, at_top=True)


def _all_but(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in ReconstructConfig.model_fields if name not in names)


class AlgorithmBox(KindForm):
    """Lists the algorithms for a beam; keeps the settings of each."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(
            "Algorithm",
            "FBP is fast; the iterative algorithms SIRT, CGLS and TV give better "
            "results from few projections.",
            parent,
        )
        # The names do not fit beside the label in a dock of the usual width.
        self.rows.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapAllRows)
        self.set_beam("parallel")

    def config_type(self, kind: str) -> type[Config]:
        """Return the class of the settings of an algorithm."""
        return settings_of(kind)

    def set_beam(self, beam: str) -> None:
        """List the algorithms for a parallel, fan or cone beam."""
        self.set_kinds(algorithms_for(beam))

    def set_config(self, config: ReconstructConfig) -> None:
        """Show the algorithm of `config`, if it is listed, and its settings."""
        values = config.algorithm_config().model_dump()
        self.replace_values(config.algorithm, values)

    def values(self) -> AnyDict:
        """Return the algorithm, and its settings that differ from the defaults."""
        changed = self.changed_values()
        values: AnyDict = {"algorithm": self.kind()}
        values |= {k: v for k, v in changed.items() if k in SHARED_SETTINGS}
        options = {k: v for k, v in changed.items() if k not in SHARED_SETTINGS}
        return values | {"options": options}
