"""``napari-geosr models list | show | rank | calibrate | verify | import | …``."""

from __future__ import annotations

import math
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_geosr.cli.kit.console import STOPPING, print_json, print_notes, run_command
from napari_geosr.cli.kit.options import AS_FLAGS, InputPath, Json, Overwrite
from napari_geosr.cli.kit.verbosity import quoted, suggest_next
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.core.text.vocabulary import Modality, Task
from napari_geosr.core.units import require_unit
from napari_geosr.operations import models
from napari_geosr.operations.inputs import InputConfig, open_volume
from napari_geosr.operations.inputs.noise_source import NoiseSource, with_noise_steps
from napari_geosr.operations.inputs.scan import describe_level, input_warnings
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.models.calibrating import CalibrationConfig
from napari_geosr.operations.models.formats import format_help, source_help
from napari_geosr.operations.restore import ranking
from napari_geosr.operations.restore.ranking.config import RankConfig

if TYPE_CHECKING:
    from napari_geosr.operations.models.catalogue import ZooEntry
    from napari_geosr.operations.restore.ranking import Ranking, RankingEntry


def list_models(
    *,
    task: Annotated[
        Task | None,
        Parameter(help="List only models for this task."),
    ] = None,
    modality: Annotated[
        Modality | None,
        Parameter(
            help="List only models for this kind of image, and those for which the "
            "kind is unknown."
        ),
    ] = None,
    voxel_size: Annotated[
        float | None,
        Parameter(
            help="List only models trained for this voxel size (within a factor of 2) "
            "or for any voxel size."
        ),
    ] = None,
    unit: Annotated[str, Parameter(help="Unit of the voxel size.")] = "µm",
    json: Json = False,
) -> int:
    """List the bundled models and those in the user's folder."""
    from rich.console import Console

    criteria = catalogue.ModelFilter(task, modality, voxel_size, require_unit(unit))
    entries, damaged = catalogue.list_models(criteria), catalogue.damaged()
    if json:
        rows = [catalogue.summary(entry) for entry in entries]
        print_json({"models": rows, "damaged": damaged})
        return 0
    Console().print(_table(entries))
    if criteria == catalogue.ModelFilter():
        names = ", ".join(catalogue.names_for_shapes())
        print(f"Models for binary shapes (napari-geosr shapes): {names}")
    folders = sorted({str(e.path.parent) for e in entries if not e.bundled})
    for folder in folders:
        print(f"Your own models are in {folder}")
    for reason in damaged.values():
        print(f"! damaged: {reason}", file=sys.stderr)
    if entries:
        suggest_next(f"models show {quoted(entries[0].name)}")
    return 0


def _table(entries: list[ZooEntry]) -> Any:
    from rich.markup import escape
    from rich.table import Column, Table

    table = Table(
        Column("name", no_wrap=True),  # users must be able to copy names
        Column("task", no_wrap=True),
        Column("images", no_wrap=True),
        Column("works on", no_wrap=True),
        Column("weights", justify="right", no_wrap=True),
        Column("source", no_wrap=True),
        box=None,
    )
    for entry in entries:
        card = entry.card
        finer = f" ×{card.upscale_factor}" if card.upscale_factor > 1 else ""
        table.add_row(
            escape(card.name),
            f"{card.task}{finer}",
            ", ".join(card.modalities) or "any",
            "3D" if card.axes == "ZYX" and card.has_weights else "2D, 3D",
            f"{card.n_parameters:,}" if card.has_weights else "–",
            "bundled" if entry.bundled else "own",
        )
    return table


def show_models(name: catalogue.ModelName, /, *, json: Json = False) -> int:
    """Show a model's card: its intended use, limits and metrics.

    The command fails if the weights are damaged or do not match the card.

    Parameters
    ----------
    name
        Name of a model, as shown by `models list`, or path of its folder (bundle).
    """
    from rich.console import Console

    card = catalogue.checked_card(name)
    if json:
        print_json(card.model_dump(mode="json"))
        return 0
    Console().print(catalogue.card_text(card), highlight=False, markup=False)
    if name in catalogue.names_for_shapes():
        suggest_next("shapes --help")
    else:
        suggest_next(f"restore scan.tif -m {quoted(name)} -o restored.ome.tif")
    return 0


def rank_models(
    input: InputPath,  # noqa: A002  # the name shown in the help
    /,
    *,
    config: Annotated[RankConfig | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    noise_source: Annotated[NoiseSource | None, AS_FLAGS] = None,
    json: Json = False,
) -> int:
    """Compare models, classical filters and the unchanged scan.

    The expected error of each candidate on this scan is estimated from a few blocks,
    without ground truth; `restore --model auto` uses the best. If a second scan is
    given, errors are measured against it. With an upscale factor, super-resolution
    models are compared with cubic interpolation.
    """
    from rich.console import Console

    volume = open_volume(input, reading)
    reading = reading or InputConfig()
    reference = None if noise_source is None else noise_source.open(volume, reading)
    notes = input_warnings(volume)

    def steps(should_stop: ShouldStop) -> Generator[Step, None, Ranking]:
        known = yield from with_noise_steps(volume, reference, should_stop)
        return (yield from ranking.rank_steps(known, config, should_stop))

    ranked, warnings = run_command(steps, stopping=STOPPING)
    if json:
        print_json({**ranked.to_json_dict(), "warnings": [*notes, *warnings]})
        return 0
    print_notes(notes)
    print(f"{describe_level(ranked.noise)}.")
    Console().print(_ranking_table(ranked))
    for name, reason in ranked.skipped.items():
        print(_left_out(name, reason))
    print(ranked.reason)
    factor = ranked.upscale_factor
    words = "" if factor == 1 else f" --upscale-factor {factor}"
    if factor > 1 and config is not None and config.sharpness != "scan":
        words += f" --sharpness {config.sharpness}"
    suggest_next(f"restore {quoted(input)} -m auto{words} -o restored.ome.tif")
    return 0


def _left_out(name: str, reason: str) -> str:
    """State why a model was left out of the ranking, naming the model only once."""
    if reason.startswith(f"{name} "):
        return f"Left out: {reason}"
    return f"Not compared: {name} ({reason.rstrip('.')})"


def _ranking_table(ranking: Ranking) -> Any:
    from rich.markup import escape
    from rich.table import Column, Table

    over = "" if ranking.gain_over == "scan" else " over cubic"
    table = Table(
        Column("", no_wrap=True),
        Column("model", overflow="fold"),
        Column(f"expected gain{over}", overflow="fold"),
        Column("expected error", no_wrap=True),
        Column("" if over else "fitted setting", no_wrap=True),
        box=None,
    )
    for row in ranking.rows:
        table.add_row(
            "→" if row.name == ranking.choice else "",
            escape(row.name),
            row.gain_text if row.gain or row.interval != (0, 0) else "0 dB",
            f"{row.error:.3g}" if math.isfinite(row.error) else "–",
            _fitted_strength(row),
        )
    return table


def _fitted_strength(row: RankingEntry) -> str:
    if row.run_strength != 1:
        return f"strength {row.run_strength:g}"
    return "" if row.strength is None else f"{row.strength:.2f}"


def calibrate_models(
    name: catalogue.ModelName,
    /,
    *,
    config: Annotated[CalibrationConfig | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    json: Json = False,
) -> int:
    """Calibrate the porosity interval of one of your own models.

    Each source is restored with standard deviations, and its porosity is compared with
    that of its target. The width of the interval is chosen so that it contains the
    porosity of 90 % of scans of the same kind, and is recorded on the model's card.

    Parameters
    ----------
    name
        Name of a model, as shown by `models list`, or path of its folder (bundle).
    """
    found, warnings = run_command(
        lambda should_stop: models.calibrate_steps(
            name, config or CalibrationConfig(), reading, should_stop
        ),
        stopping=STOPPING,
    )
    if json:
        print_json({**found.model_dump(mode="json"), "warnings": warnings})
        return 0
    print(
        f"Calibrated {name} on {found.scans} scans: the interval extends over "
        f"{found.factor:g} standard deviations on either side and contains the "
        f"porosity with a probability of at least "
        f"{100 * found.nominal:g} %."
    )
    if found.quantile_shift is not None:
        way = "inwards" if found.quantile_shift < 0 else "outwards"
        print(
            "Without the file of standard deviations, the interval lies between the "
            "quantiles of the samples' porosities, each moved "
            f"{100 * abs(found.quantile_shift):.3g} percentage points {way}."
        )
    suggest_next(
        f"restore scan.tif -m {quoted(str(name))} --uncertainty {found.kind} "
        f"--uncertainty-members {found.members} -o restored.ome.tif"
    )
    return 0


def verify_models(path: Path, /, *, json: Json = False) -> int:
    """Check a model bundle: card, checksum, weights and halo.

    Bundles contain no code, so nothing is executed.

    Parameters
    ----------
    path
        Folder or zip file with card.yaml and weights.safetensors.
    """
    card = catalogue.verify(path)
    if json:
        print_json({"path": str(path), "name": card.name, "valid": True})
    else:
        print(f"{path}: {card.name} is complete and undamaged.")
    return 0


def import_models(
    source: Annotated[
        str, Parameter(help=f"Model to import: {source_help()}; or a bundle.")
    ],
    /,
    *,
    name: Annotated[
        str | None,
        Parameter(help="Name of the imported model; by default the name of its file."),
    ] = None,
    channel: Annotated[
        int | None,
        Parameter(
            help="Output channel to use, for models with several output channels."
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Import a third-party model as a bundle, without executing its code.

    The receptive field of the network is measured, and its result is compared with the
    reference supplied with the model, if any. A napari-geosr bundle is copied.
    """
    imported, notes = run_command(
        lambda should_stop: models.import_steps(
            source, name=name, channel=channel, should_stop=should_stop
        ),
        stopping=STOPPING,
    )
    if json:
        print_json({"name": imported.name, "path": str(imported.path), "notes": notes})
    else:
        print(f"Imported as {imported.name} into {imported.path}")
        print(f"Show its intended use with: napari-geosr models show {imported.name}")
    return 0


def export_models(
    name: catalogue.ModelName,
    /,
    *,
    format: Annotated[  # noqa: A002  # the flag's name
        str, Parameter(help=f"Format to write: {format_help()}.")
    ],
    out: Annotated[
        Path,
        Parameter(alias="-o", help="File to write; its suffix must match the format."),
    ],
    like: Annotated[
        Path | None,
        Parameter(
            help="Scan with the noise that the exported model should remove. Required "
            "for models that take the noise level as input."
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Export a model for other programs and compare its result with the original.

    Parameters
    ----------
    name
        Name of a model, as shown by `models list`, or path of its folder (bundle).
    """
    exported, notes = run_command(
        lambda should_stop: models.export_steps(
            name, format, out, like=like, overwrite=overwrite, should_stop=should_stop
        ),
        stopping=STOPPING,
    )
    if json:
        print_json(
            {
                "path": str(exported.path),
                "format": format,
                "largest_difference": exported.difference,
                "notes": notes,
            }
        )
    else:
        print(
            f"{exported.path}: on a test patch, its results agree with those of the "
            f"original model to within {exported.difference:.1g} standard deviations"
        )
    return 0


def remove_models(name: catalogue.ModelName, /) -> int:
    """Delete one of your own models; bundled models cannot be deleted.

    Parameters
    ----------
    name
        Name of the model, as shown by `models list`.
    """
    print(f"Removed {catalogue.remove(name)}")
    return 0
