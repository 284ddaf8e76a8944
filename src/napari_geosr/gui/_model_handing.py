"""From a job's model to the Restore dock."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_geosr.core.errors import GeoSRError, ModelError
from napari_geosr.core.steps import ResultReady, Step
from napari_geosr.gui._docks import RESTORE, open_dock
from napari_geosr.gui._worker import Run
from napari_geosr.operations import catalogue

if TYPE_CHECKING:
    import napari.viewer


class ModelHanding(QObject):
    """Keeps a model among the person's own and chooses it in the Restore dock.

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
        self._run: Run | None = None

    def use(self, bundle: Path) -> None:
        """Keep the bundle and choose it; a copy is made in a worker."""
        if self._run is not None:
            return
        self._run = Run(
            lambda _stop: _adopt_steps(bundle),
            owner=self,
            on_result=self._choose,
            on_error=self.failed.emit,
            on_finished=self._on_finished,
        )

    def _on_finished(self) -> None:
        self._run = None

    def _choose(self, kept: Path) -> None:
        restore = open_dock(self._viewer, RESTORE)
        try:
            restore.use_model(kept)
        except GeoSRError as error:
            self.failed.emit(error)
            return
        self.done.emit(
            f"{kept.name} is chosen in the Restore dock. A copy is kept among your "
            f"models in {kept.parent}, also if the job is removed."
        )


def _adopt_steps(bundle: Path) -> Generator[Step, None, None]:
    yield ResultReady(result=catalogue.adopt(bundle))


_DISTANCES = {
    "grey_level_distance": "Distance of grey levels",
    "spectrum_distance": "Distance of spectra",
}


def figures_of(bundle: Path) -> str:
    """What the card of a model just trained says, in a few lines."""
    try:
        card = catalogue.find(bundle).card
    except ModelError as error:
        return str(error)
    lines = []
    known = [row for row in card.figures if row.psnr is not None]
    rows = [row for row in known if row.test_set == known[0].test_set]
    if rows:
        shown = ", ".join(f"{row.method} {row.psnr:.1f} dB" for row in rows)
        lines.append(f"PSNR on the {rows[0].test_set}: {shown}.")
    if overlaps := [row for row in card.figures if row.dice is not None and not known]:
        shown = ", ".join(f"{row.method} {row.dice:.3f}" for row in overlaps)
        lines.append(f"Mean Dice on the {overlaps[0].test_set}: {shown}.")
    for key, what in _DISTANCES.items():
        found = [row for row in card.figures if getattr(row, key) is not None]
        if found:
            shown = ", ".join(f"{row.method} {getattr(row, key):.3f}" for row in found)
            lines.append(f"{what}, {found[0].test_set}: {shown}.")
    training = card.provenance.get("training", {})
    seconds = training.get("seconds")
    energy, carbon = (training.get(k) for k in ("kilowatt_hours", "kilograms_co2eq"))
    if seconds is not None and energy is not None and carbon is not None:
        lines.append(
            f"It took {seconds:.0f} s, {1000 * energy:.3g} Wh and "
            f"{1000 * carbon:.2g} g of CO₂eq."
        )
    return "\n".join(lines)
