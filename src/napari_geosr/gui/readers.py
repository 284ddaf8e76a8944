"""Open files lazily in napari, with voxel size, unit, origin and provenance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info, show_warning

from napari_geosr import io
from napari_geosr.core.arrays import sliceable
from napari_geosr.core.errors import SeveralImagesError
from napari_geosr.core.file_warnings import file_warnings, notes_of
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import convert_length
from napari_geosr.gui.kit.option_words import in_words_of_dock
from napari_geosr.gui.layers import METADATA
from napari_geosr.io.formats import format_of, format_that_reads
from napari_geosr.io.meshes import MESH_SUFFIXES, MESH_UNIT, read_mesh
from napari_geosr.io.projections import is_projections, read_projections
from napari_geosr.io.slices import read_slices

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume

LayerData = tuple[Any, AnyDict, str]
Reader = Callable[[Any], list[LayerData]]
#: Maximum number of images that are opened from one file.
_MAX_IMAGES = 16
_THREE_COLOURS = ("red", "green", "blue")


def get_reader(path: str | list[str]) -> Reader | None:
    """Return the function that reads `path`, or None if it is not supported.

    Parameters
    ----------
    path : str or list of str
        A file or folder; a list of files is read as a stack of slices.
    """
    paths = [Path(p) for p in path] if isinstance(path, list) else [Path(path)]
    if not paths:
        return None
    if len(paths) > 1:
        slices = all(_may_be_slice(p) for p in paths)
        return read_layers if slices and not any(p.is_dir() for p in paths) else None
    if paths[0].suffix.lower() in MESH_SUFFIXES and not paths[0].is_dir():
        return read_surface
    return read_layers if _is_ours(paths[0]) else None


def _is_ours(path: Path) -> bool:
    if not path.is_dir():
        # Raw files do not state their shape, and napari cannot ask for it.
        file_format = format_of(path)
        return file_format is not None and file_format.states_shape
    is_volume = format_that_reads(path) is not None
    return is_volume or any(_may_be_slice(p) for p in path.iterdir())


def _may_be_slice(path: Path) -> bool:
    file_format = format_of(path)
    return file_format is not None and file_format.may_be_slice


def read_layers(path: str | list[str]) -> list[LayerData]:
    """Read a file, a folder or a list of slices as layers, one per channel.

    Projections in an HDF5 file become two layers: projections and sinograms.

    Raises
    ------
    FileError
        If a file cannot be read; the message states what is wrong and what to do.
    """
    if isinstance(path, list) and len(path) > 1:
        files = [Path(p) for p in path]
        return _layers([read_slices(files, files[0].parent)])
    one = Path(path[0] if isinstance(path, list) else path)
    if is_projections(one):
        return _scan_layers(one)
    file_format = format_of(one)
    if file_format is not None and file_format.is_folder and one.is_dir():
        return _layers(file_format.read_levels(one))
    try:
        return _layers([io.read(one)])
    except SeveralImagesError as error:
        return _read_all_images(one, error.sizes)


def read_surface(path: str | list[str]) -> list[LayerData]:
    """Read a mesh as a surface layer, at the position of the shape that it bounds.

    The positions are assumed to be in mm, the unit of meshes that this package writes,
    unless the file states a unit; napari converts them to the unit of the other layers.

    Raises
    ------
    FileError
        If trimesh is not installed, or the file is not a mesh.
    """
    one = Path(path[0] if isinstance(path, list) else path)
    vertices, faces, unit = read_mesh(one)
    if not unit:
        show_info(f"{one.name} does not state its unit; {MESH_UNIT} is assumed.")
    elif unit != MESH_UNIT:
        vertices = vertices * convert_length(1.0, unit, MESH_UNIT)
    attributes = {"name": one.stem, "units": (MESH_UNIT,) * 3}
    return [((vertices[:, ::-1], faces), attributes, "surface")]


def _read_all_images(path: Path, sizes: Mapping[str, int]) -> list[LayerData]:
    """Open the largest images of a file, at most 16, as separate layers."""
    largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:_MAX_IMAGES]
    layers: list[LayerData] = []
    for name in (name for name in sizes if name in largest):
        volume = io.read(path, dataset=name)
        layers += _layers(
            [
                volume.replace(
                    name=f"{volume.name} · image {name}",
                    # Select this image when the layer's file is read again.
                    metadata={**volume.metadata, "dataset": name},
                )
            ]
        )
    opened = (
        "each is opened as a separate layer"
        if len(largest) == len(sizes)
        else f"only the largest {len(largest)} are opened, each as a separate layer"
    )
    show_info(
        f"{path.name} contains {len(sizes)} images of different shapes: {opened}."
    )
    return layers


def _scan_layers(path: Path) -> list[LayerData]:
    """Return the layers of a scan, for the Reconstruct dock: projections, sinograms."""
    from napari import current_viewer

    # Imported here because they load Qt, which is not needed to read other files.
    from napari_geosr.gui.layers.projections import OpenedScan, projection_layers
    from napari_geosr.gui.layers.scan_views import read_scans_in_threads

    read_scans_in_threads(current_viewer())
    scan = read_projections(path)
    _notify(path.name, scan.metadata)
    return projection_layers(OpenedScan(scan))


def _layers(levels: list[Volume]) -> list[LayerData]:
    """Return the layers of a volume from its resolution levels, the finest first."""
    from napari import current_viewer

    first = levels[0]
    viewer = current_viewer()
    if viewer is not None:
        # Imported here because it loads Qt, which reading does not need.
        from napari_geosr.gui.layers.contrast import sample_added_layers

        sample_added_layers(viewer)
    _notify(first.title, first.metadata)
    if "C" not in first.axes:
        return [_layer(levels, first.name, {})]
    layers = []
    n = first.shape[first.axes.index("C")]
    for c in range(n):
        # Make one layer per channel, so that each can be restored and measured
        # separately.
        options: AnyDict = {"blending": "additive" if c else "translucent"}
        if n == len(_THREE_COLOURS):
            options["colormap"] = _THREE_COLOURS[c]
        channel = [level.take(channel=c) for level in levels]
        layer = _layer(channel, f"{first.name} · channel {c}", options)
        # The file contains more than this layer, so it is not recorded as the layer's
        # source.
        layer[1]["metadata"][METADATA] |= {
            "source": None,
            "file": first.source,
            "channel": c,
        }
        layers.append(layer)
    return layers


def _notify(title: str, metadata: AnyMapping) -> None:
    """Show warnings and assumptions in one notification."""
    warned, notes = file_warnings(metadata), notes_of(metadata)
    if not warned and not notes:
        return
    text = f"{title}: {' '.join([*warned, *notes])}"
    doubtful = warned or any(note.corrected_by == "slice distance" for note in notes)
    (show_warning if doubtful else show_info)(in_words_of_dock(text, None))


def _layer(levels: list[Volume], name: str, options: AnyDict) -> LayerData:
    volume = levels[0]
    _, attributes, kind = volume.to_layer_data()
    attributes["metadata"][METADATA]["info"] = dict(volume.metadata)
    attributes |= {"name": name, **options}
    data = [sliceable(level.data) for level in levels]
    if len(data) > 1:
        attributes["multiscale"] = True
    if kind == "labels":
        attributes.pop("blending", None)
        attributes.pop("colormap", None)
    return data if len(data) > 1 else data[0], attributes, kind
