"""Compares the release of napari-geosr in this process with that in a client's workers.

Work is pickled here and unpickled in the workers, so both need the same classes.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from napari_geosr.core.errors import ConfigError, GeoSRWarning
from napari_geosr.core.version import __version__

if TYPE_CHECKING:
    from distributed import Client

#: Expression that returns the version of this package in a worker. The expression is
#: sent as text, because a worker without this package cannot unpickle one of its
#: functions.
_EXPRESSION = "__import__('napari_geosr.core.version', fromlist=['x']).__version__"


def check_versions(client: Client) -> None:
    """Refuse workers with another release of napari-geosr, or without it.

    Workers that do not respond are ignored.

    Raises
    ------
    ConfigError
        If a worker cannot import napari-geosr, or its major or minor version differs.

    Warns
    -----
    GeoSRWarning
        If another part of the version differs.
    """
    found = client.run(eval, _EXPRESSION, on_error="return")
    same = "Install the same version for this process and all workers."
    others = dict[str, str]()
    for address, version in found.items():
        if isinstance(version, ImportError | SyntaxError):
            raise ConfigError(
                f"The Dask worker {address} cannot import napari-geosr ({version}). "
                f"{same}"
            )
        if not isinstance(version, str) or version == __version__:
            continue
        if _release(version) != _release(__version__):
            raise ConfigError(
                f"The Dask worker {address} has napari-geosr {version}, but this "
                f"process has {__version__}. {same}"
            )
        others.setdefault(version, address)
    for version, address in others.items():
        warnings.warn(
            f"The Dask worker {address} has napari-geosr {version}, but this process "
            f"has {__version__}. Results may differ.",
            GeoSRWarning,
            stacklevel=2,
        )


def _release(version: str) -> list[str]:
    """Return the major and minor number of a version."""
    return version.split(".")[:2]
