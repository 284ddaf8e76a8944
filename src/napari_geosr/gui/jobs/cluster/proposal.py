"""Propose the walltime and memory of a job from an estimate of its run, without Qt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from napari_geosr.core.config import format_bytes
from napari_geosr.gui.kit.progress import format_duration
from napari_geosr.jobs.cluster.profiles import Profile, format_walltime

#: Factor for the estimated run time, because nodes may be slower than this computer.
_TIME_FACTOR = 2.0
#: Additional time for starting the program and reading data, in seconds.
_MORE_SECONDS = 600
#: Pairs (longest walltime, step), in seconds: a walltime is rounded up to a multiple of
#: the step of the first pair that covers it.
_STEPS = ((2 * 3600, 600), (12 * 3600, 1800), (math.inf, 3600))
#: Maximum proposed walltime, in seconds, unless the user has set a limit.
_LONGEST = 24 * 3600
#: Factor for the estimated memory, because runs on other data may need more.
_MEMORY_FACTOR = 1.25
#: Additional memory for the program and its libraries, in bytes.
_MORE_BYTES = 10**9


@dataclass(frozen=True)
class RunEstimate:
    """Resources that a run would need on this computer.

    Attributes
    ----------
    seconds : float
    memory : int or None
        Bytes of main memory, excluding the program and its libraries; None if unknown.
    includes : str
        Text for the user: the part of `seconds` that the dock's estimate does not
        include.
    """

    seconds: float
    memory: int | None = None
    includes: str = ""


@dataclass(frozen=True)
class Proposal:
    """Values for some fields of a profile.

    Attributes
    ----------
    values : mapping of str to str
        Proposed ``walltime`` and ``memory``; either may be missing.
    text : str
        Text for the user: the source of the values.
    """

    values: Mapping[str, str]
    text: str


def propose(estimate: RunEstimate, profile: Profile, *, limited: bool) -> Proposal:
    """Propose the walltime and memory for a run.

    Parameters
    ----------
    estimate : RunEstimate
    profile : Profile
        Profile of the cluster.
    limited : bool
        Whether the profile's walltime is a limit set by the user, which a proposal must
        not exceed.
    """
    needed = _rounded(_TIME_FACTOR * estimate.seconds + _MORE_SECONDS)
    longest = profile.seconds if limited else _LONGEST
    seconds = min(needed, longest)
    values = {"walltime": format_walltime(seconds)}
    rules = [f"twice the time plus {_MORE_SECONDS // 60} min"]
    included = f", including {estimate.includes}" if estimate.includes else ""
    known = [format_duration(estimate.seconds) + included]
    if needed > longest:
        runs = math.ceil(_TIME_FACTOR * estimate.seconds / longest)
        times = "twice" if runs == 2 else f"in {runs} parts"
        hours = f"at most {_LONGEST // 3600} h"
        limit = "the walltime of the profile" if limited else hours
        resumes = f"; the job resumes automatically and runs {times}"
        rules = [limit + resumes if runs > 1 else limit]
    remark = ""
    if estimate.memory is None or profile.gpus:
        pass  # GPU memory is not requested
    elif profile.queue == "oar" and not profile.memory_property:
        remark = " OAR assigns memory in proportion to the number of cores."
    else:
        known[0] += "," if included else ""
        known.append(f"{format_bytes(estimate.memory)} of memory")
        needs = _MEMORY_FACTOR * estimate.memory + _MORE_BYTES
        values["memory"] = f"{math.ceil(needs / 1e9)}GB"
        rules.append(f"{_MEMORY_FACTOR:g} × the memory plus 1 GB for the program")
    fields = " and ".join(name.capitalize() for name in values)
    verb = "is" if len(values) == 1 else "are"
    fields = f"{fields[:1]}{fields[1:].lower()}"
    text = (
        f"{fields} {verb} based on the estimate for this computer "
        f"({' and '.join(known)}): {', and '.join(rules)}.{remark}"
    )
    return Proposal(values, text)


def _rounded(seconds: float) -> int:
    step = next(step for most, step in _STEPS if seconds <= most)
    return math.ceil(seconds / step) * step
