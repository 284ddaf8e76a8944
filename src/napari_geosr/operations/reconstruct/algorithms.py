"""Which algorithms can reconstruct a scan, and their settings, for forms."""

from __future__ import annotations

from napari_geosr.core.config import Config
from napari_geosr.tomography.algorithms import ALGORITHMS, config_class

#: The quick ones: what a new user should try first.
_QUICK = ("fbp", "fdk")


def algorithms_for(beam: str) -> dict[str, str]:
    """What people call each algorithm that can use a beam, by its name.

    Parameters
    ----------
    beam : str
        ``"parallel"``, ``"fan"`` or ``"cone"``.
    """
    loaded = {name: ALGORITHMS.load(name) for name in ALGORITHMS.names()}
    able = [name for name, module in loaded.items() if beam in module.BEAMS]
    ordered = sorted(able, key=lambda name: (name not in _QUICK, name))
    return {name: str(loaded[name].TITLE) for name in ordered}


def settings_of(algorithm: str) -> type[Config]:
    """The config class of an algorithm.

    Raises
    ------
    ConfigError
        If there is no such algorithm.
    """
    return config_class(algorithm)
