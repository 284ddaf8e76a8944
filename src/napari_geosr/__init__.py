"""Restore microscopy and CT volumes and measure their pores.

The public functions are listed in ``__init__.pyi`` and loaded on first use, so that
importing the package (which napari does for every installed plugin at start) takes
almost no time. Nothing else is imported here, because the command line can handle
Ctrl-C only after this file has run.
"""

import os

# Use memory pages of 2 MB instead of 4 kB where Linux provides them: restoration takes
# about one sixth less time. Torch reads this variable when it creates its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def __getattr__(name: str) -> object:
    """Return a public function; set up lazy loading on first access."""
    _attach()
    known = globals()
    return known[name] if name in known else known["__getattr__"](name)


def __dir__() -> list[str]:
    if "__all__" not in globals():
        _attach()
    return sorted(globals()["__all__"])


def _attach() -> None:
    import lazy_loader

    from napari_geosr.core.version import __version__

    load, _, public = lazy_loader.attach_stub(__name__, __file__)
    names = [*public, "__version__"]
    globals().update(__getattr__=load, __all__=names, __version__=__version__)
