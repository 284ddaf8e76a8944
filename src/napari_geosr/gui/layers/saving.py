"""A button that saves a result with all of its layer's metadata.

napari's own dialog prefers napari's TIFF writer, which saves only the voxels.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QMessageBox, QPushButton, QWidget

from napari_geosr import io
from napari_geosr.core.errors import FileError, GeoSRError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.writers import volume_from_data
from napari_geosr.io.formats import WritableFileFormat, formats, write_suffixes
from napari_geosr.io.suffixes import suffix_of
from napari_geosr.operations.restore import deviation_path

if TYPE_CHECKING:
    from napari.layers import Layer

#: File filters of the dialog and their suffixes, the default filter first.
FILTERS = {
    f"{name} ({' '.join(f'*{suffix}' for suffix in suffixes)})": suffixes
    for each in formats()
    if isinstance(each, WritableFileFormat)
    for name, suffixes in each.file_types.items()
}
_DEFAULT_FILTER = next(iter(FILTERS))


class SaveButton(QPushButton):
    """Saves a layer in a worker; hidden while no layer is set.

    Signals
    -------
    saved : object
        The path written.
    failed : object
        The error that prevented saving.
    """

    saved = Signal(object)
    failed = Signal(object)

    def __init__(self, text: str, parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setToolTip(
            "Save the restored layer with voxel size, unit, origin and a record of "
            "how it was made."
        )
        self.setAccessibleName(text.replace("&", "").removesuffix("…"))
        self._layer: weakref.ref[Layer] | None = None
        self._deviation: weakref.ref[Layer] | None = None
        self._source: Path | None = None
        self.activity = Activity(self)
        self.activity.failed.connect(self.failed)
        self.activity.busyChanged.connect(lambda what: self.setEnabled(not what))
        self.clicked.connect(self.save)
        self.setVisible(False)

    def set_layer(
        self,
        layer: Layer | None,
        source: Path | None = None,
        deviation: Layer | None = None,
    ) -> None:
        """Offer to save `layer`; `source` is the file from which it was made, if any.

        The layer `deviation`, if given, is saved next to it.
        """
        self._layer = None if layer is None else weakref.ref(layer)
        self._deviation = None if deviation is None else weakref.ref(deviation)
        self._source = source
        self.setVisible(layer is not None)

    def save(self) -> None:
        """Ask for the destination, then write; one file at a time."""
        layer = None if self._layer is None else self._layer()
        if layer is None or self.activity.busy:
            return
        folder = None if self._source is None else self._source.parent
        target = ask_save_path(self, layer.name, folder)
        if target is None:
            return
        layers = {target: layer}
        deviation = None if self._deviation is None else self._deviation()
        if deviation is not None:
            layers[deviation_path(target)] = deviation
            path = deviation_path(target)
            if path.exists() and not confirm_overwrite(self, path.parent, [path.name]):
                return
        try:
            volumes = {path: _volume(each) for path, each in layers.items()}
            for path in layers:
                _refuse_source(path, self._source)
        except GeoSRError as error:
            self.failed.emit(error)
            return
        self.activity.start(
            "save",
            _steps(volumes, target),
            self.saved.emit,
            description=f"Saving {target.name}",
        )


def _volume(layer: Layer) -> tuple[Volume, str]:
    """Return the layer's volume, and ``"labels"`` or ``"image"``."""
    data, attributes, kind = layer.as_layer_data_tuple()
    return volume_from_data(data, attributes), (
        "labels" if kind == "labels" else "image"
    )


def _steps(
    volumes: dict[Path, tuple[Volume, str]], target: Path
) -> Callable[[ShouldStop], Generator[Step, None, Path]]:
    def steps(should_stop: ShouldStop) -> Generator[Step, None, Path]:
        """Write the volumes."""
        for path, (volume, kind) in volumes.items():
            yield StageStarted(message=f"Saving {path.name}")
            # The dialog has already asked whether to overwrite existing files.
            io.write(volume, path, overwrite=True, kind=kind, should_stop=should_stop)
        return target

    return steps


def ask_save_path(parent: QWidget, name: str, folder: Path | None) -> Path | None:
    """Ask for the file to save a layer in; None if the user cancels.

    A name without a supported suffix gets that of the chosen format. The suffix of
    another format is replaced, unless the default format is chosen.
    """
    start = re.sub(r"[^\w.-]+", "_", name).strip("_") + FILTERS[_DEFAULT_FILTER][0]
    text, chosen = QFileDialog.getSaveFileName(
        parent,
        "Save result as…",
        start if folder is None else str(folder / start),
        ";;".join(FILTERS),
        _DEFAULT_FILTER,
    )
    if not text:
        return None
    given = Path(text)
    target = with_suffix_of(given, chosen)
    # The dialog has only asked about the name that was entered.
    replaces = target != given and target.exists()
    if replaces and not confirm_overwrite(parent, target.parent, [target.name]):
        return None
    return target


def with_suffix_of(path: Path, chosen: str) -> Path:
    """Return `path` with a suffix of the filter `chosen`; see `ask_save_path`."""
    suffixes = FILTERS.get(chosen, FILTERS[_DEFAULT_FILTER])
    suffix = suffix_of(path)
    known = suffix in write_suffixes()
    if suffix in suffixes or (known and suffixes == FILTERS[_DEFAULT_FILTER]):
        return path
    stem = path.name[: -len(suffix)] if known else path.name
    return path.with_name(stem + suffixes[0])


def _refuse_source(target: Path, source: Path | None) -> None:
    """Raise an error if `target` would overwrite the scan that was restored."""
    if source is None:
        return
    scan, resolved = source.resolve(), target.resolve()
    if resolved == scan or scan in resolved.parents:
        raise FileError(
            f"{target} is the image that was restored, or lies inside it, and must not "
            "be overwritten. Choose another name or folder for the result."
        )


def confirm_overwrite(parent: QWidget, folder: Path, names: list[str]) -> bool:
    """Ask whether to overwrite these files; the default answer is no."""
    box = QMessageBox.StandardButton
    answer = QMessageBox.question(
        parent,
        "Replace files?",
        f"{folder} already contains:\n" + "\n".join(names) + "\n\nReplace them?",
        box.Yes | box.No,
        box.No,
    )
    return bool(answer == box.Yes)
