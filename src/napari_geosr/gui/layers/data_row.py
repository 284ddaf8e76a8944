"""The row of a form that selects training data for one role: layers or files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.widgets import (
    ElidedLabel,
    add_row,
    text_label,
)
from napari_geosr.gui.layers import (
    chosen_position,
    finest,
    is_difference,
    is_helper,
    volume_from_layer,
)
from napari_geosr.gui.layers.combo import LayerCombo
from napari_geosr.gui.layers.contents import contents_key
from napari_geosr.gui.layers.geometry import (
    check_same_rotation,
    geometry_of_layer,
    origin_along,
)
from napari_geosr.gui.layers.questions.frames import FramesRow
from napari_geosr.gui.layers.questions.notes import NotesRow
from napari_geosr.gui.layers.voxel_size import VoxelSizeRow

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer

FROM_FILES, SELECTED = "From files…", "All layers selected in the list"


class _Questions(QWidget):
    """A column of widgets; it leaves no gap while all of them are hidden."""

    def __init__(self, *widgets: QWidget) -> None:
        super().__init__()
        self._widgets = widgets
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in widgets:
            column.addWidget(widget)
            widget.installEventFilter(self)
        self.fit()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Update the layout when one of the widgets is shown or hidden."""
        if event.type() in (QEvent.Type.ShowToParent, QEvent.Type.HideToParent):
            self.fit()
        return bool(super().eventFilter(watched, event))

    def fit(self) -> None:
        """Hide the column, or show it if one of its widgets is to be shown."""
        is_empty = all(widget.isHidden() for widget in self._widgets)
        # A row without a parent would be shown as a window; its layout shows it later.
        if is_empty or self.parentWidget() is not None:
            self.setVisible(not is_empty)


class DataRow(QWidget):
    """A choice of one layer, of several selected layers, or of files.

    Parameters
    ----------
    keys : tuple of str
        Shortcut letters for choosing files and a folder.
    several : bool
        Whether all layers selected in napari's list can be chosen at once.
    labels : bool
        Whether labels are expected; an image that contains labels is accepted.

    Signals
    -------
    changed
        The choice has changed.
    """

    changed = Signal()

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        name: str,
        *,
        keys: tuple[str, str],
        several: bool = False,
        labels: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self.name = viewer, name
        self._files: tuple[Path, ...] = ()
        self.touched = False
        #: Row of the layer that defines the axes for positions.
        self.partner: DataRow | None = None
        self.takes_several = several
        self.takes_labels = labels
        fixed = (FROM_FILES, SELECTED) if several else (FROM_FILES,)
        self.combo = LayerCombo(viewer, self.accepts, fixed=fixed)
        self.combo.setAccessibleName(name)
        self.combo.setToolTip(f"{name}: an open layer, files, or folders of slices.")
        self.label = ElidedLabel("")
        self.label.setAccessibleName(f"Files for {name}")
        files, folder = keys
        self.files_button = _small_button(
            "Files…", f"Choose the files for “{name}” (Alt+Shift+{files}).", files
        )
        self.folder_button = _small_button(
            "Folder…",
            f"Choose a folder of slices or an OME-Zarr for “{name}” "
            f"(Alt+Shift+{folder}).",
            folder,
        )
        self._file_part = QWidget()
        row = QHBoxLayout(self._file_part)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.label, 1)
        self.label.hide()  # until files are chosen
        row.addWidget(self.files_button)
        row.addWidget(self.folder_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.combo)
        column.addWidget(self._file_part)
        self.part = text_label(
            f"Part of {name}",
            "Move the viewer's sliders to train on another part.",
        )
        column.addWidget(self.part)
        self.voxel_size = VoxelSizeRow(viewer, key=f"Ctrl+Alt+{folder}")
        answers = f"Ctrl+Alt+Shift+{files}", f"Ctrl+Alt+Shift+{folder}"
        self.frames = FramesRow(keys=answers)
        self.notes = NotesRow(self.voxel_size, self.frames, key=f"Ctrl+Alt+{files}")
        #: Notes on the file and questions about it, for a full-width row below.
        self.questions = _Questions(self.notes, self.voxel_size, self.frames)
        self.voxel_size.voxelSizeSet.connect(lambda _layer: self.changed.emit())
        self.frames.answered.connect(lambda _layer: self._on_chosen())
        self._connections = Connections(self)
        self._connections.connect(viewer.dims.events.point, self._show_part)
        if several:
            selection = viewer.layers.selection.events
            self._connections.connect(selection.changed, self._show_part)
        self._of_layer = Connections(self)
        self.combo.layerChanged.connect(self._on_chosen)
        self.combo.activated.connect(self._on_touched)
        self.files_button.clicked.connect(self._ask_files)
        self.folder_button.clicked.connect(self._ask_folder)
        self._on_chosen()

    def layer(self) -> Image | None:
        """Return the layer chosen; None for files or several layers."""
        return self.combo.layer()

    def accepts(self, layer: Layer) -> bool:
        """Whether a layer can be chosen here."""
        return is_training_image(layer) or (self.takes_labels and is_labels(layer))

    def is_empty(self) -> bool:
        """Whether neither a layer nor a file is chosen."""
        return self.combo.fixed_entry() == FROM_FILES and not self._files

    def first_name(self) -> str:
        """Return the name of the first file or layer chosen; empty if there is none."""
        if self.combo.fixed_entry() == FROM_FILES:
            return self._files[0].name if self._files else ""
        layers = self._layers()
        return str(layers[0].name) if layers else ""

    def set_files(self, files: tuple[Path, ...]) -> None:
        """Choose files."""
        self._files = files
        self.touched = True
        names = ", ".join(path.name for path in files)
        self.label.setText(names)
        self.label.setVisible(bool(names))
        self.label.setToolTip("\n".join(map(str, files)))
        self.combo.setCurrentIndex(0)
        self.changed.emit()

    def identity(self) -> Any:
        """Return a key that changes with the choice, the voxels and the positions."""
        if self.combo.fixed_entry() == FROM_FILES:
            return self._files
        return tuple(
            (contents_key(layer), layer.extent.world.tobytes())
            for layer in self._layers()
        )

    def parts(self) -> tuple[Path | Volume, ...]:
        """Return the choice: paths, or volumes of layers.

        Raises
        ------
        GeoSRError
            If nothing is chosen, or a layer cannot be read.
        """
        if self.combo.fixed_entry() == FROM_FILES:
            if not self._files:
                raise ConfigError(f"{self.name}: choose a layer or a file.")
            return self._files
        layers = self._layers()
        if not layers:
            raise ConfigError(
                f"{self.name}: choose a layer, or select layers in the list."
            )
        return tuple(self._volume(layer) for layer in layers)

    def _volume(self, layer: Layer) -> Volume:
        volume = volume_from_layer(layer, self._viewer)
        other = self.partner.layer() if self.partner is not None else None
        if other is None or other is layer:
            return volume
        return volume.replace(origin=origin_along(layer, other))

    def _layers(self) -> list[Any]:
        """Return the layer chosen, or those selected in the list."""
        if self.combo.fixed_entry() == SELECTED:
            selected = self._viewer.layers.selection
            return [
                layer
                for layer in self._viewer.layers
                if layer in selected and is_training_image(layer)
            ]
        layer = self.layer()
        return [] if layer is None else [layer]

    def _show_part(self, _event: object = None) -> None:
        """Show which time point and channel are used, if there are several."""
        parts = [(la.name, part_on_screen(la, self._viewer)) for la in self._layers()]
        self.part.setText(
            "\n".join(
                f"Only {part} of {name!r} is used, as shown in the viewer."
                for name, part in parts
                if part
            )
        )
        self.part.setVisible(bool(self.part.text()))

    def _on_touched(self, _index: int) -> None:
        self.touched = True

    def _on_chosen(self) -> None:
        self._file_part.setVisible(self.combo.fixed_entry() == FROM_FILES)
        _activate_layouts(self)
        self.voxel_size.set_layer(None)
        self.frames.set_layer(None)
        self.notes.set_layer(self.layer())
        self._show_part()
        self._of_layer.end()
        if (layer := self.layer()) is not None:
            for event in ("translate", "scale", "rotate", "shear", "affine"):
                self._of_layer.connect(getattr(layer.events, event), self._on_moved)
        self.changed.emit()

    def _on_moved(self, _event: object) -> None:
        self.changed.emit()

    def _ask_files(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, self.name)
        if paths:
            self.set_files(tuple(map(Path, paths)))

    def _ask_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, self.name)
        if path:
            self.set_files((Path(path),))


def _activate_layouts(widget: QWidget) -> None:
    """Lay out a widget and its parents at once, after a part of it was shown or hidden.

    Otherwise, each level is laid out in a later event, and the gap that a hidden part
    leaves is visible for as long as the event loop is busy.
    """
    part: QWidget | None = widget
    while part is not None and not part.isWindow():
        if (layout := part.layout()) is not None:
            layout.activate()
        part = part.parentWidget()


def add_data_row(form: QFormLayout, title: str, row: DataRow) -> None:
    """Add a row to a form and, below it, notes on its file in a full-width row."""
    add_row(form, title, row, row.combo)
    form.addRow(row.questions)


def suggest(rows: list[DataRow], viewer: napari.viewer.Viewer) -> None:
    """Choose a different layer for each row that the user has not changed.

    The first row gets the selected layer if it is suitable for training. Each other row
    gets a layer that can show the same object, unless the rows take unpaired volumes. A
    row for labels prefers a labels layer. Visible layers come first, and
    replace hidden ones that were suggested because no other was visible.
    """
    is_paired = not any(row.takes_several for row in rows)
    for row in rows:
        # Choose the selected layers: a single layer would be rejected, because this row
        # needs several volumes.
        if not row.touched and row.takes_several and len(rows) == 1:
            row.combo.setCurrentText(SELECTED)
            return
    for row in rows:
        marked = [la for la in viewer.layers if row.takes_labels and is_labels(la)]
        if marked and not row.touched and row.layer() not in marked:
            row.combo.set_layer(marked[0])
    layers: list[Any] = [la for la in viewer.layers if is_training_image(la)]
    # Suggest visible layers first, and of these the layer selected by the user.
    active = viewer.layers.selection.active
    layers.sort(key=lambda layer: (not layer.visible, layer is not active))
    free = [layer for layer in layers if layer not in [row.layer() for row in rows]]
    taken = [row.layer() for row in rows if row.touched]
    for row in rows:
        if row.touched:
            continue
        first = rows[0].layer() if is_paired and row is not rows[0] else None
        before = row.layer()
        fitting = [layer for layer in free if _may_match(layer, first)]
        is_taken = before is None or before in taken
        is_hidden = row.combo.is_stopgap and any(layer.visible for layer in fitting)
        if is_taken or is_hidden or not _may_match(before, first):
            if fitting:
                row.combo.propose_layer(fitting[0])
                free.remove(fitting[0])
                if before is not None and before not in taken:
                    free.append(before)  # the next row may need it
            elif row.layer() is not None:
                row.combo.set_layer(None)
        taken.append(row.layer())


def _may_match(layer: Layer | None, first: Layer | None) -> bool:
    """Whether two layers may show one object: equal shapes, or an integer ratio."""
    if layer is None or first is None:
        return True
    shapes = [_spatial_shape(each) for each in (layer, first)]
    if len(shapes[0]) != len(shapes[1]):
        return False
    factors = {max(a, b) / min(a, b) for a, b in zip(*shapes, strict=True) if a != b}
    # Some axes may be equal: a 2D network does not change the number of slices.
    return len(factors) == 0 or (len(factors) == 1 and factors.pop().is_integer())


def _spatial_shape(layer: Layer) -> tuple[int, ...]:
    """Return the shape along Z, Y and X; the whole shape if the axes are unknown."""
    shape = tuple(finest(layer).shape)
    try:
        axes = geometry_of_layer(layer).axes
    except VolumeError:
        return shape
    return tuple(n for n, axis in zip(shape, axes, strict=False) if axis in "ZYX")


def check_layers(rows: list[DataRow]) -> None:
    """Check that the layers chosen in the rows of a form can be used together.

    Raises
    ------
    ConfigError
        If two rows have the same layer.
    VolumeError
        If paired layers are rotated, sheared or mirrored relative to each other.
    """
    layers = [layer for row in rows if (layer := row.layer()) is not None]
    if len(set(map(id, layers))) < len(layers):
        names = " and ".join(row.name.lower() for row in rows)
        raise ConfigError(f"Choose two different layers as {names}.")
    if not any(row.takes_several for row in rows):
        for layer in layers[1:]:
            check_same_rotation(layer, layers[0])


def names_of_empty_rows(rows: list[DataRow]) -> list[str]:
    """Return the names of the rows for which nothing is chosen."""
    return [row.name for row in rows if row.is_empty()]


def is_training_image(layer: Layer) -> bool:
    """Whether a layer is an image for training, not a helper or a difference."""
    from napari.layers import Image

    return isinstance(layer, Image) and not (is_helper(layer) or is_difference(layer))


def is_labels(layer: Layer) -> bool:
    """Whether a layer holds a user's labels."""
    from napari.layers import Labels

    return isinstance(layer, Labels) and not is_helper(layer)


def part_on_screen(layer: Layer, viewer: napari.viewer.Viewer) -> str:
    """Describe the time point and channel on screen, where there are several.

    `volume_from_layer` takes the same time point and channel.
    """
    if getattr(layer, "rgb", False):
        return ""
    try:
        axes, position = geometry_of_layer(layer).axes, chosen_position(layer, viewer)
    except VolumeError:
        return ""  # reported when the layer is read
    sizes = dict(zip(axes, finest(layer).shape, strict=True))
    parts = []
    for letter, word, title in (
        ("T", "time", "time point"),
        ("C", "channel", "channel"),
    ):
        if sizes.get(letter, 1) > 1:
            last = sizes[letter] - 1
            parts.append(f"{title} {position[word]} (of 0 … {last})")
    return " and ".join(parts)


def _small_button(text: str, tool_tip: str, key: str) -> QPushButton:
    button = QPushButton(text)
    button.setShortcut(f"Alt+Shift+{key}")
    button.setAccessibleName(tool_tip.split(" (")[0])
    button.setToolTip(tool_tip)
    button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return button
