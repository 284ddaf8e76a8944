"""Options of commands that submit a job to a queue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.jobs.cluster.profiles import (
    TEMPLATES,
    Profile,
    load_profile,
    own_profiles,
)

#: An option that may be given several times.
Repeated = Annotated[tuple[str, ...], Parameter(negative="")]


class Resources(Config):
    """Resources of a job; those not given are taken from the profile."""

    project: str | None = Field(
        None,
        description="Project (OAR) or account (SLURM) to which the computing time is "
        "charged.",
    )
    partition: str | None = Field(
        None, description="Partition (SLURM) or queue (OAR) of the cluster."
    )
    walltime: str | None = Field(
        None,
        description="Time limit of one run, such as 2:00:00, 90min or 12h; by default "
        "2 hours. A job that takes longer is resubmitted and resumed; jobs of segment, "
        "shapes and sim must end within it.",
    )
    nodes: int | None = Field(
        None,
        description="Number of nodes; by default 1. restore, reconstruct and measure "
        "use workers on all of them, and train uses one process on each node or GPU; "
        "other jobs run on one node only.",
    )
    cores: int | None = Field(None, description="CPU cores per node; by default 4.")
    gpus: int | None = Field(None, description="GPUs per node; by default none.")
    mem: str | None = Field(
        None,
        description="Memory to request per node, such as 64GB; by default the "
        "cluster's setting.",
    )

    def changes(self) -> AnyDict:
        """Return the fields of a `Profile` that were given."""
        names = {name: name for name in Resources.model_fields} | {"mem": "memory"}
        given = {names[k]: getattr(self, k) for k in names}
        return {k: v for k, v in given.items() if v is not None}


class Where(Resources):
    """Options that determine the queue in which a job runs, and its resources."""

    queue: str | None = Field(
        None, description="Queue system: slurm, oar or local (this computer)."
    )
    profile: str | None = Field(
        None,
        description="Profile with queue and resources: one of your own (profiles "
        "new), or gricad, oar, slurm or local.",
    )

    def resolve(self, otherwise: Profile | None = None) -> Profile:
        """Combine the profile with the options; the options take precedence.

        Parameters
        ----------
        otherwise : Profile, optional
            Profile used if neither a queue nor a profile is given.

        Raises
        ------
        ConfigError
            If it is unclear where to run the job, or a setting is invalid.
        """
        if self.profile is not None:
            base = load_profile(self.profile)
            if self.queue is not None and self.queue.lower() != base.queue:
                raise ConfigError(
                    f"The profile {self.profile} is for {base.queue}, not for "
                    f"{self.queue}. Give only one of --queue and --profile."
                )
        elif self.queue is not None:
            name = self.queue.lower()
            base = TEMPLATES.get(name, Profile(queue=name))
        elif otherwise is not None:
            base = otherwise
        else:
            known = ", ".join(dict.fromkeys([*own_profiles(), *TEMPLATES]))
            raise ConfigError(
                "Choose where to run the job: --queue slurm, oar or local, or "
                f"--profile with one of {known}."
            )
        return Profile.create(**(base.model_dump() | self.changes()))


class SubmitOptions(Where):
    """Options that determine where a new job runs, and where its folder is."""

    job_folder: Path | None = Field(
        None,
        description="Folder for the job, accessible from all nodes; by default next to "
        "the output.",
    )
    dry_run: Annotated[bool, Parameter(negative="")] = Field(
        False,
        description="Print the plan and the script without writing or submitting "
        "anything.",
    )


class ProfileOptions(Resources):
    """Settings of a new profile."""

    properties: str | None = Field(
        None,
        description="Nodes to use: a constraint (SLURM), or a condition such as "
        "gpumodel='A100' (OAR).",
    )
    memory_property: str | None = Field(
        None,
        description="OAR: node property that gives the memory per core in MB, such as "
        "memcore.",
    )
    setup: Repeated = Field(
        (),
        description="Shell command to run before each job, such as 'module load cuda'; "
        "may be repeated.",
    )
    python: str | None = Field(
        None,
        description="Python interpreter with napari-geosr on the nodes; by default, "
        "the one used to submit the job.",
    )
    options: Repeated = Field(
        (),
        description="Additional option for sbatch or oarsub, such as "
        "--options=--qos=long; may be repeated.",
    )
    host: str | None = Field(
        None,
        description="Login node (user@login). Commands with this --host start "
        "napari-geosr there, using --setup and --remote-command.",
    )
    remote_command: str | None = Field(
        None,
        description="Command that starts napari-geosr on the login node, run after "
        "--setup, such as ~/venv/bin/napari-geosr; by default napari-geosr.",
    )

    def changes(self) -> AnyDict:
        """Return the fields of a `Profile` that were given."""
        more = (
            "properties",
            "memory_property",
            "setup",
            "python",
            "options",
            "host",
            "remote_command",
        )
        given = {name: getattr(self, name) for name in more if getattr(self, name)}
        return super().changes() | given
