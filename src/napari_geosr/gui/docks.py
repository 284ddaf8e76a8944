"""Frames of the docks in the manifest: quick to import, and filled later."""

from __future__ import annotations

from napari_geosr.gui.kit.frame import DockFrame


class RestoreFrame(DockFrame):
    """Frame of the Restore dock."""

    dock_name = "napari_geosr.gui.restore:RestoreDock"


class SegmentFrame(DockFrame):
    """Frame of the Segment dock."""

    dock_name = "napari_geosr.gui.segment:SegmentDock"


class ShapesFrame(DockFrame):
    """Frame of the Shapes dock."""

    dock_name = "napari_geosr.gui.shapes:ShapesDock"


class TrainFrame(DockFrame):
    """Frame of the Train dock."""

    dock_name = "napari_geosr.gui.train:TrainDock"


class JobsFrame(DockFrame):
    """Frame of the Jobs dock."""

    dock_name = "napari_geosr.gui.jobs:JobsDock"


class ModelsFrame(DockFrame):
    """Frame of the Models dock."""

    dock_name = "napari_geosr.gui.models:ModelsDock"


class PairsFrame(DockFrame):
    """Frame of the Pairs dock."""

    dock_name = "napari_geosr.gui.pairs:PairsDock"


class ReconstructFrame(DockFrame):
    """Frame of the Reconstruct dock."""

    dock_name = "napari_geosr.gui.reconstruct:ReconstructDock"


class PorosityFrame(DockFrame):
    """Frame of the Porosity dock."""

    dock_name = "napari_geosr.gui.porosity:PorosityDock"


class CompareFrame(DockFrame):
    """Frame of the Compare dock."""

    dock_name = "napari_geosr.gui.compare:CompareDock"


class SimFrame(DockFrame):
    """Frame of the SIM dock."""

    dock_name = "napari_geosr.gui.sim:SimDock"
