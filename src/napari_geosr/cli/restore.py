"""``napari-geosr restore``."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_geosr import io
from napari_geosr.cli.kit.console import print_json, run_command
from napari_geosr.cli.kit.options import (
    AS_FLAGS,
    InputPath,
    Json,
    Overwrite,
    SettingsPath,
    settings_from,
)
from napari_geosr.cli.kit.run_plan import check_text, data_text, shape_text
from napari_geosr.cli.kit.verbosity import quoted, suggest_next
from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.text.counts import counted
from napari_geosr.core.types import AnyDict
from napari_geosr.io.suffixes import suffix_of
from napari_geosr.io.unfinished_files.claims import claimed
from napari_geosr.io.unfinished_files.unfinished import find_unfinished
from napari_geosr.jobs.feasibility import time_text
from napari_geosr.operations import restore as restoration
from napari_geosr.operations.inputs import (
    InputConfig,
    check_not_source,
    open_series,
    open_volume,
)
from napari_geosr.operations.inputs.noise_source import (
    OPTIONS,
    NoiseReference,
    NoiseSource,
    with_noise_steps,
)
from napari_geosr.operations.restore.config import RestoreConfig

if TYPE_CHECKING:
    from napari_geosr.core.steps import ShouldStop, Step
    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.restore import (
        ConsistencyCheck,
        RestorationResult,
        RestorePlan,
    )


def restore(
    input: InputPath,  # noqa: A002  # the name shown in the help
    /,
    *others: Annotated[
        Path, Parameter(help="Additional scans of the same object (with --average).")
    ],
    out: Annotated[
        Path,
        Parameter(
            alias="-o",
            help="File to write: .ome.tif, .tif or .ome.zarr. Its folder must exist.",
        ),
    ],
    config: Annotated[RestoreConfig | None, AS_FLAGS] = None,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    noise_source: Annotated[NoiseSource | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    average: Annotated[
        bool,
        Parameter(
            negative="",
            help="Restore every input and write the mean of the results. The inputs "
            "must show the same object: repeated scans, or reconstructions from parts "
            "of the projections.",
        ),
    ] = False,
    resume: Annotated[
        bool,
        Parameter(
            name="--continue",
            negative="",
            help="Resume a run that was stopped or killed; finished tiles are not "
            "computed again.",
        ),
    ] = False,
    check_consistency: Annotated[
        bool,
        Parameter(
            negative="",
            help="Check the result against the scan: blur the result as the scanner "
            "would, and write its difference from the scan as STEM_residual.SUFFIX "
            "next to the output.",
        ),
    ] = False,
    strict: Annotated[
        bool,
        Parameter(
            negative="",
            help="Stop with exit code 2, and write nothing, if the model is expected "
            "to make this scan worse, or if the scan's planes may be frames of a time "
            "series. Uncertain numbers of pores do not stop the run.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        Parameter(
            help="Number of processes that share the work; memory and threads are "
            "divided among them. By default, a single process is used. Requires the "
            "optional dependencies napari-geosr[cluster].",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        Parameter(
            negative="",
            help="Print the plan of the run (shards, memory, time) without writing "
            "anything.",
        ),
    ] = False,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Restore (denoise, super-resolve) a volume with a model, tile by tile.

    All time points and channels of a series are restored in one run, unless --time or
    --channel selects one.
    """
    _check_inputs(1 + len(others), average, workers, dry_run)
    io.check_output(out, overwrite=overwrite, continues=resume)
    if check_consistency:
        restoration.refuse_check(average)
        io.check_output(restoration.residual_path(out), overwrite=overwrite)
    merged = settings_from(RestoreConfig, config, settings)
    open_one = open_volume if average else open_series
    volumes = [open_one(path, reading) for path in (input, *others)]
    reference = _open_reference(noise_source, volumes[0], reading, out, average)
    if dry_run:
        return _show_plan(volumes[0], merged, workers, suffix_of(out), reference, json)
    if check_consistency:
        restoration.refuse_series_check(volumes[0])
    unfinished: AnyDict = {}
    if resume:
        unfinished["unfinished"] = _find_unfinished(out, average)
        if merged.uncertainty != "none":
            unfinished["unfinished_deviation"] = restoration.find_unfinished_deviation(
                out
            )

    def steps(should_stop: ShouldStop) -> Generator[Step, None, RestorationResult]:
        more: AnyDict = {
            "out": out,
            "overwrite": overwrite,
            "look": True,
            "strict": strict,
            "should_stop": should_stop,
        }
        if average:
            average_steps = restoration.restore_average_steps(volumes, merged, **more)
            return (yield from average_steps)
        volume = yield from with_noise_steps(volumes[0], reference, should_stop)
        return (
            yield from restoration.restore_steps(
                volume, merged, workers=workers, **unfinished, **more
            )
        )

    def check_steps(should_stop: ShouldStop) -> Generator[Step, None, ConsistencyCheck]:
        return restoration.consistency_steps(
            volumes[0],
            result.volume,
            out=restoration.residual_path(out),
            overwrite=overwrite,
            workers=workers,
            should_stop=should_stop,
        )

    result, warnings = run_command(steps, out=out)
    checked: ConsistencyCheck | None = None
    if check_consistency and result.complete:
        with claimed(restoration.residual_path(out.expanduser())):
            checked, check_warnings = run_command(check_steps)
        warnings += check_warnings
    if json:
        print_json(_describe(result, warnings, checked))
    elif result.complete:
        print(f"Wrote {_paths_in_words(result)}")
        suggest_next(f"measure {quoted(out)} --reference {quoted(input)} -o report")
        if checked is not None:
            _print_check(checked)
    else:
        print(
            f"Stopped; the finished part is in {_paths_in_words(result)}. To resume, "
            "repeat the command with --continue."
        )
    return 0 if result.complete else 130


def _check_inputs(count: int, average: bool, workers: int | None, plan: bool) -> None:
    """Raise `ConfigError` if options cannot be combined with this number of inputs."""
    if count > 1 and not average:
        raise ConfigError(
            f"{count} inputs are given for one output. Add --average if they "
            "show the same object; otherwise restore them one by one."
        )
    if average and (workers is not None or plan):
        other = "--dry-run" if workers is None else "--workers"
        raise ConfigError(f"--average and {other} cannot be combined: omit one.")


def _open_reference(
    source: NoiseSource | None,
    volume: Volume,
    reading: InputConfig | None,
    out: Path,
    average: bool,
) -> NoiseReference | None:
    """Open the file in which the noise is measured, if one is given."""
    source = source or NoiseSource()
    reference = source.open(volume, reading or InputConfig())
    if reference is None:
        return None
    if average:
        raise ConfigError(
            "With --average, the noise of each input is measured separately: omit "
            f"--average or {OPTIONS[reference.kind]}."
        )
    check_not_source(reference.volume, out)
    return reference


def _show_plan(
    volume: Volume,
    config: RestoreConfig,
    workers: int | None,
    suffix: str,
    reference: NoiseReference | None,
    json: bool,
) -> int:
    """Print what a run would do."""

    def steps(should_stop: ShouldStop) -> Generator[Step, None, RestorePlan]:
        known = yield from with_noise_steps(volume, reference, should_stop)
        return (
            yield from restoration.plan_steps(
                known, config, workers=workers, suffix=suffix, should_stop=should_stop
            )
        )

    plan, warnings = run_command(steps)
    if json:
        print_json(asdict(plan) | {"warnings": warnings})
        return 0
    data = data_text(plan)
    parts = counted(plan.parts, "tile" if workers is None else "shard")
    each = f"; {plan.workers} workers" if workers is not None else ""
    seconds = plan.seconds + plan.check_seconds
    check = f"{check}, and " if (check := check_text(plan)) else ""
    print(
        f"{parts} of {shape_text(plan)} voxels{each}, {plan.threads} CPU "
        f"thread{'s' if plan.threads > 1 else ''}{' each' if each else ''}\n"
        f"{data[:1].upper()}{data[1:]}\n"
        f"Memory: {format_bytes(plan.memory)}{' for each worker' if each else ''}, "
        "in addition to the program and the model\n"
        f"Time: about {time_text(seconds)}, of which {check}"
        f"{time_text(plan.storage_seconds)} to write the result"
    )
    return 0


def _paths_in_words(result: RestorationResult) -> str:
    paths = [result.path]
    if result.deviation is not None:
        paths.append(result.deviation.source)
    return " and ".join(str(path) for path in paths)


def _find_unfinished(out: Path, average: bool) -> Volume:
    """Return the partial result of an earlier run that wrote to `out`."""
    if average:
        raise ConfigError(
            "A run that averages several scans cannot be resumed. Omit --continue."
        )
    return find_unfinished(out)


def _print_check(checked: ConsistencyCheck) -> None:
    residual, *others = checked.figure_lines()
    print("\n".join([f"{residual}, in {checked.path}", *others]))
    if not checked.sentences:
        print(restoration.NOTHING_FOUND)


def _describe(
    result: RestorationResult, warnings: list[str], checked: ConsistencyCheck | None
) -> dict[str, object]:
    volume = result.volume
    return {
        "output": str(result.path),
        "standard_deviation": None
        if result.deviation is None
        else str(result.deviation.source),
        "complete": result.complete,
        "shape": list(volume.shape),
        "axes": volume.axes,
        "dtype": str(volume.dtype),
        "voxel_size": list(volume.voxel_size),
        "unit": volume.unit,
        "origin": list(volume.origin),
        "likeness": result.likeness.level,
        "verdict": None if result.verdict is None else result.verdict.to_json_dict(),
        "warnings": warnings,
        "run": volume.provenance[-1].get("run") if volume.provenance else None,
        "consistency": None if checked is None else checked.to_json_dict(),
    }
