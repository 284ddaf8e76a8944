"""Copy a run as a command or a script, or describe it for a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtGui import QGuiApplication

from napari_geosr.core.errors import ConfigError
from napari_geosr.gui.jobs.handover import ExpectedRun
from napari_geosr.gui.layers import part_of_file, provenance_of
from napari_geosr.jobs.handover import LayerVolume, StoppedRestoration
from napari_geosr.operations.restore import RestoreConfig, reproduce
from napari_geosr.operations.restore.ranking import NONE

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

    from napari_geosr.gui.jobs.handover import RunHandover


def run_elsewhere(
    layer: Image, viewer: napari.viewer.Viewer, config: RestoreConfig, *, whole: bool
) -> StoppedRestoration:
    """Return the input with which a job can perform a run that has not begun.

    Parameters
    ----------
    layer : Image
    viewer : napari.viewer.Viewer
    config : RestoreConfig
    whole : bool
        Whether all time points and channels are restored.

    Raises
    ------
    GeoSRError
        If no model is chosen, or the layer cannot be read.
    """
    if config.model == NONE:
        raise ConfigError(
            "The scan is left as it is, so there is nothing to run. Choose a model."
        )
    volume, position = part_of_file(layer, viewer, whole=whole)
    named = volume.replace(name=layer.name)
    data = LayerVolume(named, position, whole)
    return StoppedRestoration(
        data, config, known_by_voxels=volume.source is None, look=True
    )


def expect_run(
    handover: RunHandover,
    is_awaited: Callable[[], bool],
    withdraw: Callable[[], None],
    layer: Image,
    viewer: napari.viewer.Viewer,
    config: RestoreConfig,
    *,
    whole: bool,
) -> None:
    """Let a run that waits for its preparation become a job if napari closes.

    Parameters
    ----------
    handover : RunHandover
    is_awaited, withdraw : callable
        As in `ExpectedRun`.
    layer : Image
    viewer : napari.viewer.Viewer
    config : RestoreConfig
    whole : bool
        Whether all time points and channels are restored.
    """
    handover.expect(
        f"Restoring {layer.name}",
        lambda: run_elsewhere(layer, viewer, config, whole=whole),
        ExpectedRun(is_awaited, withdraw),
    )


def copy_run(
    kind: str,
    layer: Image,
    viewer: napari.viewer.Viewer,
    config: RestoreConfig,
    result: Image | None,
    *,
    whole: bool,
) -> str:
    """Copy a run as text, and return a message.

    Parameters
    ----------
    kind : str
        ``"command"`` or ``"Python script"``.
    layer : Image
    viewer : napari.viewer.Viewer
    config : RestoreConfig
    result : Image or None
        Result of the run, if any; the text names the backend that produced it.
    whole : bool
        Whether all time points and channels are restored.

    Raises
    ------
    GeoSRError
        If the layer cannot be read, or the settings cannot be expressed as text.
    """
    make: Callable[..., str] = reproduce.as_python
    if kind == "command":
        make = reproduce.as_command
    provenance = () if result is None else provenance_of(result)
    config = reproduce.with_backend_of_run(config, provenance)
    volume, part = part_of_file(layer, viewer, whole=whole)
    QGuiApplication.clipboard().setText(make(volume, config, **part))
    message = f"The {kind} was copied to the clipboard."
    if volume.source is None:
        message += (
            f" {layer.name!r} has not been saved to a file. Save it first ('Save "
            "result…', or File ▸ Save Selected Layers as .ome.tif) and put its path "
            "into the copied command."
        )
    return message
