"""TIFF: ImageJ TIFF, OME-TIFF, BigTIFF, plain and compressed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.io.formats import ReadOptions, WritableFileFormat

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.io.output import Output
    from napari_geosr.io.spec import OutputPaths, OutputSpec


class TiffFormat(WritableFileFormat):
    """TIFF, read with tifffile; voxels of a new file can be written in any order."""

    title = "TIFF"
    suffixes = (".ome.tiff", ".ome.tif", ".tiff", ".tif", ".btf", ".tf8", ".lsm")
    rank = 10
    may_be_slice = True
    file_types = {  # noqa: RUF012
        "OME-TIFF": (".ome.tif", ".ome.tiff"),
        "ImageJ TIFF": (".tif", ".tiff"),
    }

    def read(self, path: Path, options: ReadOptions) -> Volume:
        from napari_geosr.io.formats.tiff.reading import read_tiff

        return read_tiff(path, axes=options.axes, dataset=options.dataset)

    def output(self, paths: OutputPaths, spec: OutputSpec) -> Output:
        from napari_geosr.io.formats.tiff.writer import TiffOutput

        return TiffOutput(paths, spec)

    def reopened(self, paths: OutputPaths, spec: OutputSpec) -> Output:
        from napari_geosr.io.formats.tiff.writer import TiffOutput

        return TiffOutput(paths, spec, reopen=True)


FORMAT = TiffFormat()
