"""Settings kept between sessions, in the YAML format of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from napari_geosr.core.config import Config
from napari_geosr.io.unfinished_files.atomic import write_text

AnyConfig = TypeVar("AnyConfig", bound=Config)


def settings_path(name: str) -> Path:
    """Return the settings file of a dock."""
    from platformdirs import user_config_path

    return user_config_path("napari-geosr", appauthor=False) / f"{name}.yaml"


def recall(name: str, config_type: type[AnyConfig]) -> AnyConfig:
    """Read the last settings of a dock, or the defaults.

    Raises
    ------
    ConfigError
        If the file is damaged or from an incompatible release.
    """
    path = settings_path(name)
    return config_type.from_yaml(path) if path.is_file() else config_type()


def remember(name: str, config: Config) -> None:
    """Keep the settings of a dock for the next session.

    The file is not flushed to disk, which would block the window if the disk is busy.
    """
    path = settings_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, config.to_yaml(), overwrite=True, durable=False)
