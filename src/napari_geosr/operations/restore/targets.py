"""Output of a restoration: one volume, or two if the uncertainty is estimated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr import io
from napari_geosr.core.array_parts.boxes import Box
from napari_geosr.core.errors import FileError, GeoSRError
from napari_geosr.core.orientation import orientation_of, rotation_of
from napari_geosr.core.types import AnyDType, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.inference.runner import choose_output
from napari_geosr.operations.restore.preparation import PreparedRestoration
from napari_geosr.operations.restore.resume import FinishedPart, deviation_path
from napari_geosr.operations.storage import CachedResult, array_for, claim, in_cache

if TYPE_CHECKING:
    from napari_geosr.io.output import Output

#: Type of standard deviations, whatever the type of the result.
DEVIATION_DTYPE = np.dtype(np.float32)
#: Sentence added to messages about file errors.
_NOTHING_KEPT = "No part of the result was finished, so nothing is kept."


@dataclass
class Target:
    """An array to fill and, for a file, the output that contains it.

    Attributes
    ----------
    volume : Volume
        The array with its position, and with the provenance known before the run.
    path : Path or None
        Path of its file after the run.
    cached : CachedResult or None
        The result in the cache, if no file was requested but the array is too large for
        memory.
    """

    volume: Volume
    output: Output | None = None
    path: Path | None = None
    cached: CachedResult | None = None

    @property
    def array(self) -> Any:
        """The array to fill."""
        return self.volume.data

    def close_with(self, record: AnyMapping, places: Sequence[Box] | None) -> None:
        """Add the record of the run; for an unfinished run, keep the boxes in `places`.

        `places` is None for a completed run.
        """
        history = (*self.volume.provenance[:-1], dict(record))
        self.volume = self.volume.replace(provenance=history)
        if self.output is None:
            return
        self.output.provenance = history
        if places is not None:
            self.output.blank(places)
            self.path = self.output.keep_incomplete()

    def from_file(self) -> Volume:
        """Return the volume as read from its file; unchanged if it has no file."""
        if self.path is None:
            return self.volume
        return io.read_back(self.path).replace(name=self.volume.name)


@dataclass(frozen=True)
class Targets:
    """The restored volume and, if estimated, the standard deviations."""

    result: Target
    deviation: Target | None = None

    @property
    def all(self) -> list[Target]:
        """All existing targets."""
        return [self.result, *([] if self.deviation is None else [self.deviation])]

    def written(self, places: Sequence[Box]) -> list[Box]:
        """Return the filled boxes that are stored in the files of all targets."""
        found = list(places)
        for target in self.all:
            if target.output is not None:
                found = target.output.written(found)
        return found

    @property
    def notes(self) -> list[str]:
        """Notes for the user about the file formats, without duplicates."""
        outputs = (target.output for target in self.all)
        return list(dict.fromkeys(o.note for o in outputs if o is not None and o.note))


@dataclass(frozen=True)
class OutputLayout:
    """Layout of the file of a result, and memory for writing it.

    Attributes
    ----------
    tile : tuple of int
        Shape of the blocks in which the file is written.
    memory : int
        Bytes of memory that each file may use.
    shared : bool
        Whether other processes write the blocks.
    """

    tile: tuple[int, ...]
    memory: int
    shared: bool = False


@contextmanager
def open_targets(
    volumes: Sequence[Volume],
    out: str | Path | None,
    overwrite: bool,
    kept: Sequence[FinishedPart] | None,
    lay_out: Callable[[AnyDType], OutputLayout],
) -> Iterator[Targets]:
    """Create the targets: arrays, or files that appear when the context exits.

    Parameters
    ----------
    volumes : sequence of Volume
        One or two volumes that describe the result and deviations, without voxels.
    kept : sequence of FinishedPart, optional
        Unfinished part of each target.
    lay_out : callable
        Returns the layout of a file for the type of the result.
    """
    with ExitStack() as stack:
        made: list[Target] = []
        laid_out = None if out is None else lay_out(volumes[0].dtype)
        for i, volume in enumerate(volumes):
            part = None if kept is None else kept[i]
            if laid_out is None:
                filled = volume.replace(data=_array(volume, part))
                cached = in_cache(filled, is_reopened=part is not None)
                made.append(Target(filled, cached=cached))
                continue
            assert out is not None
            path = Path(out) if i == 0 else deviation_path(out)
            before = None if part is None else part.volume.source
            tile = laid_out.tile
            # A block has one point of a series.
            tile = (1,) * (len(volume.axes) - len(tile)) + tile
            with _creation_explained(is_new=part is None):
                file = stack.enter_context(
                    io.create(
                        path,
                        io.OutputSpec(
                            shape=volume.shape,
                            dtype=volume.dtype,
                            axes=volume.axes,
                            voxel_size=volume.voxel_size,
                            unit=volume.unit,
                            origin=volume.origin,
                            provenance=volume.provenance,
                            kind=str(volume.metadata.get("kind", "image")),
                            tile=tile,
                            memory=laid_out.memory,
                            shared=laid_out.shared,
                            channels=volume.metadata.get("channels", ()),
                            orientation=orientation_of(volume.metadata),
                            rotation=rotation_of(volume.metadata),
                        ),
                        # Finished standard deviations of an earlier run may be
                        # overwritten, because the values are the same.
                        overwrite=overwrite or before == path,
                        continues=before,
                    )
                )
            made.append(Target(volume.replace(data=file.array), file, path))
        yield Targets(*made)


@contextmanager
def _creation_explained(*, is_new: bool) -> Iterator[None]:
    """State in a system error of a new run, e.g. a full disk, that nothing is kept."""
    try:
        yield
    except FileError as error:
        if is_new and isinstance(error.__cause__, OSError):
            raise without_finished_part(error) from error
        raise


def without_finished_part(error: GeoSRError) -> GeoSRError:
    """State in a file error that no part of the result was finished."""
    if type(error) is not FileError:
        return error
    found = FileError(f"{error} {_NOTHING_KEPT}")
    found.__cause__ = error
    return found


def _array(volume: Volume, kept: FinishedPart | None) -> Any:
    if kept is not None:
        array = kept.writable()
        claim(array)  # a killed program may have left the array
        return array
    # napari shows NaN as transparent and statistics ignore it, so that unrestored
    # voxels are not mistaken for pores.
    blank = np.nan if volume.dtype.kind == "f" else 0
    return array_for(volume.shape, volume.dtype, blank)


def check_budget(prepared: PreparedRestoration, out: str | Path | None) -> None:
    """Raise an error that states the required memory if a run exceeds the budget.

    Call this function before a part of the volume is restored as a test. Otherwise the
    error would state the memory for that part, which may not be enough for the run.

    Parameters
    ----------
    prepared : PreparedRestoration
    out : path or None
        File of the result; its buffers use a part of the budget.
    """
    output_layout(prepared, prepared.output_dtype, in_memory=out is None)


def output_layout(
    prepared: PreparedRestoration, dtype: AnyDType, *, in_memory: bool = False
) -> OutputLayout:
    """Return the layout for the tiles of a run in this process."""
    tile, memory = choose_output(
        prepared.network,
        prepared.volume.data,
        dtype,
        statistics=prepared.statistics,
        device=prepared.device,
        budget=prepared.budget,
        threads=prepared.config.threads,
        in_memory=in_memory,
    )
    return OutputLayout(tile, memory)
