"""Restore microscopy and CT volumes and measure their pores.

The public functions are listed in ``__init__.pyi`` and loaded on first use, so that
importing the package (which napari does for every installed plugin at start) costs next
to nothing.
"""

import lazy_loader

from napari_geosr.core.version import __version__

__getattr__, _, _public = lazy_loader.attach_stub(__name__, __file__)
__all__ = [*_public, "__version__"]


def __dir__() -> list[str]:
    return sorted(__all__)
