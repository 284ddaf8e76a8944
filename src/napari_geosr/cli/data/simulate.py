"""``napari-geosr simulate``."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from napari_geosr.cli.commands import EXAMPLES
from napari_geosr.cli.kit.console import STOPPING, print_json, run_command
from napari_geosr.cli.kit.help_pages import with_examples
from napari_geosr.cli.kit.options import (
    AS_FLAGS,
    Json,
    OutFolder,
    Overwrite,
    SettingsPath,
    settings_from,
)
from napari_geosr.cli.kit.verbosity import quoted, suggest_next
from napari_geosr.operations.sim import SimulateSimConfig, simulate_sim_steps
from napari_geosr.operations.simulate import simulate_radiographs_steps, simulate_steps
from napari_geosr.operations.simulate.config import (
    SimulateConfig,
    SimulateRadiographsConfig,
    StructureName,
)

app = App(name="simulate", help_epilogue=with_examples(*EXAMPLES["simulate"]))
app.command(
    "napari_geosr.cli.shapes:simulate",
    name="skulls",
    help="Simulate skull-like shapes with and without a missing part.",
    help_epilogue=with_examples(*EXAMPLES["simulate skulls"]),
)

_OFFSET: Any = SimulateConfig.model_fields["centre_offset"]


class SimulateFlags(SimulateConfig):
    """Settings of a simulation; the option for the centre has two spellings."""

    centre_offset: Annotated[
        float, Parameter(name=["--center-offset", "--centre-offset"])
    ] = _OFFSET


@app.default
def simulate(
    structure: Annotated[
        StructureName,
        Parameter(
            help="foam: spherical pores; blobs: irregular pores; bone: trabecular "
            "bone; lacunae: the cavities that contain bone cells; dentin: dentinal "
            "tubules with their branches and peritubular cuffs; cells: bone cells and "
            "the canaliculi that connect them."
        ),
    ],
    /,
    *,
    out: OutFolder,
    config: Annotated[SimulateFlags | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Simulate the scan of a sample of known porosity and write it.

    Each option is documented in its declaration.

    Returns
    -------
    int
        Exit code.
    """
    merged = settings_from(SimulateConfig, config, settings)
    made, warnings = run_command(
        lambda should_stop: simulate_steps(
            structure, out, merged, overwrite=overwrite, should_stop=should_stop
        ),
        stopping=STOPPING,
    )
    files = {key: str(path) for key, path in made.files.items()}
    if json:
        print_json({**made.truth, "files": files, "warnings": warnings})
        return 0
    requested = 100 * merged.pores(structure)["porosity"]
    print(
        f"True porosity: {100 * made.truth['porosity']:.3f} % of the sample volume "
        f"({requested:g} % requested)"
    )
    at_half = 100 * made.truth["porosity_at_half_contrast"]
    print(
        "  With a threshold at half the contrast, the true object has a porosity of "
        f"{at_half:.3f} %, because voxels at the surface of a pore are only partly "
        "inside it"
    )
    print(f"Wrote {files['projections']}")
    print(f"  truth: {files['truth']}, sample: {files['sample']}")
    suggest_next(f"reconstruct {quoted(files['projections'])} -o volume.ome.tif")
    return 0


@app.command(
    name="sim",
    help="Simulate raw frames of a known object under structured illumination.",
    help_epilogue=with_examples(*EXAMPLES["simulate sim"]),
)
def simulate_sim(
    *,
    out: OutFolder,
    config: Annotated[SimulateSimConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Simulate raw frames of a known object under structured illumination.

    Each option is documented in its declaration.

    Returns
    -------
    int
        Exit code.
    """
    merged = settings_from(SimulateSimConfig, config, settings)
    made, warnings = run_command(
        lambda should_stop: simulate_sim_steps(
            out, merged, overwrite=overwrite, should_stop=should_stop
        ),
        stopping=STOPPING,
    )
    files = {key: str(path) for key, path in made.files.items()}
    if json:
        print_json(
            {
                "files": files,
                "patterns": made.patterns.to_dict(),
                "settings": merged.model_dump(mode="json"),
                "warnings": warnings,
            }
        )
        return 0
    print(f"Wrote {files['raw']}")
    print(f"  truth: {files['truth']}, patterns: {files['patterns']}")
    suggest_next(f"sim {quoted(files['raw'])} -o sim.ome.tif")
    return 0


@app.command(
    name="radiographs",
    help="Simulate radiographs in which the tissue or organ of each pixel is known.",
    help_epilogue=with_examples(*EXAMPLES["simulate radiographs"]),
)
def simulate_radiographs(
    *,
    out: OutFolder,
    config: Annotated[SimulateRadiographsConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Simulate radiographs in which the tissue or organ of each pixel is known.

    Each option is documented in its declaration.

    Returns
    -------
    int
        Exit code.
    """
    merged = settings_from(SimulateRadiographsConfig, config, settings)
    made, warnings = run_command(
        lambda should_stop: simulate_radiographs_steps(
            out, merged, overwrite=overwrite, should_stop=should_stop
        ),
        stopping=STOPPING,
    )
    files = {key: str(path) for key, path in made.files.items()}
    if json:
        print_json({"files": files, "shares": made.shares, "warnings": warnings})
        return 0
    print(f"Wrote {files['radiographs']}")
    for key in ("labels", "painted"):
        if key in files:
            print(f"  {key}: {files[key]}")
    for k, (name, share) in enumerate(made.shares.items()):
        print(f"  {k} {name}: {100 * share:.1f} % of the pixels")
    objects = "restorations" if merged.kind == "dental" else "metal objects"
    print(f"  255: {objects}, which are not evaluated")
    suggest_next(f"train ddpm --source {quoted(files['radiographs'])} -o prior")
    return 0
