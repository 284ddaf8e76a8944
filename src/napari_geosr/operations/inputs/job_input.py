"""A volume of a job: its file, and the settings to open it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from napari_geosr.core.config import Config
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.operations.inputs import InputConfig, open_companion, open_volume


class JobInput(Config):
    """A volume of a job, as described in its ``config.yaml``."""

    volume: Path
    """The file."""
    reading: InputConfig = InputConfig()
    """Settings for opening the file."""
    title: str = ""
    """Name of the volume; by default, the name of its file."""

    @classmethod
    def from_values(cls, values: AnyMapping) -> Self:
        """Validate the contents of ``config.yaml``."""
        reading = InputConfig.from_mapping(values.get("reading") or {})
        return cls.from_mapping({**values, "reading": reading})

    def open(self) -> Volume:
        """Open the file lazily.

        Raises
        ------
        FileError, VolumeError
            If the file cannot be opened, or a channel or time point must be chosen.
        """
        volume = open_volume(self.volume, self.reading)
        return volume.replace(name=self.title) if self.title else volume


class CompanionInput(JobInput):
    """A volume that belongs to another one, such as its sample mask."""

    belongs_to_data: bool = False
    """Whether the settings of the other volume are used for information that this
    file lacks: see `open_companion`. `reading` is then not used.
    """

    def open_beside(self, data: JobInput, like: Volume) -> tuple[Volume, list[str]]:
        """Open the file lazily.

        Parameters
        ----------
        data : JobInput
            The other volume.
        like : Volume
            The other volume, opened.

        Returns
        -------
        volume : Volume
        notes : list of str
            One sentence for each setting of the other volume that was applied.

        Raises
        ------
        FileError, VolumeError
            As for `JobInput.open`.
        """
        if not self.belongs_to_data:
            return self.open(), []
        return open_companion(self.volume, data.reading, like)
