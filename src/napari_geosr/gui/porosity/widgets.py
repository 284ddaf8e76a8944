"""Widgets and layout of the Porosity dock, without their behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from qtpy.QtCore import QSize
from qtpy.QtWidgets import QPushButton, QTabWidget, QToolButton, QWidget

from napari_geosr.core.errors import ConfigError
from napari_geosr.gui.jobs.cluster import ClusterButton
from napari_geosr.gui.jobs.row import JobRow
from napari_geosr.gui.kit.action_bar import ActionBar, fill_dock
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.plots.histogram import PlotColors
from napari_geosr.gui.kit.widgets import PartScroller, scrolling
from napari_geosr.gui.porosity.measuring import stopped_measurement
from napari_geosr.gui.porosity.plan_section import PlanSection
from napari_geosr.gui.porosity.result import PorosityResult
from napari_geosr.gui.porosity.settings import PorositySettings
from napari_geosr.operations.measure import number_text, percent_text

if TYPE_CHECKING:
    import napari.viewer

    from napari_geosr.jobs.handover import StoppedMeasurement

_MIN_HEIGHT = 330

#: Text of the status line when an operation starts.
RUNNING = {
    "measure": "Measuring…",
    "evidence": "Evaluating the evidence…",
    "plan": "Planning…",
}
#: Words for each operation in the message that it was stopped because its layer was
#: removed.
STOPPED = {
    "measure": "its measurement",
    "evidence": "the evaluation of the evidence",
    "plan": "its plan",
}


class PorosityWidgets(Dock):
    """The widgets of the Porosity dock."""

    scroller: PartScroller
    option_titles: ClassVar[Mapping[str, str]] = {"scan": "Scan shows"}

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.setMinimumWidth(0)  # tabs and table can scroll
        self.settings = PorositySettings(self._viewer)
        self.plan = PlanSection(self._viewer, self.settings)
        self.result = PorosityResult()
        self.job_row = JobRow(self._viewer, "measure", self)
        self.job_row.layout().setContentsMargins(8, 4, 8, 4)
        self.cluster = ClusterButton(self._viewer, self, "Alt+Shift+K")
        self._make_buttons()
        self._lay_out()

    def _run_elsewhere(self) -> StoppedMeasurement:
        layers = self.settings.layers()
        if layers["data"] is None:
            raise ConfigError("No layer is selected. Open an image first.")
        return stopped_measurement(layers, self.settings.config(), self._viewer)

    def _make_buttons(self) -> None:
        self.measure_button = QPushButton("&Measure")
        self.measure_button.setToolTip(
            "Find, count and measure the pores of the sample."
        )
        self.measure_button.setAccessibleName("Measure")
        self.cluster.set_run(self._run_elsewhere, self.measure_button)
        self.cancel_button = QPushButton("Ca&ncel")
        self.cancel_button.setToolTip("Stop measuring.")
        self.cancel_button.setAccessibleName("Cancel")
        self.cancel_button.setEnabled(False)
        self.bar = ActionBar(
            (self.measure_button, self.cancel_button), primary=self.measure_button
        )
        self.progress, self.stage = self.bar.progress, self.bar.state

    def _lay_out(self) -> None:
        settings = self.settings.layout()
        place = settings.count() - 1  # above the stretch
        settings.insertWidget(place, self.plan.section)
        settings.insertWidget(place + 1, self.cluster.widget)
        self.scroll = scrolling(self.settings)
        self.scroll.setAccessibleName("Settings")
        self.scroll.setToolTip("Measurement settings.")
        self.scroller = PartScroller(self.scroll)
        self.plan.exported.connect(lambda text: self.message.show_message(text, "ok"))
        self.plan.failed.connect(self.message.show_error)
        self.plan.planned.connect(
            lambda: self.scroller.show_part(self.plan.button, at_top=True)
        )
        self.tabs = QTabWidget()
        self.tabs.addTab(self.scroll, "Settin&gs")
        self.tabs.addTab(self.result, "Resul&t")
        page = scrolling(self.result.plot)
        self.result.plot.scroller = PartScroller(page)
        page.setAccessibleName("Plot")
        page.setToolTip("Scatter plot of the pores, filters and groups.")
        self.tabs.addTab(page, "Plot")
        self.tabs.setTabEnabled(1, False)
        self.tabs.setTabEnabled(2, False)
        self.tabs.setTabToolTip(0, "Image, threshold, sample and minimum pore size.")
        self.tabs.setTabToolTip(1, "Measured values, histogram and pore table.")
        self.tabs.setTabToolTip(2, "Scatter plot of the pores, filters and groups.")
        self.tabs.setAccessibleName("Settings and result")
        self.tabs.setToolTip("Measurement settings and result.")
        for button in self.tabs.tabBar().findChildren(QToolButton):
            button.setToolTip("Scroll the tabs.")
        fill_dock(self, self.tabs, self.message, self.bar, above=self.job_row)

    def show_in_fields(self, error: Exception) -> list[QWidget]:
        """Show an error below the settings and layers that it concerns."""
        return [*self.settings.faults.show(error), *self.plan.show_faults(error)]

    def show_refusal(self, error: Exception) -> None:
        """Show why nothing was measured; open the settings if they are the reason."""
        self.show_failure(error)
        if self.settings.faults.texts:
            self.tabs.setCurrentIndex(0)

    def settings_forms(self) -> tuple[ConfigForm]:
        """Return the form with the settings of a measurement."""
        return (self.settings.form,)

    def clear_errors(self) -> None:
        """Clear the message and the errors below settings and layers."""
        super().clear_errors()
        self.settings.faults.clear()
        self.plan.clear_faults()

    def show_theme(self, _event: object = None) -> None:
        """Draw the histograms and the plot in the colours of napari's theme."""
        from napari.utils.theme import get_theme

        theme = get_theme(self._viewer.theme)
        colors = PlotColors(
            text=theme.text.as_hex(),
            bars=theme.secondary.as_hex(),
            marked=theme.current.as_hex(),
        )
        self.settings.histogram.set_colors(colors)
        self.result.histogram.set_colors(colors)
        self.result.samples.chart.set_colors(colors)
        self.result.plot.scatter.set_text_color(theme.text.as_hex())

    def show_results(self) -> None:
        """Open the tab with the result."""
        for index in (1, 2):
            self.tabs.setTabEnabled(index, True)
        self.tabs.setCurrentIndex(1)
        if (report := self.result.report) is not None:
            count = number_text(report.pore_count)
            where = ", ".join(filter(None, (report.name, self.result.position)))
            self.stage.set_idle(
                f"Porosity {percent_text(report.porosity)}, {count} "
                f"{'pore' if report.pore_count == 1 else 'pores'} in {where}."
            )

    def leave_settings(self) -> None:
        """Show the result, unless the plot is open."""
        self.tabs.setCurrentIndex(self.tabs.currentIndex() or 1)

    def minimumSizeHint(self) -> QSize:
        """Reserve space for some table rows, even below another dock."""
        hint = super().minimumSizeHint()
        return hint.expandedTo(QSize(0, _MIN_HEIGHT))
