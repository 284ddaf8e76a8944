"""Describe a run of the *Segment* dock as a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.gui.layers import part_of_file
from napari_geosr.jobs.handover import LayerVolume
from napari_geosr.jobs.stopped.segmentation import StoppedSegmentation
from napari_geosr.operations.segment import SegmentConfig

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

    from napari_geosr.core.volume import Volume


def as_job(
    viewer: napari.viewer.Viewer,
    scan: Image,
    strokes: Volume,
    config: SegmentConfig,
    *,
    keeps_probabilities: bool,
) -> StoppedSegmentation:
    """Return a run as a job for another process.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    scan : Image
        Layer of the scan.
    strokes : Volume
        Painted classes, placed along the axes of the scan.
    config : SegmentConfig
    keeps_probabilities : bool
        Whether the job also writes the probability of each class.
    """
    volume, position = part_of_file(scan, viewer)
    return StoppedSegmentation(
        LayerVolume(volume.replace(name=scan.name), position),
        # The strokes are written into the job: their layer may have been painted on.
        LayerVolume(strokes.replace(source=None)),
        config,
        keeps_probabilities,
    )
