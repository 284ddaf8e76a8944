"""The docks as the manifest names them: light to import, filled in a moment later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.gui.kit.frame import DockFrame

if TYPE_CHECKING:
    from napari_geosr.gui.jobs import JobsDock
    from napari_geosr.gui.models import ModelsDock
    from napari_geosr.gui.pairs import PairsDock
    from napari_geosr.gui.porosity import PorosityDock
    from napari_geosr.gui.reconstruct import ReconstructDock
    from napari_geosr.gui.restore import RestoreDock
    from napari_geosr.gui.train import TrainDock


class RestoreFrame(DockFrame):
    """The place of the Restore dock."""

    @classmethod
    def dock_class(cls) -> type[RestoreDock]:
        """Import and return the class of the dock."""
        from napari_geosr.gui.restore import RestoreDock

        return RestoreDock


class TrainFrame(DockFrame):
    """The place of the Train dock."""

    @classmethod
    def dock_class(cls) -> type[TrainDock]:
        """Import and return the class of the dock."""
        from napari_geosr.gui.train import TrainDock

        return TrainDock


class JobsFrame(DockFrame):
    """The place of the Jobs dock."""

    @classmethod
    def dock_class(cls) -> type[JobsDock]:
        """Import and return the class of the dock."""
        from napari_geosr.gui.jobs import JobsDock

        return JobsDock


class ModelsFrame(DockFrame):
    """The place of the Models dock."""

    @classmethod
    def dock_class(cls) -> type[ModelsDock]:
        """Import and return the class of the dock."""
        from napari_geosr.gui.models import ModelsDock

        return ModelsDock


class PairsFrame(DockFrame):
    """The place of the Pairs dock."""

    @classmethod
    def dock_class(cls) -> type[PairsDock]:
        """Import and return the class of the dock."""
        from napari_geosr.gui.pairs import PairsDock

        return PairsDock


class ReconstructFrame(DockFrame):
    """The place of the Reconstruct dock."""

    @classmethod
    def dock_class(cls) -> type[ReconstructDock]:
        """Import and return the class of the dock."""
        from napari_geosr.gui.reconstruct import ReconstructDock

        return ReconstructDock


class PorosityFrame(DockFrame):
    """The place of the Porosity dock."""

    @classmethod
    def dock_class(cls) -> type[PorosityDock]:
        """Import and return the class of the dock."""
        from napari_geosr.gui.porosity import PorosityDock

        return PorosityDock
