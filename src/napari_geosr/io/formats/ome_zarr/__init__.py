"""OME-Zarr: NGFF 0.4 (zarr v2) and 0.5 (zarr v3), and plain zarr arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.io.formats import ReadOptions, WritableFileFormat

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.io.output import Output
    from napari_geosr.io.spec import OutputPaths, OutputSpec

#: Metadata files; a zarr of version 2 or 3 has at least one of them.
_METADATA_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zarray")


class OmeZarrFormat(WritableFileFormat):
    """OME-Zarr: a folder of chunks at several resolutions."""

    title = "OME-Zarr"
    suffixes = (".ome.zarr", ".zarr")
    rank = 20
    is_folder = True
    file_types = {"OME-Zarr": (".ome.zarr", ".zarr")}  # noqa: RUF012

    def accepts(self, path: Path, options: ReadOptions) -> bool:
        """Return whether the folder contains zarr metadata."""
        return any((path / name).exists() for name in _METADATA_FILES)

    def read(self, path: Path, options: ReadOptions) -> Volume:
        """Read the finest level, or the image that ``options.dataset`` names."""
        from napari_geosr.io.formats.ome_zarr.reading import read_zarr

        return read_zarr(path, axes=options.axes, dataset=options.dataset)

    def read_levels(self, path: Path) -> list[Volume]:
        from napari_geosr.io.formats.ome_zarr.reading import read_levels

        return read_levels(path)

    def output(self, paths: OutputPaths, spec: OutputSpec) -> Output:
        from napari_geosr.io.formats.ome_zarr.writer import ZarrOutput

        return ZarrOutput(paths, spec)

    def reopened(self, paths: OutputPaths, spec: OutputSpec) -> Output:
        from napari_geosr.io.formats.ome_zarr.writer import ZarrOutput

        return ZarrOutput(paths, spec, reopen=True)


FORMAT = OmeZarrFormat()
