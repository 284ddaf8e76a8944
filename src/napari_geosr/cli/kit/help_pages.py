"""Pages of ``--help``: options in groups, advanced ones last, and examples."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

_EXIT_CODES = (
    "Exit codes: 0 success, 1 a bug in napari-geosr, 2 a problem with the input or "
    "the settings, 130 stopped. Every command accepts -q (--quiet: no progress, no "
    "hints) and -v (--verbose: show where an error occurred)."
)
#: Default values that the help does not show, e.g. the ``False`` of a flag.
_PLAIN_DEFAULTS = {"()", "[]", "{}", "False", "None"}
_METHOD = "Method"
_SCAN_GEOMETRY = "Geometry of the scan"
_CLUSTER = "Cluster"
_ADVANCED = "Advanced"
#: Titles of the groups of options in the order shown, with the names of their options.
#: Options not listed here belong to the group of the method.
_GROUPS: dict[str, str] = {
    "Input": "source target labels projections low high second noise-region blank "
    "reference mask sample "
    "deviation training-images short apply-to "
    "voxel-size low-voxel-size high-voxel-size "
    "unit channel time axes dataset projections-dataset shape dtype nonfinite like "
    "config from-model na wavelength index pixel phases order psf psf-sampling "
    "patterns",
    _SCAN_GEOMETRY: "angles angle-range angle-unit endpoint full-turn geometry "
    "center source-distance detector-distance pixel-size pixel-unit rows every half "
    "frames exposure acquisition",
    "Corrections": "flats darks line-integrals no-line-integrals incident stripes "
    "zingers saturation",
    _METHOD: "",
    "Compute": "device memory threads workers backend engine detach prepare seed",
    _CLUSTER: "template queue profile project partition walltime nodes cores gpus mem "
    "properties memory-property setup python job-folder host remote-command",
    "Output": "out name output-dtype write-labels probabilities implant mesh report "
    "difference restore overwrite-restored overwrite continue dry-run json show list "
    "force format",
    _ADVANCED: "adjacent-slices adversarial adversarial-weight augment averaging "
    "batch-size cells checkpoint-seconds columns computer-kilowatts "
    "consistency-weight counts counts-per-photon country critic-steps critic-width "
    "cycle-weight details dilations distance ensemble-with features final-rate "
    "gradient-clip gradient-penalty histogram-bins identity-weight increase "
    "interval-factor "
    "kilograms-per-kilowatt-hour laboratory-kilowatts large-stripe-size layers "
    "learning-rate levels licence mask-axis mask-length masked minimum-transmission "
    "network network-options normalisation options padding patch "
    "perceptual-weight photon-seed pixel-steps pixel-weight pool-size precision "
    "preview-slice ramp-from ramp-to replacement sampling scan-hours "
    "similarity-index smoothness strategy stripe-contrast stripe-size sub-angles "
    "synchrotron-kilowatts target-light temperature uncertainty-members "
    "validate-every validation warm-up weight width window",
}
#: Groups of the options that belong to another group in certain commands. The key is an
#: option, or a combination of options, that identifies the command.
_EXCEPTIONS: dict[str, dict[str, str]] = {
    "--phases": {"--angles": "Input", "--frames": "Input"},
    "--bleaching": dict.fromkeys(
        (
            "--saturation",
            "--angles",
            "--phases",
            "--order",
            "--na",
            "--wavelength",
            "--pixel",
        ),
        _METHOD,
    ),
    "--spot": {"--precision": _METHOD},
    "--margin": {"--pores": "Input"},
    "--training-images": {"--shape": _METHOD},
    "--painted": {"--shape": _METHOD},
    "--defects --number": {"--shape": _METHOD, "--voxel-size": _METHOD},
    "--porosity --sub-angles": {
        "--projections": _SCAN_GEOMETRY,
        **dict.fromkeys(
            ("--voxel-size", "--unit", "--zingers", "--flats", "--darks"), _METHOD
        ),
    },
    "--job-folder": {"--dry-run": _CLUSTER},
    "--template": {"--options": _CLUSTER},
}
#: Options that take named values: ``--network-options.features 64``.
_WITH_NAMES = ("--network-options", "--options")
_GROUP_OF = {
    f"--{name}": title for title, names in _GROUPS.items() for name in names.split()
}


#: Earlier names and alternative spellings of options, which the help omits.
_OTHER_NAMES = {
    "--band-factor",
    "--centre",
    "--centre-offset",
    "--inside",
    "--labels",
    "--noise",
    "--sample-mask",
    "--scan-dataset",
}
#: Earlier names that now belong to another option, keyed by the current name of the
#: renamed option.
_EARLIER_NAMES = {"--deviation": "--uncertainty"}


class GroupedFormatter(DefaultFormatter):
    """Prints options in groups instead of in one long table.

    Parameters
    ----------
    omitted : iterable of str
        Options without effect in the command; they are left out of its help.
    """

    def __init__(self, omitted: Iterable[str] = ()) -> None:
        super().__init__()
        self._omitted = frozenset(omitted)

    def __call__(
        self, console: Console, options: ConsoleOptions, panel: HelpPanel
    ) -> None:
        """Split a cyclopts table into several tables."""
        entries = [e for e in panel.entries if not self._omitted & set(e.names)]
        for part in split_into_groups(panel.copy(entries=entries)):
            super().__call__(console, options, part)

    def render_usage(
        self, console: Console, options: ConsoleOptions, usage: Any
    ) -> None:
        """Print the usage line of the command with the names of its arguments."""
        text = str(usage).replace("[ARGS...]", "[OTHERS...]")
        # A group that is a command itself: sim, simulate.
        text = text.replace(" COMMAND --out", " [COMMAND] --out")
        text = text.replace(" train COMMAND", " train METHOD")
        super().render_usage(console, options, text)


def split_into_groups(panel: HelpPanel) -> Iterator[HelpPanel]:
    """Yield the parts of a table of options, each under the title of its group.

    Tables of commands and short tables are not split.
    """
    entries = [_readable(entry) for entry in panel.entries]
    options = [entry for entry in entries if entry.names and not entry.positional_label]
    if panel.format != "parameter" or len(options) < 6:
        title = "Options" if panel.title == "Parameters" else panel.title
        yield panel.copy(title=title, entries=[_with_name_of_value(e) for e in entries])
        return
    arguments = [entry for entry in entries if entry not in options]
    if arguments:
        yield panel.copy(title="Arguments", entries=arguments)
    named = {name for entry in options for name in entry.names}
    exceptions = {
        name: title
        for marks, groups in _EXCEPTIONS.items()
        if named.issuperset(marks.split())
        for name, title in groups.items()
    }
    for title in _GROUPS:
        members = [e for e in options if _group(e, exceptions) == title]
        if title == _CLUSTER:
            members.sort(key=_place_in_cluster)
        if members:
            shown = [_with_name_of_value(entry) for entry in members]
            yield panel.copy(title=title, entries=shown)


def with_examples(*lines: str) -> str:
    """Return the text below a command's help tables: examples and exit codes."""
    if not lines:
        return _EXIT_CODES
    shown = (f"- `napari-geosr {line}`" for line in lines)
    return "\n".join(("Examples:", "", *shown, "", _EXIT_CODES))


def _place_in_cluster(entry: HelpEntry) -> int:
    """Return the position of an option in its group; unlisted options come last."""
    names = _GROUPS[_CLUSTER].split()
    name = entry.names[0].removeprefix("--")
    return names.index(name) if name in names else len(names)


def _readable(entry: HelpEntry) -> HelpEntry:
    return _with_one_name(_with_readable_default(entry))


def _with_name_of_value(entry: HelpEntry) -> HelpEntry:
    """Show the form ``--options.NAME VALUE``, which cyclopts omits."""
    if entry.metavar is not None or not {*_WITH_NAMES}.intersection(entry.names):
        return entry
    names = tuple(f"{name}.NAME" for name in entry.positive_names)
    return entry.copy(positive_names=names, metavar="VALUE")


def _group(entry: HelpEntry, exceptions: dict[str, str]) -> str:
    groups = (exceptions.get(name, _GROUP_OF.get(name)) for name in entry.names)
    return next((title for title in groups if title), _METHOD)


def _with_one_name(entry: HelpEntry) -> HelpEntry:
    """Remove the earlier names of an option."""
    first, *others = entry.positive_names or ("",)
    omitted = {*_OTHER_NAMES, _EARLIER_NAMES.get(first, "")}
    names = (first, *(name for name in others if name not in omitted))
    return entry.copy(positive_names=names) if first else entry


def _with_readable_default(entry: HelpEntry) -> HelpEntry:
    """Write the default as it would be typed; omit empty values, False and None."""
    default = entry.default
    if default is None:
        return entry
    if default in _PLAIN_DEFAULTS:
        return entry.copy(default=None)
    if default.startswith("("):
        values = literal_eval(default)
        return entry.copy(default=",".join(map(str, values)))
    return entry
