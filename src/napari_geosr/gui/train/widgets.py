"""Widgets and layout of the Train dock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.gui.jobs.cluster import ClusterButton
from napari_geosr.gui.jobs.resume_offer import ResumeOffer
from napari_geosr.gui.jobs.view import JobView
from napari_geosr.gui.kit.action_bar import ActionBar, fill_dock
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.form import FieldFaults
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
from napari_geosr.gui.train.method_settings import MethodSettings
from napari_geosr.jobs.kinds import MAKE_MODELS

if TYPE_CHECKING:
    import napari.viewer

NO_ESTIMATE = "Press Estimate for the training time and memory."
#: Text of the status line once all data are chosen.
READY = "Ready: press Start."
#: Texts of the status line after a refused start; the line has no room for the error.
CORRECT_FIELD = "Correct the marked field."
CORRECT_ABOVE = "See the error above."


class TrainWidgets(Dock):
    """The widgets of the Train dock; see `napari_geosr.gui.train`.

    Parameters
    ----------
    questions : list of str
        Answers to *What do you have?*.
    """

    scroller: PartScroller

    def __init__(self, viewer: napari.viewer.Viewer, questions: list[str]) -> None:
        super().__init__(viewer)
        self._make_widgets(self._viewer, questions)
        self._lay_out()

    def _make_widgets(self, viewer: napari.viewer.Viewer, questions: list[str]) -> None:
        self.have = combo(
            "What do you have?", "Your data determine which methods can be used."
        )
        self.have.addItems(questions)
        self.method = combo(
            "Method", "Training method. The method listed first suits your data best."
        )
        self.need = text_label("Method requirements", "Data that the method requires.")
        self.data_message = MessageRow(shortcut="Alt+Shift+K")
        self.warnings_message = MessageRow(shortcut="")
        self.name = QLineEdit()
        self.name.setAccessibleName("Model name")
        self.name.setToolTip(
            "Model name: lower-case letters, digits, - and _. The default is derived "
            "from the method and the data."
        )
        self.steps = QSpinBox()
        self.steps.setRange(1, 10**7)
        self.steps.setAccessibleName("Steps")
        self.steps.setToolTip(
            "Number of training steps. More steps take longer and usually give a "
            "better model."
        )
        for inner in self.steps.findChildren(QLineEdit):
            inner.setAccessibleName("Steps")
            inner.setToolTip(self.steps.toolTip())
        self.folder = FolderRow("jobs")
        self.settings_message = MessageRow(shortcut="Alt+Shift+L")
        self.estimate = text_label(
            "Time and memory estimate",
            "Estimated training time and memory, measured on a few real steps.",
            NO_ESTIMATE,
        )
        self.estimate_button = button(
            "&Estimate", "Time a few steps in the background."
        )
        self.start_button = button(
            "&Start",
            "Train in the background. Training continues after napari is closed.",
        )
        self.cancel_button = button("&Cancel", "Stop the estimate or the preparation.")
        self.jobs_button = button("&Jobs…", "Open the list of all jobs.")
        self.jobs_button.setAccessibleName("Jobs")
        self.cluster = ClusterButton(viewer, self, "Alt+Shift+G")
        starting = self.estimate_button, self.start_button, self.cluster.widget
        self._tips = {each: each.toolTip() for each in starting}
        #: What to do after a refused start, as a sentence; empty if nothing is wrong.
        self.to_correct = ""
        self.offer = ResumeOffer(self, operations=MAKE_MODELS)
        self.view = JobView(viewer)
        self.settings = MethodSettings(self.name, self.steps)
        self.advanced = Section(
            "&Advanced",
            self.settings,
            tool_tip=(
                "All settings for this method. Settings left empty are chosen "
                "automatically."
            ),
        )

    def _lay_out(self) -> None:
        choices = form_layout()
        question = QLabel("What &do you have?")
        question.setBuddy(self.have)
        question.setToolTip(self.have.toolTip())
        question.setAccessibleName("What do you have?")
        add_row(choices, "&Method", self.method)
        self._data = form_layout()
        naming = form_layout()
        self.name_faults = FieldFaults(naming)
        add_row(naming, "Model &name", self.name)
        add_row(naming, "S&teps", self.steps)
        add_row(naming, "Folder", self.folder, self.folder.button)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        column.addWidget(self.offer)
        column.addWidget(question)
        column.addWidget(self.have)
        column.addLayout(choices)
        column.addWidget(self.need)
        column.addLayout(self._data)
        column.addWidget(self.data_message)
        column.addWidget(self.warnings_message)
        column.addLayout(naming)
        column.addWidget(self.settings_message)
        column.addWidget(self.estimate)
        # Place the curves above the collapsible parts, which contain thirty settings.
        for widget in (self.view, self.advanced, self.jobs_button, self.cluster.widget):
            column.addWidget(widget)
        column.addStretch(1)
        self.bar = ActionBar(
            (self.estimate_button, self.start_button, self.cancel_button),
            self.view.actions,
            idle=READY,
            primary=self.start_button,
        )
        area = scrolling(inner)
        fill_dock(self, area, self.message, self.bar)
        self.view.setVisible(False)
        self.scroller = PartScroller(area)

    def show_state(self, working: str, missing: Sequence[str]) -> None:
        """Enable the buttons, and show what is running or what to do next.

        Parameters
        ----------
        working : str
            Running preparation; empty if there is none.
        missing : sequence of str
            Names of the rows for which nothing is chosen; nothing can be started until
            all data are chosen.
        """
        self.cancel_button.setEnabled(bool(working))
        names = " and ".join(f"“{name}”" for name in missing)
        next_choice = f"Choose {names}."
        for each, tip in self._tips.items():
            each.setEnabled(not missing and not working)
            each.setToolTip(next_choice if missing else tip)
        self.bar.state.idle = next_choice if missing else READY
        self.bar.show_job(*((working, 0, 0) if working else self.view.line))
        if self.to_correct and not working:
            self.bar.state.setText(self.to_correct)

    def mark_next(self, of_job: QPushButton) -> None:
        """Highlight a button of the job while it has a next step, otherwise *Start*."""
        status = self.view.status
        is_alive = status is not None and status.is_alive
        has_next = is_alive or of_job.isEnabled()
        self.bar.set_primary(of_job if has_next else self.start_button)

    def show_view(self) -> None:
        """Show the job, and scroll to its curves after layout."""
        self.view.setVisible(True)
        self.scroller.show_part(self.view.plot)
