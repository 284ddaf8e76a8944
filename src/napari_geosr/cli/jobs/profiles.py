"""``napari-geosr profiles list | new | show | test``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_geosr.cli.kit.console import print_json, print_notes, run_command
from napari_geosr.cli.kit.elsewhere import on_any_host
from napari_geosr.cli.kit.options import AS_FLAGS, Json, Overwrite
from napari_geosr.cli.kit.queue_options import ProfileOptions
from napari_geosr.core.errors import ConfigError, GeoSRError
from napari_geosr.core.text.counts import counted
from napari_geosr.core.types import AnyDict
from napari_geosr.core.version import __version__
from napari_geosr.jobs.cluster import submission
from napari_geosr.jobs.cluster.login_node import check_host
from napari_geosr.jobs.cluster.probe import probe_steps
from napari_geosr.jobs.cluster.profiles import (
    TEMPLATES,
    Profile,
    check_new_name,
    load_profile,
    own_profiles,
    profile_path,
    save_profile,
)

Name = Annotated[str, Parameter(help="Name of the profile.")]
#: Fields of a profile, and the questions about them that `profiles new` asks in a
#: terminal.
_QUESTIONS = (
    ("project", "Project or account to which the computing time is charged"),
    ("walltime", "Time limit of one run (2:00:00, 90min, 12h)"),
    ("cores", "CPU cores"),
    ("gpus", "Graphics cards (GPUs)"),
    ("setup", "Command to run before each job, such as: module load cuda (optional)"),
)


@on_any_host
def list_profiles(*, json: Json = False) -> int:
    """List your own profiles and the templates; return the exit code."""
    own, damaged = dict[str, Profile](), dict[str, str]()
    for name in own_profiles():
        try:
            own[name] = load_profile(name)
        except GeoSRError as error:
            damaged[name] = str(error)
    known = own.keys() | damaged
    templates = {k: v for k, v in TEMPLATES.items() if k not in known}
    if json:
        groups = {"profiles": own, "templates": templates}
        listed: AnyDict = {
            group: {name: one.model_dump(mode="json") for name, one in found.items()}
            for group, found in groups.items()
        }
        print_json(listed | ({"damaged": damaged} if damaged else {}))
        return 0
    for name, profile in own.items():
        print(f"{name:<14} {_summary(profile)}")
    for name, profile in templates.items():
        print(f"{name:<14} {_summary(profile)} (template)")
    print_notes(
        f"The profile {name!r} cannot be used. {error}"
        for name, error in damaged.items()
    )
    return 0


def show_profiles(name: Name, /, *, json: Json = False) -> int:
    """Show a profile as YAML; return the exit code."""
    profile = load_profile(name)
    if json:
        print_json(profile.model_dump(mode="json"))
        return 0
    path = profile_path(name)
    print(f"# {path if path.is_file() else 'template (no file)'}")
    print(profile.to_yaml(), end="")
    return 0


def new_profiles(
    name: Name,
    /,
    *,
    template: Annotated[
        str | None,
        Parameter(help="Profile to start from: gricad, oar, slurm or your own."),
    ] = None,
    settings: Annotated[ProfileOptions | None, AS_FLAGS] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """Create a profile from a template and options, or from answers in a terminal.

    Returns
    -------
    int
        Exit code.
    """
    check_new_name(name, overwrite=overwrite)
    given = {} if settings is None else settings.changes()
    if template is None:
        template = _ask_template() if _can_ask() else ""
    if not template:
        known = ", ".join([*TEMPLATES, *own_profiles()])
        raise ConfigError(
            f"Choose the profile to start from: --template with one of {known}. "
            "Questions are asked only in a terminal; otherwise, give the answers as "
            "options, such as --walltime 12h."
        )
    base = load_profile(template)
    if not given and _can_ask():
        given = _ask_all(base)
    profile = Profile.create(**(base.model_dump() | given))
    submission.check_profile(profile)
    if profile.host:
        check_host(profile.host)
    path = save_profile(name, profile, overwrite=overwrite)
    if json:
        print_json({"profile": name, "file": str(path)})
        return 0
    print(f"Wrote {path}")
    print(f"Test it with: napari-geosr profiles test {name}")
    return 0


@on_any_host
def probe_profiles(
    name: Name,
    /,
    *,
    folder: Annotated[
        Path,
        Parameter(
            help="Folder that the nodes must be able to access, such as the folder "
            "with your scans.",
        ),
    ] = Path(),
    timeout: Annotated[
        float, Parameter(help="Maximum time to wait for the test job, in seconds.")
    ] = 600.0,
    json: Json = False,
) -> int:
    """Check with a small job that nodes can access a folder and start napari-geosr.

    Returns
    -------
    int
        Exit code.
    """
    profile = load_profile(name)
    answer, _ = run_command(
        lambda should_stop: probe_steps(
            profile, folder, max_seconds=timeout, should_stop=should_stop
        ),
        stopping="stopping; the test job will be cancelled",
    )
    if json:
        print_json({"profile": name, **vars(answer)})
    else:
        print(
            f"{name} works: node {answer.host} can access {folder.resolve()} and "
            f"started napari-geosr {answer.version} after {answer.seconds:g} s."
        )
    notes = []
    if answer.version != __version__:
        notes.append(
            f"The node has napari-geosr {answer.version}, but this computer has "
            f"{__version__}. Options and results may differ."
        )
    if not answer.torch:
        notes.append(
            "Torch cannot be imported on the node, so models cannot run there."
        )
    print_notes(notes)
    return 0


def _summary(profile: Profile) -> str:
    parts = [profile.queue, counted(profile.cores, "core")]
    if profile.gpus:
        parts.append(counted(profile.gpus, "GPU"))
    parts += [part for part in (profile.memory, profile.walltime) if part]
    if profile.project:
        parts.append(f"project {profile.project}")
    elif profile.needs_project:
        parts.append("project required")
    return ", ".join(parts)


def _can_ask() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(question: str, default: str, check: Callable[[str], object]) -> str:
    """Ask a question until the answer passes the check.

    Raises
    ------
    ConfigError
        If there are no further answers; the message says why the last one is invalid.
    """
    shown = f" [{default}]" if default else ""
    while True:
        print(f"{question}{shown}: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        answer = line.strip() or default
        try:
            check(answer)
        except ConfigError as error:
            if not line:  # the end of the input
                raise
            print(f"  {error}", file=sys.stderr, flush=True)
        else:
            return answer


def _ask_template() -> str:
    return _ask("Cluster: gricad, oar or slurm", "slurm", load_profile)


def _ask_all(base: Profile) -> AnyDict:
    """Ask the questions and return the answers, keyed by field."""
    given: AnyDict = {}
    for field, question in _QUESTIONS:
        default = getattr(base, field)
        shown = "; ".join(default) if isinstance(default, tuple) else str(default)

        def check(
            text: str, field: str = field, shown: str = shown, default: object = default
        ) -> None:
            value = (text,) if isinstance(default, tuple) else text
            change = {} if text == shown else {field: value}
            profile = Profile.create(**(base.model_dump() | given | change))
            if field in ("project", "setup"):
                submission.check_profile(profile)
            given.update(change)

        _ask(question, shown, check)
    return given
