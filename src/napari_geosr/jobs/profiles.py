"""Profiles: what a cluster needs to know of every job, asked once and kept by name."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Self

from platformdirs import user_config_path
from pydantic import Field, field_validator, model_validator

from napari_geosr.core.config import Config, parse_bytes
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.io import atomic

#: Shortest walltime, in seconds: SLURM counts in minutes.
_MIN_WALLTIME = 60
#: Names of projects, partitions and the like: one word, never an option.
_WORD = re.compile(r"[A-Za-z0-9_][\w.@:+,-]*", re.ASCII)
_PROPERTY = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+)-)?(\d{1,5}):(\d\d)(?::(\d\d))?", re.ASCII)
_UNITS = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|min|m|s)[a-z]*", re.ASCII)
_SECONDS = {"d": 86400, "h": 3600, "min": 60, "m": 60, "s": 1}


class Profile(Config):
    """What a job asks of a queue: resources, project and how Python is started."""

    queue: str = Field(
        "slurm", title="Queue", description="Queue system: slurm, oar or local."
    )
    project: str = Field(
        "",
        title="Project",
        description="Project (OAR) or account (SLURM) that the time is charged to.",
    )
    needs_project: bool = Field(
        False,
        title="Project needed",
        description="Whether the cluster refuses jobs without a project.",
    )
    partition: str = Field(
        "",
        title="Partition",
        description="Partition (SLURM) or queue (OAR); by default the cluster's own.",
    )
    walltime: str = Field(
        "2:00:00",
        title="Walltime",
        description="Time limit of one run, such as 2:00:00, 90min or 12h. A "
        "longer job is resubmitted and resumes.",
    )
    nodes: int = Field(
        1, ge=1, le=10_000, title="Nodes", description="Number of nodes."
    )
    cores: int = Field(
        4, ge=1, le=10_000, title="Cores", description="CPU cores on each node."
    )
    gpus: int = Field(0, ge=0, le=64, title="GPUs", description="GPUs per node.")
    memory: str = Field(
        "",
        title="Memory",
        description="Memory on each node, such as 64GB; by default the cluster's own.",
    )
    memory_property: str = Field(
        "",
        title="Memory property",
        description="OAR: property of the nodes that gives the memory per core in MB.",
    )
    properties: str = Field(
        "",
        title="Properties",
        description="Nodes to use: a constraint (SLURM), or a condition such as "
        "gpumodel='A100' (OAR).",
    )
    setup: tuple[str, ...] = Field(
        (),
        title="Setup",
        description="Shell commands before the job, such as module load cuda.",
    )
    python: str = Field(
        "",
        title="Python",
        description="Python with napari-geosr on the nodes; by default the one that "
        "submits the job.",
    )
    options: tuple[str, ...] = Field(
        (),
        title="Options",
        description="Additional options for sbatch or oarsub, one per entry.",
    )
    host: str = Field(
        "",
        title="Login node",
        description="Computer on which commands with --host use this profile's setup, "
        "as user@login or a name from ~/.ssh/config.",
    )
    remote_command: str = Field(
        "",
        title="Remote command",
        description="How napari-geosr starts on the login node after the setup, such "
        "as ~/venv/bin/napari-geosr.",
    )

    @field_validator("walltime", mode="before")
    @classmethod
    def _read_walltime(cls, value: object) -> object:
        # YAML reads 2:00:00 without quotes as a number of seconds.
        is_seconds = isinstance(value, int) and not isinstance(value, bool)
        return format_walltime(int(str(value))) if is_seconds else value

    @field_validator("walltime")
    @classmethod
    def _check_walltime(cls, value: str) -> str:
        return format_walltime(parse_walltime(value))

    @field_validator("project", "partition")
    @classmethod
    def _check_word(cls, value: str) -> str:
        if value and not _WORD.fullmatch(value):
            raise ValueError("one word of letters, digits and _ . @ : + - is needed")
        return value

    @field_validator("memory_property")
    @classmethod
    def _check_property(cls, value: str) -> str:
        if value and not _PROPERTY.fullmatch(value):
            raise ValueError("the name of a property is needed, such as memcore")
        return value

    @field_validator("memory")
    @classmethod
    def _check_memory(cls, value: str) -> str:
        if value:
            parse_bytes(value)
        return value

    @field_validator(
        "queue",
        "properties",
        "python",
        "setup",
        "options",
        "host",
        "remote_command",
    )
    @classmethod
    def _check_lines(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for text in (value,) if isinstance(value, str) else value:
            check_line(text)
        return value

    @field_validator("options")
    @classmethod
    def _check_options(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not text.startswith("-"):
                raise ValueError(f"{text!r} is not an option: it must begin with -")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.queue == "oar" and self.memory and not self.memory_property:
            raise ValueError(
                "OAR takes no amount of memory, only a condition on a property of the "
                "nodes. Keep the name of the property with the memory per core in a "
                "profile (--memory-property), or leave out the memory and ask for more "
                "cores"
            )
        return self

    @property
    def seconds(self) -> int:
        """The walltime in seconds."""
        return parse_walltime(self.walltime)

    @property
    def warning_seconds(self) -> int:
        """How long before the walltime the queue warns the job."""
        return min(120, self.seconds // 4)

    @property
    def megabytes(self) -> int:
        """Memory on each node in MiB; 0 for the cluster's own amount."""
        return math.ceil(parse_bytes(self.memory) / 2**20) if self.memory else 0


def check_line(text: str) -> str:
    """Return `text`; raise `ValueError` if it is no single line of printable text."""
    if any(ord(letter) < 32 or letter in "\x7f\x85\u2028\u2029" for letter in text):
        raise ValueError(
            f"{text!r} contains a line break or another control character, which "
            "scripts of a queue cannot contain"
        )
    return text


def parse_walltime(text: str) -> int:
    """Seconds of a walltime: ``2:00:00``, ``1-12:00:00``, ``0:30``, ``90min``, ``12h``.

    Raises
    ------
    ConfigError
        If it cannot be read, or is shorter than a minute.
    """
    found = text.strip().lower()
    if clock := _CLOCK.fullmatch(found):
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        valid = minutes < 60 and seconds < 60
    else:
        parts = _UNITS.findall(found)
        valid = bool(parts) and not _UNITS.sub("", found).strip()
        total = round(sum(float(n) * _SECONDS[unit] for n, unit in parts))
    if not valid:
        raise ConfigError(
            f"{text!r} is not a walltime: use H:MM:SS, or hours and minutes such as "
            "12h or 90min."
        )
    if total < _MIN_WALLTIME:
        raise ConfigError(
            f"A walltime of {text} is too short: a job needs at least a minute, and "
            "better several."
        )
    return total


def format_walltime(seconds: int) -> str:
    """Write a walltime as ``H:MM:SS``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


#: Profiles that need no file; each can be the start of the user's own.
TEMPLATES = {
    # GRICAD documents: a project is compulsory, and one core for 2 h is the default.
    "gricad": Profile(queue="oar", needs_project=True, walltime="2:00:00", cores=4),
    "oar": Profile(queue="oar"),
    "slurm": Profile(queue="slurm"),
    "local": Profile(queue="local"),
}


def profiles_folder() -> Path:
    """Folder of the user's own profiles."""
    return user_config_path("napari-geosr", appauthor=False) / "profiles"


def profile_path(name: str) -> Path:
    """File of a profile.

    Raises
    ------
    ConfigError
        If `name` cannot be the name of a file.
    """
    if not _WORD.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a profile: use letters, digits, - and _."
        )
    return profiles_folder() / f"{name}.yaml"


def own_profiles() -> list[str]:
    """Names of the user's own profiles."""
    return sorted(path.stem for path in profiles_folder().glob("*.yaml"))


def load_profile(name: str) -> Profile:
    """Read a profile: the user's own, or else a template.

    Raises
    ------
    ConfigError
        If there is none, or its file is invalid.
    """
    path = profile_path(name)
    if path.is_file():
        return Profile.from_yaml(path)
    if name in TEMPLATES:
        return TEMPLATES[name]
    known = ", ".join([*own_profiles(), *TEMPLATES])
    raise ConfigError(
        f"There is no profile {name!r}. Known: {known}. `napari-geosr profiles new "
        "NAME` makes one."
    )


def save_profile(name: str, profile: Profile, *, overwrite: bool = False) -> Path:
    """Write a profile and return its file.

    Raises
    ------
    FileError
        If there is one already, unless `overwrite`, or it cannot be written.
    """
    path = profile_path(name)
    if path.exists() and not overwrite:
        raise FileError(
            f"There is a profile {name!r} already ({path}). Choose another name, or "
            "replace it (--overwrite)."
        )
    with atomic.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, profile.to_yaml(), overwrite=overwrite)
    return path
