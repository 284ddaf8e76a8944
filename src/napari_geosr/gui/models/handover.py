"""Pass a job's model to the Restore dock."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import Step
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.dock_tabs import RESTORE
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.operations.models import catalogue

if TYPE_CHECKING:
    import napari.viewer


class ModelHandover(QObject):
    """Adds a model to the user's own models and chooses it in the Restore dock.

    Signals
    -------
    done : str
        What was done, in a sentence.
    failed : object
        The error.
    """

    done = Signal(str)
    failed = Signal(object)

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._activity = Activity(self)
        self._activity.failed.connect(self.failed)
        self._adopted: Path | None = None  # the model that Restore will select

    def use(
        self, bundle: Path, still_needed: Callable[[], bool] = lambda: True
    ) -> None:
        """Copy the bundle in a worker and choose it.

        Parameters
        ----------
        still_needed : callable
            Called after copying; returns whether the model is still to be chosen.
        """
        if self._activity.busy:
            return
        self._activity.start(
            "adopt",
            lambda _stop: _adopt_steps(bundle),
            lambda kept: (
                self._choose(kept) if still_needed() else self._report_added(kept)
            ),
        )

    def _report_added(self, kept: Path) -> None:
        self.done.emit(f"{kept.name} was added to your models in {kept.parent}.")

    def _choose(self, kept: Path) -> None:
        self._adopted = kept
        open_dock(self._viewer, RESTORE, self._choose_in)

    def _choose_in(self, restore: Any) -> None:
        kept = self._adopted
        if kept is None:
            return
        try:
            restore.use_model(kept)
        except GeoSRError as error:
            self.failed.emit(error)
            return
        self.done.emit(
            f"{kept.name} is now selected in the Restore dock. A copy remains among "
            "your "
            f"models in {kept.parent} even if the job is deleted."
        )


def _adopt_steps(bundle: Path) -> Generator[Step, None, Path]:
    yield from ()
    return catalogue.adopt(bundle)
