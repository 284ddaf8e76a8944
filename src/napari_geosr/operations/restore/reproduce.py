"""Describes a run as a command line or a Python script, to reproduce it elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from napari_geosr.core.config import Config
from napari_geosr.core.noise import KnownNoise, known_noise
from napari_geosr.core.questions import AXES_GIVEN
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.suffixes import stem_of
from napari_geosr.operations.inputs.noise_source import OPTIONS
from napari_geosr.operations.restore.config import NONE, RestoreConfig
from napari_geosr.operations.restore.resume import deviation_path

#: Placeholder for the path of the input if a layer was never saved.
_PLACEHOLDER = "INPUT.ome.tif"


def as_command(
    volume: Volume,
    config: RestoreConfig,
    *,
    out: str | Path | None = None,
    time: int | None = None,
    channel: int | None = None,
) -> str:
    """Return the command line of a restoration, quoted for a POSIX shell.

    Parameters
    ----------
    volume : Volume
        The volume to restore; its `source` is the file to read, and ``dataset`` in its
        metadata names the dataset in that file. The voxel size is part of the command,
        because the user may have corrected the one in the file.
    config : RestoreConfig
        Settings; those with default values are omitted.
    out : path, optional
        File to write; by default next to the input.
    time, channel : int, optional
        Time point and channel taken from the file.

    Returns
    -------
    str
        One line; if there is no file, a comment above it says what to do first.
    """
    source = _source(volume)
    parts = ["napari-geosr", "restore", str(source)]
    parts += ["--model", config.model]
    parts += ["--out", str(out or default_output(volume, config))]
    for name, value in _changed(config).items():
        text = ",".join(value) if isinstance(value, tuple) else str(value)
        parts += [f"--{name.replace('_', '-')}", text]
    if time is not None:
        parts += ["--time", str(time)]
    if channel is not None:
        parts += ["--channel", str(channel)]
    if "dataset" in volume.metadata:
        parts += ["--dataset", str(volume.metadata["dataset"])]
    if AXES_GIVEN in volume.metadata:
        parts += ["--axes", str(volume.metadata[AXES_GIVEN])]
    if volume.has_physical_size:
        parts += ["--voxel-size", ",".join(map(repr, volume.voxel_size))]
        parts += ["--unit", volume.unit]
    first = _save_first(volume)
    if (known := known_noise(volume.metadata)) is not None and known.kind:
        option = OPTIONS[known.kind]
        place = f"{option[2:].upper()}.ome.tif"
        parts += [option, str(_file_of(known) or place)]
        first += _save_place_first(known, place)
    return first + " ".join(_quote(part) for part in parts)


def as_python(
    volume: Volume,
    config: RestoreConfig,
    *,
    out: str | Path | None = None,
    time: int | None = None,
    channel: int | None = None,
) -> str:
    """Return a Python script of a restoration; parameters as in `as_command`.

    Parameters
    ----------
    volume : Volume
        The volume to restore, from a file.
    config : RestoreConfig
    out : path, optional
        File of the result.
    time, channel : int, optional
        Time point and channel that were restored.
    """
    reading = [repr(str(_source(volume)))]
    if volume.has_physical_size:
        reading.append(f"voxel_size={volume.voxel_size!r}")
        reading.append(f"unit={volume.unit!r}")
    if "dataset" in volume.metadata:
        reading.append(f"dataset={volume.metadata['dataset']!r}")
    if AXES_GIVEN in volume.metadata:
        reading.append(f"axes={volume.metadata[AXES_GIVEN]!r}")
    chosen = {"time": time, "channel": channel}
    choice = ", ".join(f"{k}={v}" for k, v in chosen.items() if v is not None)
    settings = [f"{name}={value!r}" for name, value in _changed(config).items()]
    first, noise_lines = _save_first(volume), []
    if (known := known_noise(volume.metadata)) is not None and known.kind:
        name = "noise_region" if known.kind == "region" else known.kind
        place = f"{name.upper()}.ome.tif"
        noise_lines = [f"{name} = read({str(_file_of(known) or place)!r})"]
        settings.append(f"{name}={name}")
        first += _save_place_first(known, place)
    arguments = ", ".join(["volume", f"model={config.model!r}", *settings])
    is_plain = config.uncertainty == NONE
    function = "restore" if is_plain else "restore_with_uncertainty"
    lines = [
        f"from napari_geosr import read, {function}, write",
        "",
        f"volume = read({', '.join(reading)})",
        *noise_lines,
    ]
    if choice:
        lines.append(f"volume = volume.select({choice})")
    target = Path(out or default_output(volume, config))
    names = "restored" if is_plain else "restored, deviation"
    lines += [f"{names} = {function}({arguments})", f"write(restored, {str(target)!r})"]
    if not is_plain:
        lines.append(f"write(deviation, {str(deviation_path(target))!r})")
    lines.append("")
    return first + "\n".join(lines)


def with_backend_of_run(
    config: RestoreConfig, provenance: Sequence[AnyMapping]
) -> RestoreConfig:
    """Return `config` with the backend that was used for a result.

    `config` is returned unchanged if its settings differ from those in the result's
    last record, or if openvino was not considered as the backend.
    """
    record = provenance[-1] if provenance else {}
    backend = record.get("backend") or {}
    if record.get("settings") != config.model_dump(mode="json") or len(backend) < 2:
        return config
    return config.model_copy(update={"backend": backend["name"]})


def default_output(volume: Volume, config: RestoreConfig) -> Path:
    """Return the default output path, made from the names of the input and model."""
    source = _source(volume)
    model = Path(config.model).stem
    return source.with_name(f"{stem_of(source)}.{model}.ome.tif")


def _source(volume: Volume) -> Path:
    return Path(_PLACEHOLDER) if volume.source is None else Path(volume.source)


def _changed(config: Config) -> AnyDict:
    """Return the settings that differ from their defaults, except the model's name."""
    fields = type(config).model_fields
    return {
        name: value
        for name, value in config
        if name != "model" and value != fields[name].get_default()
    }


def _quote(part: str) -> str:
    """Quote text for a POSIX shell; unlike shlex, leave letters such as µ unquoted."""
    bare = part.replace("µ", "u")
    return part if part and shlex.quote(bare) == bare else shlex.quote(part)


def _file_of(known: KnownNoise) -> Path | None:
    """Return the file in which the noise was measured, if there is one."""
    return None if known.volume is None else known.volume.source


def _save_place_first(known: KnownNoise, placeholder: str) -> str:
    return "" if _file_of(known) else _save_text(known.place, placeholder)


def _save_first(volume: Volume) -> str:
    return "" if volume.source is not None else _save_text(volume.name, _PLACEHOLDER)


def _save_text(name: str, placeholder: str) -> str:
    return (
        f"# {name!r} has not been saved to a file. Save it first (in napari: "
        f"File, Save Selected Layers) and put its path in place of {placeholder}.\n"
    )
