"""A format of another package in one file: NumPy's .npy, for reading and writing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_geosr.core.volume import Volume
from napari_geosr.io.formats import ReadOptions, WritableFileFormat
from napari_geosr.io.output import Output
from napari_geosr.io.spec import OutputPaths, OutputSpec
from napari_geosr.io.suffixes import stem_of


class NpyOutput(Output):
    """A memory-mapped .npy file."""

    def __init__(self, paths: OutputPaths, spec: OutputSpec) -> None:
        super().__init__(paths, spec)
        shape = tuple(spec.shape)
        self.array = np.lib.format.open_memmap(
            paths.temporary, "w+", np.dtype(spec.dtype), shape
        )
        self.block_shape = (1,) * (len(shape) - 2) + shape[-2:]

    def blank(self, finished) -> None:
        covered = np.zeros(self.array.shape, bool)
        for box in finished:
            covered[box] = True
        self.array[~covered] = np.nan

    def complete(self, *, pyramid: bool) -> None:
        self.close()

    def close(self) -> None:
        if self.array is not None:
            self.array.flush()
        self.array = None


class NpyFormat(WritableFileFormat):
    title = "NumPy"
    suffixes = (".npy",)
    file_types = {"NumPy array": (".npy",)}  # noqa: RUF012

    def read(self, path: Path, options: ReadOptions) -> Volume:
        data = np.load(path, mmap_mode="r")
        axes = options.axes or "TCZYX"[-data.ndim :]
        return Volume(data=data, axes=axes, name=stem_of(path), source=path)

    def output(self, paths: OutputPaths, spec: OutputSpec) -> NpyOutput:
        return NpyOutput(paths, spec)


FORMAT = NpyFormat()
