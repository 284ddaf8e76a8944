"""Make the paths of a submitted command absolute: its job runs in another folder."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from napari_geosr.core.addresses import as_address, has_secrets, without_secrets
from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict

AnyConfig = TypeVar("AnyConfig", bound=Config)

#: Settings that name a file, or a dataset inside a file, as a string.
_FILES_AS_TEXT = ("angles", "flats", "darks")


def absolute_path(path: Path) -> Path:
    """Make a path absolute; keep links, which nodes may resolve differently.

    URLs are not changed.

    Raises
    ------
    ConfigError
        If a URL contains credentials, which would be visible in the job's settings.
    """
    if (address := as_address(path)) is not None:
        if has_secrets(address):
            raise ConfigError(
                f"{without_secrets(address)} was given with a user name, a password or "
                "a query, which would be visible in the job's settings. Remove this "
                "part, and store credentials where the library reads them (~/.aws, "
                "~/.config/fsspec)."
            )
        return path
    return path.expanduser().absolute()


def with_absolute_paths(config: AnyConfig) -> AnyConfig:
    """Make the paths in settings absolute."""
    changes: AnyDict = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Path):
            changes[name] = absolute_path(value)
        elif name in _FILES_AS_TEXT and isinstance(value, str) and Path(value).exists():
            changes[name] = str(absolute_path(Path(value)))
    return config.model_copy(update=changes)


def absolute_model(name: str) -> str:
    """Make a path absolute; the name of a model in the catalogue is kept."""
    path = Path(name).expanduser()
    if not path.exists():
        return name
    # Imported here: loading the catalogue takes a fifth of the time of a submission.
    from napari_geosr.operations.models import catalogue

    if name in {entry.name for entry in catalogue.list_models()}:
        return name
    return str(absolute_path(path))


def modified_time(out: Path) -> int:
    """Return the modification time of a file, in nanoseconds; 0 if there is no file."""
    try:
        return out.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
