"""``napari-geosr shapes complete | refine | segment | compare | mesh | …``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_geosr.cli.kit.console import (
    STOPPING,
    print_json,
    print_notes,
    run_command,
)
from napari_geosr.cli.kit.options import (
    AS_FLAGS,
    Json,
    Overwrite,
    SettingsPath,
    settings_from,
)
from napari_geosr.cli.kit.verbosity import quoted, suggest_next
from napari_geosr.core.file_warnings import NO_UNIT, file_warnings, notes_of
from napari_geosr.core.text.counts import counted
from napari_geosr.core.units import volume_text
from napari_geosr.core.volume import Volume
from napari_geosr.operations import shapes
from napari_geosr.operations.inputs import InputConfig, open_series, open_volume
from napari_geosr.operations.shapes import (
    CompareShapesConfig,
    CompleteShapeConfig,
    MeshConfig,
    RefineShapeConfig,
    SegmentInsideConfig,
    SimulateShapesConfig,
    VoxeliseConfig,
)

ShapePath = Annotated[
    Path,
    Parameter(help="Label volume; voxels outside the shape are 0."),
]
OutPath = Annotated[
    Path, Parameter(alias="-o", help="Volume to write, such as fine.ome.tif.")
]


def _opened(
    path: Path,
    reading: InputConfig | None,
    *,
    needs_size: bool = False,
    compares_sizes: bool = False,
    any_part: bool = False,
) -> tuple[Volume, list[str]]:
    """Open a volume; also print and return the warnings and notes of its reader.

    With `needs_size`, a note is added if lengths cannot be given in a physical unit.
    With `compares_sizes`, the caller states that the unit is unknown.
    With `any_part`, the first time point and channel are opened.
    """
    if any_part:
        series = open_series(path, reading)
        time, channel = (0 if axis in series.axes else None for axis in "TC")
        volume = series.take(time=time, channel=channel)
    else:
        volume = open_volume(path, reading)
    sentences = [*file_warnings(volume.metadata), *notes_of(volume.metadata)]
    if needs_size or compares_sizes:  # another message says that the unit is unknown
        sentences = [sentence for sentence in sentences if sentence is not NO_UNIT]
    if needs_size and not volume.has_physical_size:
        sentences.append(_missing_size(volume))
    notes = [f"{volume.title}: {sentence}" for sentence in sentences]
    print_notes(notes)
    return volume, notes


def _missing_size(volume: Volume) -> str:
    """Explain how to specify an unknown voxel size."""
    size = " × ".join(f"{edge:g}" for edge in volume.voxel_size)
    if any(edge != 1 for edge in volume.voxel_size):
        return (
            f"The unit of the voxel size ({size}) is unknown: give it for lengths in "
            "physical units, such as --unit mm."
        )
    return (
        "The voxel size is unknown: give --voxel-size and --unit for lengths in "
        "physical units."
    )


def refine(
    input: ShapePath,  # noqa: A002  # the name shown in the help
    /,
    *,
    out: OutPath,
    config: Annotated[RefineShapeConfig | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Increase the resolution of a shape, and write the result."""
    merged = settings_from(RefineShapeConfig, config, settings)
    volume, notes = _opened(input, reading, needs_size=True)
    result, warnings = run_command(
        lambda should_stop: shapes.refine_shape_steps(
            volume, out, merged, overwrite=overwrite, should_stop=should_stop
        ),
        stopping=STOPPING,
        out=out,
        notes=notes,
    )
    if json:
        print_json(
            {
                "file": str(result.path),
                "shape": result.shape,
                "surface_voxels": result.n_active,
                "volume_change": result.volume_change,
                "changed_voxels": result.n_changed,
                "notes": notes,
                "warnings": warnings,
            }
        )
        return 0
    print(f"Wrote {result.path}: {' × '.join(map(str, result.shape))} voxels")
    print(f"  {result.n_active:,} voxels of the input are next to the surface")
    print(f"  the volume of the shape changed by {100 * result.volume_change:+.2f} %")
    print(
        "  voxels at which the surface moved by one input voxel or more: "
        f"{result.n_changed:,}"
    )
    suggest_next(f"shapes mesh {quoted(result.path)} -o surface.stl")
    return 0


def complete(
    input: ShapePath,  # noqa: A002  # the name shown in the help
    /,
    *,
    out: OutPath,
    implant: Annotated[
        Path | None,
        Parameter(help="Also write the completed part alone, as a volume."),
    ] = None,
    mesh: Annotated[
        Path | None,
        Parameter(
            help="Also write the surface of the completed part to a mesh file, such as "
            "part.stl.",
        ),
    ] = None,
    config: Annotated[CompleteShapeConfig | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Complete a shape, and write it and, if requested, the completed part."""
    merged = settings_from(CompleteShapeConfig, config, settings)
    volume, notes = _opened(input, reading, needs_size=True)
    result, warnings = run_command(
        lambda should_stop: shapes.complete_shape_steps(
            volume,
            out,
            merged,
            implant=implant,
            mesh=mesh,
            overwrite=overwrite,
            should_stop=should_stop,
        ),
        stopping=STOPPING,
        out=out,
        notes=notes,
    )
    if json:
        surface = result.surface
        print_json(
            {
                **result.to_dict(),
                "notes": notes,
                "statements": () if surface is None else surface.statements,
                "warnings": [*warnings, *(surface.warnings if surface else ())],
            }
        )
        return 0
    print(f"Wrote {result.path}")
    size = volume_text(result.implant_volume, result.unit, 6)
    print(f"  completed part: {size} in {counted(result.n_pieces, 'piece')}")
    print(f"  voxels of the input that were removed: {result.n_removed}")
    print(f"  reproduced by the model: {100 * result.reproduced:.0f} % of the input")
    if result.surface is not None:
        sentences = (result.surface.coordinates, *result.surface.sentences)
        print(f"  {result.surface.path}: {' '.join(sentences)}")
    return 0


def segment(
    input: Annotated[  # noqa: A002  # the name shown in the help
        Path, Parameter(help="Scan to segment (grey values).")
    ],
    /,
    *,
    inside: Annotated[
        Path | None,
        Parameter(
            name=["--mask", "--inside"],
            help="Mask on the grid of the scan; voxels outside the mask are 0. Needed "
            "without --above and --below.",
        ),
    ] = None,
    out: OutPath,
    config: Annotated[SegmentInsideConfig, AS_FLAGS],
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Segment a scan inside a mask or by a threshold, and write the labels."""
    config.check_inside(inside is not None)
    volume, notes = _opened(input, reading)
    mask, more = (None, []) if inside is None else _opened(inside, reading)
    notes += more
    result, warnings = run_command(
        lambda should_stop: shapes.segment_inside_steps(
            volume, mask, out, config, overwrite=overwrite, should_stop=should_stop
        ),
        stopping=STOPPING,
        out=out,
        notes=notes,
    )
    if json:
        print_json(
            {
                "file": str(result.path),
                "voxels_inside": result.n_inside,
                "threshold": result.threshold,
                "grey_scale": result.scale.to_dict(),
                "fractions": result.fractions,
                "notes": notes,
                "warnings": warnings,
            }
        )
        return 0
    print(f"Wrote {result.path}")
    where, whole = "inside the mask", "the mask"
    if result.threshold is not None:
        place = "above" if config.is_above else "at or below"
        where, whole = f"{place} {result.threshold:.6g}", "these voxels"
    print(f"  {result.n_inside:,} voxels {where} were segmented")
    for label, fraction in result.fractions.items():
        print(f"  label {label}: {100 * fraction:.2f} % of {whole}")
    print(f"  grey scale: {result.scale.in_words}")
    return 0


def compare(
    input: ShapePath,  # noqa: A002  # the name shown in the help
    reference: Annotated[
        Path, Parameter(help="Shape with which the first one is compared.")
    ],
    /,
    *,
    config: Annotated[CompareShapesConfig | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
) -> int:
    """Compare two shapes, and print their agreement."""
    merged = settings_from(CompareShapesConfig, config, settings)
    volume, notes = _opened(input, reading, compares_sizes=True)
    other, more = _opened(reference, reading, compares_sizes=True)
    if not (volume.has_physical_size or other.has_physical_size):
        more.append(f"{volume.title}: {_missing_size(volume)}")
        print_notes(more[-1:])
    result, warnings = run_command(
        lambda should_stop: shapes.compare_shape_steps(
            volume, other, merged, should_stop=should_stop
        ),
        stopping=STOPPING,
    )
    if json:
        notes += more
        print_json({**result.to_dict(), "notes": notes, "warnings": warnings})
        return 0
    unit = result.unit
    print(f"Dice coefficient              {result.dice:.4f}")
    print(f"Hausdorff distance            {result.hausdorff:.4g} {unit}")
    print(f"  95th percentile             {result.hausdorff_95:.4g} {unit}")
    print(f"Mean surface distance         {result.mean_distance:.4g} {unit}")
    print(f"Border Dice within {result.border_distance:.3g} {unit}".ljust(30), end="")
    print(f"{result.border_dice:.4f}")
    print(f"Surface Dice at {result.tolerance:.3g} {unit}".ljust(30), end="")
    print(f"{result.surface_dice:.4f}")
    print(f"Volume error                  {100 * result.volume_error:+.2f} %")
    print(f"Euler numbers                 {result.euler}, {result.reference_euler}")
    return 0


def mesh(
    input: ShapePath,  # noqa: A002  # the name shown in the help
    /,
    *,
    out: Annotated[
        Path, Parameter(alias="-o", help="Mesh to write: .stl, .ply, .obj or .3mf.")
    ],
    config: Annotated[MeshConfig | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Write the surface of a shape as a mesh."""
    merged = settings_from(MeshConfig, config, settings)
    volume, notes = _opened(input, reading, needs_size=True)
    result, warnings = run_command(
        lambda should_stop: shapes.mesh_steps(
            volume, out, merged, overwrite=overwrite, should_stop=should_stop
        ),
        stopping=STOPPING,
    )
    if json:
        print_json(
            {
                **result.to_dict(),
                "notes": notes,
                "statements": result.statements,
                "warnings": [*warnings, *result.warnings],
            }
        )
        return 0
    print(
        f"Wrote {result.path}: {result.n_faces:,} triangles, in {result.unit_in_words}"
    )
    for sentence in (result.coordinates, *result.sentences):
        print(f"  {sentence}")
    share = 100 * (result.volume / result.voxel_volume - 1)
    shown = f"{result.volume:.6g} {result.unit}³"
    print(f"  volume {shown} ({share:+.2f} % relative to the volume of the voxels)")
    return 0


def voxelise(
    input: Annotated[  # noqa: A002  # the name shown in the help
        Path, Parameter(help="Closed mesh: STL, PLY, OBJ or 3MF.")
    ],
    /,
    *,
    out: OutPath,
    like: Annotated[
        Path | None,
        Parameter(
            help="Volume with the voxel grid to use for the result (number, size, "
            "position and directions of voxels), instead of --voxel-size."
        ),
    ] = None,
    config: Annotated[VoxeliseConfig | None, AS_FLAGS] = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Convert a closed mesh to voxels, and write them as labels."""
    chosen = VoxeliseConfig() if config is None else config
    volume, notes = (None, []) if like is None else _opened(like, None, any_part=True)
    result, warnings = run_command(
        lambda should_stop: shapes.voxelise_steps(
            input,
            out,
            chosen,
            like=volume,
            overwrite=overwrite,
            should_stop=should_stop,
        ),
        stopping=STOPPING,
        out=out,
    )
    if json:
        print_json({**result.to_dict(), "notes": notes, "warnings": warnings})
        return 0
    print(f"Wrote {result.path}: {' × '.join(map(str, result.shape))} voxels")
    unit = result.unit
    print(f"  {result.n_voxels:,} voxels inside the mesh: {result.volume:.6g} {unit}³")
    print(f"  volume of the mesh: {result.mesh_volume:.6g} {unit}³")
    return 0


def simulate(
    *,
    out: Annotated[
        Path, Parameter(alias="-o", help="Folder for the volumes. Created if missing.")
    ],
    config: Annotated[SimulateShapesConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Write simulated skulls, with and without a missing part."""
    merged = settings_from(SimulateShapesConfig, config, settings)
    files, warnings = run_command(
        lambda should_stop: shapes.simulate_shape_steps(
            out, merged, overwrite=overwrite, should_stop=should_stop
        ),
        stopping=STOPPING,
    )
    if json:
        print_json({"files": [str(path) for path in files], "warnings": warnings})
        return 0
    print(f"Wrote {len(files)} volumes to {out}")
    if merged.defects != "none":
        suggest_next(f"shapes complete {quoted(files[1])} -o whole.ome.tif")
    return 0
