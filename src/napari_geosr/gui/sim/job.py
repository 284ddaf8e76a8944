"""Describe a run of the *SIM* dock as a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.gui.layers import part_of_file
from napari_geosr.gui.sim.steps import FoundPatterns
from napari_geosr.jobs.handover import LayerVolume
from napari_geosr.jobs.stopped.sim import StoppedSim
from napari_geosr.operations.sim import SimConfig

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image


def as_job(
    viewer: napari.viewer.Viewer,
    layer: Image,
    config: SimConfig,
    found: FoundPatterns | None,
) -> StoppedSim:
    """Return a run as a job for another process.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : Image
        The raw frames.
    config : SimConfig
    found : FoundPatterns or None
        Patterns on screen.
    """
    volume, position = part_of_file(layer, viewer, whole=True)
    data = LayerVolume(volume.replace(name=layer.name), position, whole=True)
    patterns = near = None
    if found is not None and found.is_single:
        patterns = found.estimate.patterns
    elif found is not None:
        near = found.corrected
    return StoppedSim(data, config, patterns, near)
