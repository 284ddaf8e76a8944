"""``napari-geosr pairs``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_origin

from cyclopts import Parameter
from pydantic import Field, create_model

from napari_geosr.cli.kit.console import STOPPING, MakeSteps, print_json, run_command
from napari_geosr.cli.kit.options import (
    AS_FLAGS,
    Json,
    OutFolder,
    Overwrite,
    SettingsPath,
)
from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.operations.pairs import pairs_steps
from napari_geosr.operations.pairs.config import (
    DegradeConfig,
    PairConfig,
    PairsConfig,
    PairsInput,
    imaging_options,
)
from napari_geosr.operations.pairs.degraded import degrade_steps
from napari_geosr.operations.pairs.inputs import open_high, open_low
from napari_geosr.operations.pairs.quality import report_lines

if TYPE_CHECKING:
    from napari_geosr.operations.pairs import Pairs


#: Options that are not named after their fields: the main name is ``--noise-level``,
#: because ``--noise`` is a flag in other commands.
_NAMES = {"noise": ("--noise-level", "--noise")}


def _imaging_flags() -> type[Config]:
    """Create flags for the settings of all modalities, including those of plugins.

    Lists of numbers can only be set in a settings file (``options``).
    """
    fields: AnyDict = {
        name: (
            Annotated[kind | None, Parameter(name=_NAMES.get(name), negative="")],
            Field(None, title=title, description=help_),
        )
        for name, (kind, title, help_) in imaging_options().items()
        if get_origin(kind) is not tuple
    }
    return create_model("ImagingFlags", __base__=Config, **fields)


def pairs(
    *,
    high: Annotated[Path, Parameter(help="High-resolution scan.")],
    out: OutFolder,
    low: Annotated[
        Path | None,
        Parameter(
            help="Low-resolution scan of the same object, to which the high-resolution "
            "scan is aligned."
        ),
    ] = None,
    degrade: Annotated[
        str | None,
        Parameter(
            help="Simulate the low-resolution scan from the high-resolution one: ct, "
            "fluo for fluorescence, or fluo-scan for a confocal scan that skips voxels."
        ),
    ] = None,
    like: Annotated[
        Path | None,
        Parameter(
            help="With --degrade: real scan of the same material, from which blur, "
            "noise and grey values are copied.",
        ),
    ] = None,
    config: Annotated[PairsConfig | None, AS_FLAGS] = None,
    imaging: Config | None = None,
    reading: Annotated[PairsInput | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Build training pairs for super-resolution from two scans or from one.

    With --low and --high, the scans are aligned, cropped to the common region and
    written with measures of their quality. With --high and --degrade, the
    low-resolution scan is simulated.
    """
    if (low is None) == (degrade is None):
        raise ConfigError(
            "Give a low-resolution scan to align with (--low), or simulate one "
            "(--degrade ct), but not both."
        )
    given = {} if config is None else config.model_dump(exclude_unset=True)
    set_imaging = {} if imaging is None else imaging.model_dump(exclude_none=True)
    make_steps: MakeSteps[Pairs]
    if low is not None:
        _refuse_unused([*set_imaging, *([] if like is None else ["like"])], "--degrade")
        aligning = PairsConfig.create(**(_read_settings(PairsConfig, settings) | given))
        coarse, fine = open_low(low, reading), open_high(high, reading)
        make_steps = lambda should_stop: pairs_steps(  # noqa: E731
            coarse, fine, out, aligning, overwrite=overwrite, should_stop=should_stop
        )
    else:
        _refuse_unused(given.keys() - PairConfig.model_fields.keys(), "--low")
        stored = _read_settings(DegradeConfig, settings)
        options = {**stored.pop("options", {}), **set_imaging}
        values = {**stored, **given, "degrade": degrade, "options": options}
        imaged = DegradeConfig.create(**values)
        fine = open_high(high, reading)
        real = None if like is None else open_low(like, reading)
        make_steps = lambda should_stop: degrade_steps(  # noqa: E731
            fine, out, imaged, like=real, overwrite=overwrite, should_stop=should_stop
        )
    done, _ = run_command(make_steps, stopping=STOPPING)
    if json:
        files = {key: str(path) for key, path in done.files.items()}
        print_json({**done.report, "files": files})
    else:
        _print(done)
    return 0


pairs.__annotations__["imaging"] = Annotated[_imaging_flags() | None, AS_FLAGS]


def _read_settings(kind: type[Config], path: Path | None) -> AnyDict:
    if path is None:
        return {}
    return kind.from_yaml(path).model_dump(exclude_unset=True)


def _refuse_unused(names: Iterable[str], needs: str) -> None:
    """Raise an error for flags that would have no effect."""
    flags = sorted(f"--{name.replace('_', '-')}" for name in names)
    if flags:
        them = "it" if len(flags) == 1 else "them"
        raise ConfigError(
            f"{', '.join(flags)} can only be used with {needs}. Omit {them}, or "
            f"give {needs}."
        )


def _print(done: Pairs) -> None:
    for line in report_lines(done.report):
        print(line)
    print(f"Wrote {done.files['low']}")
    print(f"  and {done.files['high'].name}, {done.files['picture'].name}, ", end="")
    print(done.files["report"].name)
    if done.report["train"]:
        print(f"Train with: {done.report['train']}")
