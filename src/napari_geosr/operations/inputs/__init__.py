"""Opens the inputs of operations, with the settings that all commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter
from pydantic import Field, field_validator

from napari_geosr import io
from napari_geosr.core.config import Config
from napari_geosr.core.errors import FileError, VolumeError
from napari_geosr.core.file_warnings import file_warnings
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.units import require_unit, same_position, same_sizes
from napari_geosr.core.volume import Volume
from napari_geosr.io.formats import is_volume_folder

#: Options for lists of numbers: ``4,2,2`` is one token of the command line, and no
#: ``--empty-…`` flag is created.
COMMAS = Parameter(n_tokens=1, negative="")
#: Maximum relative difference between the edge ratios of two shapes at which they count
#: as having the same proportions.
_SAME_PROPORTIONS = 0.05
#: Advice if the file of a reference has no voxel size.
_SAVE_SIZE = (
    "Save it with its voxel size: set the size in a dock of napari and save the layer "
    "as TIFF, or set it in ImageJ (Image > Properties)."
)
#: Advice if the voxel size of the input may be wrong for a reference.
_OWN_SIZE = f"If this is wrong, {_SAVE_SIZE[0].lower()}{_SAVE_SIZE[1:]}"
#: Voxel size followed by a unit, as in ``1.95um``.
_WITH_UNIT = re.compile(r"(?P<size>[\d.,]+) ?(?P<unit>[a-zA-Zµμ]+)")


def parse_numbers(value: Any, kind: type, example: str) -> Any:
    """Convert text such as ``"4,2,2"``, or a list of such texts, to numbers.

    Parameters
    ----------
    value : object
        Numbers, text or a list; None stays None.
    kind : type
        Type of the numbers: ``int`` or ``float``.
    example : str
        Example for the error message if the text contains no numbers.
    """
    if value is None:
        return None
    words = [value] if isinstance(value, str | int | float) else list(value)
    try:
        return tuple(kind(part) for word in words for part in str(word).split(","))
    except ValueError:
        raise ValueError(f"separate the numbers with commas, e.g. {example}") from None


class InputConfig(Config):
    """Corrections and additions to the metadata of a file."""

    voxel_size: Annotated[tuple[float, ...] | None, COMMAS] = Field(
        None,
        title="Voxel size",
        description="Voxel size along Z,Y,X in the unit given by --unit, such as "
        "2,0.5,0.5, or one number for all axes. Overrides the voxel size in the file.",
    )
    unit: str | None = Field(
        None,
        title="Unit",
        description="Unit of the voxel size: nm, µm (or um), mm and so on. Without "
        "--voxel-size, it applies to a voxel size that the file gives without a unit.",
    )
    channel: int | None = Field(
        None,
        title="Channel",
        description="Channel to use, counted from 0, for a file with several channels.",
    )
    time: int | None = Field(
        None,
        title="Time point",
        description="Time point to use, counted from 0, for a time series.",
    )
    axes: str | None = Field(
        None,
        title="Axes",
        description="Axes of the array in order, such as TYX. Overrides the axes in "
        "the file.",
    )
    dataset: str | None = Field(
        None, title="Dataset", description="Path of the dataset inside an HDF5 file."
    )
    shape: Annotated[tuple[int, ...] | None, COMMAS] = Field(
        None, title="Shape", description="Shape of a raw file, as Z,Y,X."
    )
    dtype: str | None = Field(
        None, title="Data type", description="Data type of a raw file, such as uint16."
    )

    @field_validator("voxel_size", mode="before")
    @classmethod
    def _read_voxel_size(cls, value: Any) -> Any:
        words = value if isinstance(value, list | tuple) else [value]
        text = ",".join(map(str, words))
        if found := _WITH_UNIT.fullmatch(text.strip()):
            raise ValueError(
                f"{text!r} contains a unit. Give the unit separately (--voxel-size "
                f"{found['size']} --unit {found['unit']})"
            )
        return parse_numbers(value, float, "4,2,2")

    @field_validator("voxel_size")
    @classmethod
    def _check_voxel_size(cls, value: tuple[float, ...] | None) -> Any:
        if value is not None and (len(value) not in (1, 2, 3) or not min(value) > 0):
            raise ValueError("one to three numbers greater than zero are needed")
        return value

    @field_validator("shape", mode="before")
    @classmethod
    def _read_shape(cls, value: Any) -> Any:
        return parse_numbers(value, int, "200,512,512")

    @field_validator("unit")
    @classmethod
    def _check_unit(cls, value: str | None) -> str | None:
        return None if value is None else require_unit(value)

    def reading(self) -> AnyDict:
        """Return the arguments for `napari_geosr.io.read`."""
        return self.model_dump(
            include=set(InputConfig.model_fields) - {"channel", "time"}
        )


def open_volume(path: str | Path, config: InputConfig | None = None) -> Volume:
    """Open one spatial volume (Z, Y, X or Y, X) lazily.

    Raises
    ------
    FileError, VolumeError
        If the file cannot be opened, or a channel or time point must be chosen.
    """
    config = config or InputConfig()
    volume = io.read(path, **config.reading())
    return volume.select(time=config.time, channel=config.channel)


def open_series(path: str | Path, config: InputConfig | None = None) -> Volume:
    """Open a file lazily, with all time points and channels unless one is chosen.

    Raises
    ------
    FileError, VolumeError
        If the file cannot be opened, or a channel or time point does not exist.
    """
    config = config or InputConfig()
    volume = io.read(path, **config.reading())
    return volume.take(time=config.time, channel=config.channel)


def open_for_training(
    path: str | Path, config: InputConfig | None = None, *, flat: bool
) -> Volume:
    """Open a volume, or a time series of images, for training.

    Parameters
    ----------
    flat : bool
        Whether the network is trained on single slices: the images of a time series are
        then the slices of one volume.

    Raises
    ------
    FileError, VolumeError
        If the file cannot be opened, or a channel or time point must be chosen.
    """
    config = config or InputConfig()
    return select_for_training(io.read(path, **config.reading()), config, flat=flat)


def select_for_training(volume: Volume, config: InputConfig, *, flat: bool) -> Volume:
    """Select the part of an opened volume to train on; see `open_for_training`.

    Parameters
    ----------
    volume : Volume
    config : InputConfig
        Selects time point and channel.
    flat : bool
        Whether the network restores planes; time points may then form a stack.
    """
    is_series = volume.axes in ("TYX", "TCYX") and volume.shape[0] > 1
    if not is_series or config.time is not None:
        return volume.select(time=config.time, channel=config.channel)
    if not flat:
        raise VolumeError(
            f"{volume.title} has {volume.shape[0]} time points. Set dimensions to 2D "
            "(--dimensions 2D) to learn from each as a separate image, or choose "
            f"one, 0 … {volume.shape[0] - 1} (--time)."
        )
    return volume.as_slices(channel=config.channel)


def open_companion(
    path: str | Path, config: InputConfig | None, like: Volume
) -> tuple[Volume, list[str]]:
    """Open a volume that belongs to the input `like`: a reference or a sample mask.

    The file's own metadata take precedence. Settings of the input apply if this file
    has no information, or if it repeats the information in the input's file: a mask
    drawn on a scan with a wrong voxel size has the same wrong voxel size. The voxel
    size is applied if this file has none and its shape is that of the input, or if,
    according to both files, it covers the same region as the input. The axes are
    applied if both files have the same shape and axes. Channel and time point are
    applied if this file has several. Applied settings are reported. Shape and type of
    raw files are always checked against the file size.

    Parameters
    ----------
    path : str or Path
    config : InputConfig or None
        Settings of the input.
    like : Volume
        The input.

    Returns
    -------
    volume : Volume
    notes : list of str
        The file's warnings, and one sentence for each setting that was applied.

    Raises
    ------
    FileError, VolumeError
        If the file cannot be opened, or a time point or channel must be chosen.
    """
    config = config or InputConfig()
    volume = io.read(path, shape=config.shape, dtype=config.dtype)
    warnings = file_warnings(volume.metadata)
    notes = [f"{volume.title}: {warning}" for warning in warnings]
    if config.axes and _has_same_axes(volume, _as_stored(like, config, axes=None)):
        volume = io.read(path, shape=config.shape, dtype=config.dtype, axes=config.axes)
        notes.append(f"{volume.title} is also read with the axes {config.axes}.")
    options = (("T", "time", config.time), ("C", "channel", config.channel))
    choices = {
        word: choice
        for letter, word, choice in options
        if choice is not None
        and letter in volume.axes
        and volume.shape[volume.axes.index(letter)] > 1
    }
    volume = volume.select(**choices)
    for word, choice in choices.items():
        notes.append(f"{word.capitalize()} {choice} is also used for {volume.title}.")
    if config.voxel_size is None:
        return volume, notes
    if not volume.has_physical_size:
        if volume.spatial_shape == like.spatial_shape:
            volume = volume.with_geometry(config.voxel_size, config.unit)
            notes.append(
                f"{volume.title} has no voxel size, but has the same shape as "
                f"{like.title}, so the voxel size of {like.title} is used."
            )
        return volume, notes
    stored = _as_stored(like, config, axes=config.axes)
    if _is_same_region(volume, stored):
        factors = np.divide(like.voxel_size, stored.voxel_size)
        sizes = [float(size) for size in np.multiply(volume.voxel_size, factors)]
        volume = volume.with_geometry(sizes, like.unit)
        edges = " × ".join(f"{size:.6g}" for size in sizes)
        notes.append(
            f"According to their files, {volume.title} covers the same region as "
            f"{like.title}, so its voxel size is also corrected: {edges} {like.unit}."
        )
    return volume, notes


def open_reference(
    path: str | Path,
    config: InputConfig | None,
    like: Volume,
    *,
    time: int | None = None,
    channel: int | None = None,
) -> tuple[Volume, list[str]]:
    """Open a volume that is measured separately, for comparison with the input `like`.

    The volume is opened as by `open_companion`, with two differences. If the file has a
    voxel size without a unit, the given unit applies. If it has no voxel size, the
    given voxel size applies to other shapes as well, unless the edges have the same
    proportions as those of the input: the volume then probably shows the same region
    with voxels of another size.

    Parameters
    ----------
    path : str or Path
    config : InputConfig or None
        Settings of the input.
    like : Volume
        The input.
    time, channel : int or None
        Time point and channel of this volume; None: those of the input.

    Returns
    -------
    volume : Volume
    notes : list of str
        As for `open_companion`.

    Raises
    ------
    FileError, VolumeError
        As for `open_companion`.
    """
    own = {"time": time, "channel": channel}
    chosen = {word: value for word, value in own.items() if value is not None}
    settings = (config or InputConfig()).model_copy(update=chosen)
    try:
        volume, notes = open_companion(path, settings, like)
    except VolumeError as error:
        # The message names the options for the input; name those for the reference.
        text = str(error)
        for word in own:
            text = text.replace(f"(--{word})", f"(--reference-{word})")
        raise VolumeError(text) from error
    said = {
        f"{word.capitalize()} {value} is also used" for word, value in chosen.items()
    }
    notes = [note for note in notes if not note.startswith(tuple(said))]
    if config is None or volume.has_physical_size:
        return volume, notes
    has_numbers = any(size != 1 for size in volume.voxel_size)
    if has_numbers and config.unit is not None:
        notes.append(
            f"The voxel size of {volume.title} has no unit, so the given unit "
            f"({config.unit}) is used. {_OWN_SIZE}"
        )
        return volume.with_geometry(None, config.unit), notes
    shapes = volume.spatial_shape, like.spatial_shape
    if (
        has_numbers
        or config.voxel_size is None
        or shapes[0] == shapes[1]
        or len(shapes[0]) != len(shapes[1])
    ):
        return volume, notes
    ratios = np.divide(*shapes)
    if np.ptp(ratios) < _SAME_PROPORTIONS * ratios.max():
        notes.append(
            f"{volume.title} has no voxel size. The given voxel size is used only for "
            f"{like.title}, because {volume.title} has {ratios.mean():.3g} times as "
            f"many voxels along each axis, so that its voxels probably differ. "
            f"{_SAVE_SIZE}"
        )
        return volume, notes
    notes.append(
        f"{volume.title} has no voxel size, so the given voxel size of {like.title} is "
        f"used. {_OWN_SIZE}"
    )
    return volume.with_geometry(config.voxel_size, config.unit), notes


def _as_stored(volume: Volume, config: InputConfig, axes: str | None) -> Volume:
    """Read the volume again with these axes, and with the voxel size in its file."""
    if volume.source is None:
        return volume
    reading = config.reading() | {"voxel_size": None, "unit": None, "axes": axes}
    return io.read(volume.source, **reading)


def _has_same_axes(volume: Volume, stored: Volume) -> bool:
    return volume.axes == stored.axes and volume.shape == stored.shape


def _is_same_region(volume: Volume, stored: Volume) -> bool:
    """Return whether two volumes cover the same region according to their files."""
    if not stored.has_physical_size or volume.unit != stored.unit:
        return False
    if volume.spatial_axes != stored.spatial_axes:
        return False
    corner, extent = _box(volume)
    stored_corner, stored_extent = _box(stored)
    return same_sizes(list(extent), list(stored_extent)) and same_position(
        list(corner), list(stored_corner), stored.voxel_size
    )


def _box(volume: Volume) -> tuple[AnyArray, AnyArray]:
    """Return the lower corner and edge lengths of the region that a volume covers."""
    sizes = np.asarray(volume.voxel_size)
    return volume.origin - sizes / 2, sizes * volume.spatial_shape


def check_not_source(volume: Volume, *outputs: str | Path) -> None:
    """Raise `FileError` if an output would overwrite the source or another output.

    An output must not be written to the volume's folder of slices either, because the
    folder could then no longer be opened as a volume.
    """
    check_different(*outputs)
    if volume.source is None:
        return
    source = volume.source.expanduser().resolve()
    for out in outputs:
        target = Path(out).expanduser().resolve()
        # When a folder of slices is opened, its subfolders are ignored.
        inside = target.parents if is_volume_folder(source) else target.parents[:1]
        if source == target or source in inside:
            raise FileError(
                f"{out} is the input or lies inside it; the input is never changed. "
                "Choose another name or folder for the result."
            )


def check_different(*outputs: str | Path) -> None:
    """Raise `FileError` if two outputs of an operation are the same file."""
    targets = set()
    for out in outputs:
        target = Path(out).expanduser().resolve()
        if target in targets:
            raise FileError(
                f"Two results would be written to {out}. Choose a different name for "
                "each."
            )
        targets.add(target)
