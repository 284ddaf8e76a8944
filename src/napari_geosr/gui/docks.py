"""The docks as the manifest names them: light to import, filled in a moment later."""

from __future__ import annotations

from napari_geosr.gui.kit.frame import DockFrame


class RestoreFrame(DockFrame):
    """The place of the Restore dock."""

    dock_name = "napari_geosr.gui.restore:RestoreDock"


class TrainFrame(DockFrame):
    """The place of the Train dock."""

    dock_name = "napari_geosr.gui.train:TrainDock"


class JobsFrame(DockFrame):
    """The place of the Jobs dock."""

    dock_name = "napari_geosr.gui.jobs:JobsDock"


class ModelsFrame(DockFrame):
    """The place of the Models dock."""

    dock_name = "napari_geosr.gui.models:ModelsDock"


class PairsFrame(DockFrame):
    """The place of the Pairs dock."""

    dock_name = "napari_geosr.gui.pairs:PairsDock"


class ReconstructFrame(DockFrame):
    """The place of the Reconstruct dock."""

    dock_name = "napari_geosr.gui.reconstruct:ReconstructDock"


class PorosityFrame(DockFrame):
    """The place of the Porosity dock."""

    dock_name = "napari_geosr.gui.porosity:PorosityDock"


class CompareFrame(DockFrame):
    """The place of the Compare dock."""

    dock_name = "napari_geosr.gui.compare:CompareDock"
