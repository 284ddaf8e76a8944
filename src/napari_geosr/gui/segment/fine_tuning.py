"""Fill the Train dock with the scan and labels of the Segment dock."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers.data_row import DataRow
from napari_geosr.gui.train import scenarios
from napari_geosr.gui.train.method_settings import tune_steps
from napari_geosr.operations.segment import painted_classes
from napari_geosr.operations.train import config_class
from napari_geosr.operations.train.fine_tune import NETWORK_FIELDS

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_geosr.gui.train import TrainDock

#: Method that learns from a few painted slices.
_METHOD = "ptdr"


def read_settings_steps(
    painted: Volume, model: str | None, should_stop: ShouldStop
) -> Generator[Step, None, AnyDict]:
    """Find the settings for training on painted labels; call it in a worker.

    Parameters
    ----------
    painted : Volume
        Labels with the classes 1, 2 and so on; 0 means unpainted.
    model : str, optional
        Name or folder of the model to start from.
    should_stop : callable

    Raises
    ------
    VolumeError
        If fewer than two classes are painted.
    ModelError
        If the model does not exist.
    """
    yield StageStarted(message="Reading the painted labels")
    classes = painted_classes(painted, should_stop)
    if model is None:  # reset what an earlier fine-tuning may have set
        defaults = config_class(_METHOD)().model_dump()
        fields = {"from_model", "learning_rate", *NETWORK_FIELDS}
        settings = {name: defaults[name] for name in fields & defaults.keys()}
    else:
        settings = yield from tune_steps(model, _METHOD)
    return settings | {"unpainted": 0, "classes": max(classes)}


def fill_train_dock(
    dock: TrainDock, scan: Image, strokes: Labels, settings: AnyDict
) -> None:
    """Choose the method, data and settings of a training run in the Train dock."""
    if dock.activity.busy:
        dock.message.show_message(
            "Preparation is still running. Wait, or cancel it; then press Fine-tune in "
            "the Segment dock again."
        )
        return
    known = scenarios.training_scenarios()
    index = scenarios.find(known, _METHOD)
    dock.have.setCurrentIndex(index)
    dock.method.setCurrentText(_METHOD)
    dock.settings.adopt(settings)
    rows = {row.name: row for row in dock.findChildren(DataRow)}
    for name, layer in zip(known[index].names, (scan, strokes), strict=True):
        rows[name].combo.set_layer(layer)
        rows[name].touched = True
    dock.message.show_message(
        "The scan and the painted labels have been selected. Check the settings, "
        "then press Start."
    )
