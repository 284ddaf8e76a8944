"""Profiles: the settings that a cluster needs for every job, saved under a name."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Self

from platformdirs import user_config_path
from pydantic import Field, field_validator, model_validator

from napari_geosr.core.config import Config, parse_bytes
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.text.spelling import did_you_mean
from napari_geosr.io.unfinished_files import atomic

#: Minimum walltime, in seconds; SLURM counts in minutes.
_MIN_WALLTIME = 60
#: Minimum time from the start of a run to the queue's warning with OAR, in seconds. OAR
#: does not resubmit runs that took less than 60 s.
_MIN_OAR_RUN = 80
#: Pattern of names of projects, partitions etc.: one word, never an option.
_WORD = re.compile(r"[A-Za-z0-9_][\w.@:+,-]*", re.ASCII)
_PROPERTY = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+)-)?(\d{1,5}):(\d\d)(?::(\d\d))?", re.ASCII)
_UNITS = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|min|m|s)[a-z]*", re.ASCII)
_SECONDS = {"d": 86400, "h": 3600, "min": 60, "m": 60, "s": 1}


class Profile(Config):
    """Requirements of a job: queue, resources, project and how Python is started."""

    queue: str = Field(
        "slurm", title="Queue", description="Queue system: slurm, oar or local."
    )
    project: str = Field(
        "",
        title="Project",
        description="Project (OAR) or account (SLURM) to which the computing time is "
        "charged.",
    )
    needs_project: bool = Field(
        False,
        title="Project required",
        description="Whether the cluster refuses jobs without a project.",
    )
    partition: str = Field(
        "",
        title="Partition",
        description="Partition (SLURM) or queue (OAR); by default the cluster's "
        "default.",
    )
    walltime: str = Field(
        "2:00:00",
        title="Walltime",
        description="Time limit of one run, such as 2:00:00, 90min or 12h. A longer "
        "job is resubmitted and resumed; jobs of segment, shapes and sim must end "
        "within it.",
    )
    nodes: int = Field(
        1, ge=1, le=10_000, title="Nodes", description="Number of nodes."
    )
    cores: int = Field(
        4, ge=1, le=10_000, title="Cores", description="CPU cores per node."
    )
    gpus: int = Field(0, ge=0, le=64, title="GPUs", description="GPUs per node.")
    memory: str = Field(
        "",
        title="Memory",
        description="Memory per node, such as 64GB; by default the cluster's setting.",
    )
    memory_property: str = Field(
        "",
        title="Memory property",
        description="OAR: node property that gives the memory per core in MB.",
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
        description="Shell commands to run before the job, such as module load cuda.",
    )
    python: str = Field(
        "",
        title="Python",
        description="Python interpreter with napari-geosr on the nodes; by default, "
        "the one used to submit the job.",
    )
    options: tuple[str, ...] = Field(
        (),
        title="Options",
        description="Additional options for sbatch or oarsub, one per entry.",
    )
    host: str = Field(
        "",
        title="Login node",
        description="Computer (user@login or a name from ~/.ssh/config) on which "
        "commands with --host use this profile's setup.",
    )
    local_folder: str = Field(
        "",
        title="Folder here",
        description="Folder on this computer that the login node can also access, "
        "such as a mounted drive; empty if files have the same paths on "
        "both computers.",
    )
    remote_folder: str = Field(
        "",
        title="Folder there",
        description="Path of the shared folder on the login node, such as /bettik/me.",
    )
    remote_command: str = Field(
        "",
        title="Remote command",
        description="Command that starts napari-geosr on the login node after the "
        "setup, such as ~/venv/bin/napari-geosr.",
    )

    watts_per_core: float = Field(
        10.0,
        ge=0,
        le=10_000,
        title="Power per core",
        description="Power of a busy CPU core in watts, including its share of the "
        "power of the other components. It is used to estimate the energy of jobs.",
    )
    grams_per_kilowatt_hour: float = Field(
        60.0,
        ge=0,
        le=10_000,
        title="CO₂eq per kWh",
        description="Emissions per kilowatt-hour of electricity, in grams of CO₂eq; "
        "used to estimate the emissions of jobs.",
    )

    @field_validator("queue", mode="before")
    @classmethod
    def _read_queue(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("walltime", mode="before")
    @classmethod
    def _read_walltime(cls, value: object) -> object:
        # YAML reads an unquoted 2:00:00 as a number of seconds.
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
            raise ValueError("must be one word of letters, digits and _ . @ : + -")
        return value

    @field_validator("memory_property")
    @classmethod
    def _check_property(cls, value: str) -> str:
        if value and not _PROPERTY.fullmatch(value):
            raise ValueError("must be the name of a property, such as memcore")
        return value

    @field_validator("memory")
    @classmethod
    def _check_memory(cls, value: str) -> str:
        if value:
            parse_bytes(value)
        # A number without a unit would mean a few bytes.
        if (number := value.strip()).isdecimal():
            raise ValueError(f"needs a unit. Did you mean {number}GB or {number}MB?")
        return value

    @field_validator(
        "queue",
        "properties",
        "python",
        "setup",
        "options",
        "host",
        "local_folder",
        "remote_folder",
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
                raise ValueError(f"{text!r} is not an option: options begin with -")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        needs_property = self.queue == "oar" and self.memory and not self.gpus
        if needs_property and not self.memory_property:
            raise ValueError(
                "OAR does not accept an amount of memory, only a condition on a node "
                "property. In a profile, save the name of the node property that gives "
                "the memory per core (--memory-property), or omit the memory and "
                "request more cores"
            )
        usable = self.seconds - self.warning_seconds
        if self.queue == "oar" and usable < _MIN_OAR_RUN:
            raise ValueError(
                f"a walltime of {self.walltime} is too short for OAR, which starts a "
                "job again only after a run of more than a minute. Use at least 2min "
                "(--walltime)"
            )
        return self

    @property
    def seconds(self) -> int:
        """The walltime in seconds."""
        return parse_walltime(self.walltime)

    @property
    def warning_seconds(self) -> int:
        """Seconds between the queue's warning and the end of the walltime."""
        return min(120, self.seconds // 4)

    @property
    def megabytes(self) -> int:
        """Memory per node in MiB; 0 for the cluster's default."""
        return math.ceil(parse_bytes(self.memory) / 2**20) if self.memory else 0


def check_line(text: str) -> str:
    """Return `text`; raise `ValueError` unless it is one line of printable text."""
    if any(ord(letter) < 32 or letter in "\x7f\x85\u2028\u2029" for letter in text):
        raise ValueError(
            f"{text!r} contains a line break or another control character, which is "
            "not allowed in the scripts of a queue"
        )
    return text


def parse_walltime(text: str) -> int:
    """Convert a walltime (``1-12:00:00``, ``0:30``, ``90min``, ``12h``) to seconds.

    Raises
    ------
    ConfigError
        If the text cannot be parsed, is ambiguous, or is less than a minute.
    """
    found = text.strip().lower()
    short = re.fullmatch(r"(\d{1,5}):([0-5]\d)", found, re.ASCII)
    if short and int(short[1]):  # H:MM or, as in SLURM, MM:SS
        in_hours = f"{int(short[1])}:{short[2]}:00"
        in_minutes = format_walltime(int(short[1]) * 60 + int(short[2]))
        raise ConfigError(
            f"The walltime {text!r} is ambiguous. Write {in_hours} for hours and "
            f"minutes, or {in_minutes} for minutes and seconds."
        )
    if clock := _CLOCK.fullmatch(found):
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        valid = minutes < 60 and seconds < 60
    else:
        parts = _UNITS.findall(found)
        valid = bool(parts) and not _UNITS.sub("", found).strip()
        total = round(sum(float(n) * _SECONDS[unit] for n, unit in parts))
    number = re.fullmatch(r"\d+(\.\d+)?", found, re.ASCII)
    if number and not float(found):  # zero is too short in any unit
        valid, total = True, 0
    if not valid:
        guess = f" Did you mean {found}h or {found}min?" if number else ""
        if re.fullmatch(r"\d+\s*h\s*[0-5]?\d", found, re.ASCII):
            guess = f" Did you mean {found}min?"
        raise ConfigError(
            f"{text!r} is not a valid walltime.{guess} Use H:MM:SS, or hours and "
            "minutes such as 12h or 90min."
        )
    if total < _MIN_WALLTIME:
        raise ConfigError(
            f"A walltime of {text} is too short. A job needs at least one minute, and "
            "preferably several."
        )
    return total


def format_walltime(seconds: int) -> str:
    """Format a walltime as ``H:MM:SS``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


#: Built-in profiles; each can be a template for the user's own.
TEMPLATES = {
    # According to GRICAD, a project is compulsory; the default is one core for 2 h.
    "gricad": Profile(queue="oar", needs_project=True, walltime="2:00:00", cores=4),
    "oar": Profile(queue="oar"),
    "slurm": Profile(queue="slurm"),
    "local": Profile(queue="local"),
}


def profiles_folder() -> Path:
    """Return the folder of the user's own profiles."""
    return user_config_path("napari-geosr", appauthor=False) / "profiles"


def profile_path(name: str) -> Path:
    """Return the file of a profile.

    Raises
    ------
    ConfigError
        If `name` is not a valid file name.
    """
    if not _WORD.fullmatch(name):
        raise ConfigError(
            f"{name!r} is not a valid profile name. Use letters, digits, - and _."
        )
    return profiles_folder() / f"{name}.yaml"


def own_profiles() -> list[str]:
    """Return the names of the user's own profiles."""
    return sorted(path.stem for path in profiles_folder().glob("*.yaml"))


def load_profile(name: str) -> Profile:
    """Read the user's own profile of this name or, if there is none, the template.

    Raises
    ------
    ConfigError
        If there is no such profile, or its file is invalid.
    """
    path = profile_path(name)
    if path.is_file():
        return Profile.from_yaml(path)
    if name.lower() in TEMPLATES:
        return TEMPLATES[name.lower()]
    known = [*own_profiles(), *TEMPLATES]
    raise ConfigError(
        f"There is no profile {name!r}.{did_you_mean(name, known)} Known: "
        f"{', '.join(known)}. `napari-geosr profiles new NAME` creates one."
    )


def check_new_name(name: str, *, overwrite: bool = False) -> Path:
    """Return the file of a new profile.

    Raises
    ------
    ConfigError
        If the name is invalid, or is the name of a template.
    FileError
        If the profile exists (unless `overwrite`).
    """
    path = profile_path(name)
    if name.lower() in TEMPLATES:
        raise ConfigError(
            f"{name!r} is the name of a template, which the profile would hide. "
            f"Choose another name, such as my-{name.lower()}."
        )
    if path.exists() and not overwrite:
        raise FileError(
            f"The profile {name!r} already exists ({path}). Choose another name, or "
            "replace it (--overwrite)."
        )
    return path


def save_profile(name: str, profile: Profile, *, overwrite: bool = False) -> Path:
    """Write a profile and return its file.

    Raises
    ------
    ConfigError
        If the name is invalid, or is the name of a template.
    FileError
        If the file exists (unless `overwrite`), or cannot be written.
    """
    path = check_new_name(name, overwrite=overwrite)
    with atomic.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, profile.to_yaml(), overwrite=overwrite)
    return path
