"""Generate samples from a diffusion model, and show them in distinctive colours."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_geosr import io
from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.gui.kit.form import ConfigForm, show_in_fields
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.placeholder import show_placeholder
from napari_geosr.gui.kit.warm_up import load_torch
from napari_geosr.gui.kit.widgets import (
    FolderRow,
    add_row,
    form_layout,
    small_button,
    text_label,
)
from napari_geosr.gui.layers import add_image_result
from napari_geosr.operations import generate as generation
from napari_geosr.operations.generate.config import GenerateConfig
from napari_geosr.operations.inputs import open_volume

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.generate import GeneratedSamples
    from napari_geosr.operations.models.catalogue import ModelCard, ZooEntry

#: Colours of generated layers, which differ from those of scans.
_COLORMAP = "bop orange"
#: Maximum number of samples that are shown as layers.
_MAX_LAYERS = 8
#: Number of columns of the grid in which samples are laid out.
_COLUMNS = 4
#: Gap between samples, as a fraction of their edge.
_GAP = 0.1
#: Settings for models that are conditioned on porosity.
_POROSITY_FIELDS = ("porosity", "guidance")


def can_generate(entry: ZooEntry | None) -> bool:
    """Whether a model draws samples: a diffusion model for slices or volumes."""
    return (
        entry is not None
        and entry.card.task == "generate"
        and entry.card.adjacent_slices == 1
    )


@dataclass(frozen=True)
class SampleRequest:
    """Samples to be drawn.

    Attributes
    ----------
    model : str
        Name of the model.
    path : Path
        Path of the model's bundle.
    config : GenerateConfig
    folder : Path
        Folder for the samples.
    training_images : tuple of Path
        Images with which the samples are compared.
    """

    model: str
    path: Path
    config: GenerateConfig
    folder: Path
    training_images: tuple[Path, ...] = ()

    def steps(
        self, should_stop: ShouldStop
    ) -> Generator[Step, None, tuple[GeneratedSamples, list[Volume]]]:
        """Draw and write the samples, and read the first of them."""
        load_torch()
        made = yield from generation.generate_steps(
            str(self.path),
            self.folder,
            self.config,
            training_images=[open_volume(path) for path in self.training_images],
            should_stop=should_stop,
        )
        return made, [io.read(path) for path in made.files[:_MAX_LAYERS]]

    def result(self, made: GeneratedSamples) -> str:
        """Describe the number, porosity and similarity of the samples in sentences."""
        text = f"Wrote {len(made.files)} generated samples to {self.folder}."
        if made.porosities:
            mean = sum(made.porosities) / len(made.porosities)
            text += f" Mean porosity: {mean:.3f}."
        if made.limit is not None:
            text += (
                " Similarity to the training images: at most "
                f"{max(made.similarities):.2f} (limit for copies: {made.limit:.2f})."
            )
        if (n := len(made.files)) > _MAX_LAYERS:
            text += f" {_MAX_LAYERS} of {n} are shown."
        return text


class GenerateDialog(QDialog):
    """Asks how many samples of a model to draw, and where to write them.

    Parameters
    ----------
    entry : ZooEntry
        The model.
    parent : QWidget

    Signals
    -------
    wanted : SampleRequest
        Emitted if the user confirms and the settings are valid.
    """

    wanted = Signal(object)

    def __init__(self, entry: ZooEntry, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._entry, card = entry, entry.card
        self.setWindowTitle(f"Generate samples with {card.name}")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        skip = () if card.porosity_condition is not None else _POROSITY_FIELDS
        self.form = ConfigForm(GenerateConfig, skip=skip)
        self.images = QLineEdit()
        self.images.setAccessibleName("Training images")
        show_placeholder(self.images, "recommended: finds copies")
        self.images.setToolTip(
            "Images or volumes on which the model was trained, separated by "
            "semicolons. Samples are compared with them; if more than 1 % are copies, "
            "no samples are kept."
        )
        self.images_button = small_button(
            "…", "Choose training images", "Choose the training images", "Alt+Shift+I"
        )
        self.folder = FolderRow("generated")
        self.folder.setToolTip("Folder for the samples.")
        self.folder.setAccessibleName("Folder")
        self.message = MessageRow()
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.start_button = self.buttons.addButton(
            "Generate", QDialogButtonBox.ButtonRole.AcceptRole
        )
        self.start_button.setToolTip("Draw the samples and write them to the folder.")
        self._lay_out(card)
        self.images_button.clicked.connect(self._on_choose)
        self.buttons.accepted.connect(self._on_start)
        self.buttons.rejected.connect(self.reject)

    def _lay_out(self, card: ModelCard) -> None:
        column = QVBoxLayout(self)
        text = "Samples resemble the training data, but are not measurements."
        if (trained := card.porosity_condition) is not None:
            text += f" Porosity: {trained.low:g} to {trained.high:g}."
        column.addWidget(text_label("About samples", "Note on the samples.", text))
        column.addWidget(self.form)
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.images, 1)
        line.addWidget(self.images_button)
        rows = form_layout()
        add_row(rows, "Training &images", row)
        add_row(rows, "&Folder", self.folder)
        column.addLayout(rows)
        column.addWidget(self.message)
        column.addWidget(self.buttons)
        self.resize(420, self.sizeHint().height())

    def training_images(self) -> tuple[Path, ...]:
        """Return the files entered as training images."""
        names = (name.strip() for name in self.images.text().split(";"))
        return tuple(Path(name) for name in names if name)

    def _on_choose(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Training images")
        if paths:
            self.images.setText("; ".join(paths))

    def _on_start(self) -> None:
        self.message.clear()
        try:
            config = GenerateConfig.create(**self.form.values())
        except GeoSRError as error:
            if not show_in_fields(error, [self.form]):
                self.message.show_error(error)
            return
        entry, images = self._entry, self.training_images()
        self.wanted.emit(
            SampleRequest(entry.name, entry.path, config, self.folder.path, images)
        )
        self.accept()


def show_samples(viewer: ViewerModel, samples: list[Volume]) -> None:
    """Add the samples as layers next to each other, with a distinctive colormap."""
    for i, volume in enumerate(samples):
        place = [0.0] * volume.ndim
        for axis, number in ((-2, i // _COLUMNS), (-1, i % _COLUMNS)):
            edge = volume.shape[axis] * volume.voxel_size[axis]
            place[axis] = number * edge * (1 + _GAP)
        add_image_result(
            viewer, volume, None, colormap=_COLORMAP, translate=tuple(place)
        )
