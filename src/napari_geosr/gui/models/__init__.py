"""The Models dock: find a model, read its card, import, export and remove."""

from __future__ import annotations

import html
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qtpy.QtCore import Qt
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QInputDialog,
    QMessageBox,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.text.vocabulary import TASKS
from napari_geosr.gui.kit.action_bar import ActionBar, fill_dock
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.dock_tabs import RESTORE
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.kit.lists import ColumnHider, list_tree
from napari_geosr.gui.kit.notify import MessageLog
from napari_geosr.gui.kit.progress import OperationProgress
from napari_geosr.gui.kit.warm_up import load_torch
from napari_geosr.gui.kit.widgets import button, scrolling
from napari_geosr.gui.kit.worker import MakeSteps
from napari_geosr.gui.models.box import card_html, text_label
from napari_geosr.gui.models.find import ModelSearch
from napari_geosr.gui.models.generate import (
    GenerateDialog,
    SampleRequest,
    can_generate,
    show_samples,
)
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.models.formats import formats, source_help, suffixes

if TYPE_CHECKING:
    import napari.viewer
    from qtpy.QtCore import QEvent

    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.models.catalogue import ZooEntry
    from napari_geosr.operations.models.exporting import ExportResult
    from napari_geosr.operations.models.importing import ImportResult

T = TypeVar("T")

_NAME = Qt.ItemDataRole.UserRole


class ModelsDock(Dock):
    """Lists the available models and shows the card of the selected one.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Viewer, given by napari.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self._entries: dict[str, ZooEntry] = {}
        self._damaged: dict[str, str] = {}
        self._listing = Activity(self)
        self._refresh_pending = False
        self._import_queue: list[str] = []
        self._choose_next = ""
        #: Model to use in the Restore dock as soon as that dock is open.
        self._entry_to_use: ZooEntry | None = None
        self.setAcceptDrops(True)
        self._make_widgets()
        self._lay_out()
        self.find.changed.connect(self._fill)
        self.tree.itemSelectionChanged.connect(self._on_selected)
        self.use_button.clicked.connect(self._on_use)
        self.import_button.clicked.connect(self._on_import)
        self.zoo_button.clicked.connect(self._on_import_by_name)
        self.generate_button.clicked.connect(self._on_generate)
        self.export_button.clicked.connect(self._on_export)
        self.remove_button.clicked.connect(self._on_remove)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.activity.idle.connect(self._import_next)
        self._listing.idle.connect(self._on_listing_idle)
        self.show_busy("")

    def begin(self) -> None:
        self.refresh()

    @classmethod
    def load_steps(cls) -> Generator[Step, None, None]:
        """Read the model cards and the formats that can be imported."""
        yield StageStarted(message="Reading the models")
        catalogue.scan_folders()
        source_help()

    def _make_widgets(self) -> None:
        self.find = ModelSearch(self._viewer)
        self.tree = list_tree(
            ["Model", "Task", "Factor", "Source"],
            "Models",
            "Bundled models and your own. Drop a file here to import it.",
            heights=(110, 190),
        )
        self._hider = ColumnHider(self.tree, columns=(3, 1))
        self.use_button = button(
            "&Use in Restore", "Open the Restore dock with this model selected."
        )
        self.import_button = button(
            "&Import…",
            f"Import a third-party model: {source_help()}. Nothing in it is "
            "executed. Files can be dropped here as well.",
        )
        self.zoo_button = button(
            "From &BioImage.IO…",
            "Download a model from the BioImage.IO zoo by its name or from a URL.",
        )
        self.export_button = button(
            "E&xport…",
            "Export the model for other programs, as a BioImage.IO package or as "
            "ONNX. The exported model is checked against the original.",
        )
        self.generate_button = button(
            "&Generate samples…",
            "Generate images or volumes that resemble the training data; for models "
            "trained with the method ddpm.",
        )
        self.remove_button = button(
            "&Remove…", "Delete this model. You will be asked to confirm."
        )
        self._log = MessageLog(self.message)
        self.cancel_button = button("&Cancel", "Stop and discard the partial result.")
        self.card = text_label("Model card")
        self.card.setTextFormat(Qt.TextFormat.RichText)
        self.card.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)

    def _lay_out(self) -> None:
        self.bar = ActionBar(
            (self.use_button, self.export_button, self.remove_button),
            (self.import_button, self.zoo_button),
            (self.generate_button, self.cancel_button),
            idle="Drop a model file here to import it.",
            primary=self.use_button,
        )
        self.stage = self.bar.state
        self._progress = OperationProgress(self.stage.setText, ending="")
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        column.addWidget(self.find)
        column.addWidget(self.tree)
        # The list and the card scroll separately; the dock itself does not.
        self._card_area = scrolling(self.card)
        column.addWidget(self._card_area, 1)
        fill_dock(self, inner, self.message, self.bar)

    # The list

    def refresh(self) -> None:
        """Search for models again, in a worker."""
        if self._listing.busy:
            self._refresh_pending = True
            return
        self._listing.start(
            "list",
            lambda _stop: _list_steps(),
            self._on_listed,
            on_error=self.message.show_error,
        )

    def _on_listing_idle(self) -> None:
        if self._refresh_pending:
            self._refresh_pending = False
            self.refresh()

    def _on_listed(self, listed: tuple[list[ZooEntry], dict[str, str]]) -> None:
        entries, self._damaged = listed
        self._entries = {entry.name: entry for entry in entries}
        self._fill()

    def _fill(self) -> None:
        """List the matching models; at first, none is selected."""
        name_to_keep = self._choose_next or self.chosen()
        criteria, volume = self.find.model_filter(), self.find.volume()
        self.tree.blockSignals(True)
        self.tree.clear()
        for name, entry in self._entries.items():
            if criteria.fits(entry) and _fits(entry, volume):
                self._add(name, entry)
        for path, reason in self._damaged.items():
            item = QTreeWidgetItem([Path(path).name, "damaged", ""])
            item.setData(0, _NAME, Path(path).name)
            item.setToolTip(0, html.escape(reason))
            self.tree.addTopLevelItem(item)
        self.tree.blockSignals(False)
        self._hider.fit()
        items = self.items()
        chosen = next((i for i in items if i.data(0, _NAME) == name_to_keep), None)
        if chosen is not None and name_to_keep == self._choose_next:
            self._choose_next = ""
        first = items[0] if items and name_to_keep else None
        self.tree.setCurrentItem(chosen or first)
        self._on_selected()

    def _add(self, name: str, entry: ZooEntry) -> None:
        card = entry.card
        factor = str(card.upscale_factor) if card.upscale_factor > 1 else ""
        item = QTreeWidgetItem([name, TASKS[card.task], factor, entry.origin])
        item.setData(0, _NAME, name)
        for column in range(item.columnCount()):
            item.setToolTip(
                column,
                html.escape(f"{card.title}; {TASKS[card.task]}; {entry.location}"),
            )
        self.tree.addTopLevelItem(item)

    def items(self) -> list[QTreeWidgetItem]:
        """Return the rows of the list."""
        return [self.tree.topLevelItem(i) for i in range(self.tree.topLevelItemCount())]

    def chosen(self) -> str:
        """Return the name of the selected model, or of a damaged model's folder."""
        item = self.tree.currentItem()
        return "" if item is None else str(item.data(0, _NAME))

    def choose(self, name: str) -> None:
        """Select a model, even if it is not listed yet."""
        self._choose_next = name
        self._fill()

    def _on_selected(self) -> None:
        name = self.chosen()
        entry = self._entries.get(name)
        damaged = {Path(path).name: why for path, why in self._damaged.items()}
        reason = damaged.get(name, "")
        if entry is not None:
            text = f"<h3>{html.escape(entry.card.title)}</h3>{card_html(entry.card)}"
        else:
            empty = ("No matching model.", "Select a model to read its card.")
            text = html.escape(reason) or empty[bool(self.items())]
        if text != self.card.text():  # keep the position when the list is refreshed
            self.card.setText(text)
            self._card_area.ensureVisible(0, 0)
        self._enable()

    # Operations

    def _enable(self) -> None:
        entry = self._entries.get(self.chosen())
        idle = not self.activity.busy
        is_own = (entry is not None and not entry.bundled) or (
            entry is None and bool(self.chosen())
        )
        self.use_button.setEnabled(entry is not None)
        self.export_button.setEnabled(idle and entry is not None)
        self.generate_button.setEnabled(idle and can_generate(entry))
        self.remove_button.setEnabled(idle and is_own)

    def show_busy(self, what: str) -> None:
        self.stage.setText(what)
        self.cancel_button.setEnabled(bool(what))
        self.bar.progress.setRange(0, 0)
        self.bar.progress.setVisible(bool(what))
        self._enable()

    def _start(
        self,
        make_steps: MakeSteps[T],
        on_result: Callable[[T], None],
        stage: str,
        about: str = "",
    ) -> None:
        self._progress.restart()
        self.activity.start(
            stage,
            make_steps,
            on_result,
            on_step=self._progress.show_step,
            on_error=partial(self._log.add_error, about=about),
        )

    def _on_cancel(self) -> None:
        self._import_queue.clear()
        self.activity.cancel()

    def _on_use(self) -> None:
        entry = self._entries.get(self.chosen())
        if entry is None:
            return
        self._entry_to_use = entry
        open_dock(self._viewer, RESTORE, self._use_in)

    def _use_in(self, restore: Any) -> None:
        entry = self._entry_to_use
        if entry is None:
            return
        try:
            if entry.bundled:
                restore.model_box.set_model(entry.name)
            else:
                restore.use_model(entry.path)
        except GeoSRError as error:
            self.message.show_error(error)

    def _on_import(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(
            self, "Import models", str(Path.home()), _file_filter()
        )
        self.import_models(paths)

    def _on_import_by_name(self) -> None:
        name, accepted = QInputDialog.getText(
            self,
            "From BioImage.IO",
            "Name in the zoo (such as affable-shark), DOI or URL:",
        )
        if accepted and name.strip():
            self.import_models([name.strip()])

    def import_models(self, sources: list[str]) -> None:
        """Import files, folders, URLs or identifiers, in a worker.

        The models are imported one after the other. The failure of one import does not
        stop the others; each outcome is reported.
        """
        if not sources:
            return
        self._import_queue += sources
        if not self.activity.busy:
            self._log.clear()
            self._import_next()

    def _import_next(self) -> None:
        if not self._import_queue:
            return
        source = self._import_queue.pop(0)
        self._start(
            lambda stop: _import_steps(source, stop),
            self._on_imported,
            f"Reading {source}",
            Path(source).name,
        )

    def _on_imported(self, imported: Any) -> None:
        notes = " ".join(self._progress.warnings)
        text = f"{imported.name} was added to your models. {notes}"
        self._log.add(text.strip(), "warning" if notes else "ok")
        self._choose_next = imported.name
        self.refresh()

    def _on_export(self) -> None:
        entry = self._entries.get(self.chosen())
        if entry is None or self.activity.busy:
            return
        known = formats()
        filters = {
            f"{kind.title} (*{kind.suffix})": name for name, kind in known.items()
        }
        path, chosen = QFileDialog.getSaveFileName(
            self,
            "Export model",
            str(Path.home() / f"{entry.name}.zip"),
            ";;".join(filters),
        )
        if not path:
            return
        kind = filters[chosen or next(iter(filters))]
        out = Path(path)
        ending = out.suffix.lower()
        if ending != known[kind].suffix:
            matching = [name for name, other in known.items() if other.suffix == ending]
            if matching:
                kind = matching[0]
            else:
                out = out.with_name(out.name + known[kind].suffix)
        self._log.clear()
        self._start(
            lambda stop: _export_steps(str(entry.path), kind, out, stop),
            self._on_exported,
            f"Exporting {entry.name}",
        )

    def _on_exported(self, exported: Any) -> None:
        notes = " ".join(self._progress.warnings)
        self._log.add(
            f"{exported.path}: on a test patch, its results agree with those of the "
            f"original model to within {exported.difference:.1g} standard deviations. "
            f"{notes}".strip(),
            "warning" if notes else "ok",
        )

    def _on_generate(self) -> None:
        entry = self._entries.get(self.chosen())
        if entry is None or self.activity.busy:
            return
        dialog = GenerateDialog(entry, self)
        dialog.wanted.connect(self._generate)
        dialog.open()

    def _generate(self, request: SampleRequest) -> None:
        self._log.clear()
        self._start(
            request.steps,
            partial(self._on_generated, request),
            f"Generating samples with {request.model}",
        )

    def _on_generated(self, request: SampleRequest, made: Any) -> None:
        show_samples(self._viewer, made[1])
        notes = " ".join(self._progress.warnings)
        self._log.add(
            f"{request.result(made[0])} {notes}".strip(), "warning" if notes else "ok"
        )

    def _on_remove(self) -> None:
        name = self.chosen()
        if not name or self.activity.busy:
            return
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.question(
            self,
            "Remove model",
            f"Delete the model {name}? This cannot be undone.",
            buttons.Yes | buttons.No,
            buttons.No,
        )
        if answer == buttons.Yes:
            self._log.clear()
            self._start(
                lambda _stop: _remove_steps(name), self._on_removed, f"Removing {name}"
            )

    def _on_removed(self, path: Path) -> None:
        self._log.add(f"{path} was removed.", "ok")
        self.refresh()

    # Dropped files

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if _dropped(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        self.import_models(_dropped(event))
        event.acceptProposedAction()


def _dropped(event: QEvent) -> list[str]:
    """Return the dropped files and folders that could be models."""
    paths = [Path(url.toLocalFile()) for url in event.mimeData().urls()]
    known = suffixes()
    return [
        str(path) for path in paths if path.is_dir() or path.suffix.lower() in known
    ]


def _file_filter() -> str:
    """Return the file filter of the import dialog."""
    return f"Models ({' '.join('*' + end for end in suffixes())});;All files (*)"


def _fits(entry: ZooEntry, volume: Volume | None) -> bool:
    return volume is None or catalogue.fit(entry.card, volume).fits


def _list_steps() -> Generator[Step, None, tuple[list[ZooEntry], dict[str, str]]]:
    yield from ()
    return catalogue.scan_folders()


def _remove_steps(name: str) -> Generator[Step, None, Path]:
    yield from ()
    return catalogue.remove(name)


def _import_steps(source: str, stop: ShouldStop) -> Generator[Step, None, ImportResult]:
    load_torch()
    # Imported here, in the worker, because it needs torch.
    from napari_geosr.operations.models.importing import import_steps

    return (yield from import_steps(source, should_stop=stop))


def _export_steps(
    name: str, kind: str, out: Path, stop: ShouldStop
) -> Generator[Step, None, ExportResult]:
    load_torch()
    # The dialog has already asked whether to overwrite an existing file.
    from napari_geosr.operations.models.exporting import export_steps

    return (yield from export_steps(name, kind, out, overwrite=True, should_stop=stop))
