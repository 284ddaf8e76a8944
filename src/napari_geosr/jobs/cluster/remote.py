"""Jobs on other computers, reached through the user's own ssh; does not import Qt."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from napari_geosr.core.errors import (
    ConfigError,
    GeoSRError,
    JobError,
)
from napari_geosr.core.steps import (
    ShouldStop,
    never_stop,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.jobs import facts as reading
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster import submission
from napari_geosr.jobs.cluster.login_node import (
    OnNote,
    check_host,
    output_of,
    profile_for,
)
from napari_geosr.jobs.cluster.profiles import Profile, load_profile, own_profiles
from napari_geosr.jobs.cluster.queue_record import NO_QUEUE, QueuePlace
from napari_geosr.jobs.facts import State
from napari_geosr.jobs.folder import JobStatus
from napari_geosr.jobs.index import Elsewhere

#: File with the names of the watched computers, one per line.
_HOSTS = "hosts.txt"
#: File, next to that list, with the folders that other computers share with this one.
_SHARED = "shared.json"
#: Settings that name an object inside a file, even if they look like paths.
_NOT_PATHS = ("dataset",)
#: Setting with the path of the result, which does not exist yet.
_OUTPUT = "out"


@dataclass(frozen=True)
class SharedFolder:
    """A folder that this and another computer can access, possibly by different paths.

    Attributes
    ----------
    here, there : str
        Path on this and on the other computer; both empty if the paths are equal.
    """

    here: str = ""
    there: str = ""

    @classmethod
    def of(cls, profile: Profile) -> SharedFolder:
        """Return the shared folder that a profile names.

        Raises
        ------
        ConfigError
            If only one of its paths is given, or they are not absolute.
        """
        here, there = profile.local_folder, profile.remote_folder
        if bool(here) != bool(there):
            raise ConfigError(
                "Give the path of the shared folder on both computers (Folder here, "
                "Folder there), or leave both empty if all paths are the same."
            )
        if here and not (Path(here).is_absolute() and there.startswith("/")):
            raise ConfigError(
                f"The paths of the shared folder must be absolute (given: {here} here, "
                f"{there} there)."
            )
        return cls(here, there)

    def there_of(self, path: Path) -> str:
        """Return the path of a file or folder on the other computer.

        Raises
        ------
        ConfigError
            If the path is not in the shared folder.
        """
        if not self.here:
            return str(path)
        for top in (Path(self.here), Path(self.here).resolve()):
            if path.is_relative_to(top):
                parts = path.relative_to(top).parts
                return str(PurePosixPath(self.there).joinpath(*parts))
        raise ConfigError(
            f"{path} is not in the shared folder {self.here} ({self.there} on the "
            "other computer). Move it there, or choose another shared folder."
        )

    def here_of(self, path: PurePosixPath) -> Path | None:
        """Return the local path of a file on the other computer; None if not shared."""
        if not self.here or not path.is_relative_to(self.there):
            return None
        return Path(self.here).joinpath(*path.relative_to(self.there).parts)

    def map_settings(self, values: AnyMapping, job: Path) -> AnyDict:
        """Return the settings of a job, with paths converted for the other computer.

        Paths in the job's own folder are not changed, because they are found wherever
        the folder is opened.

        Raises
        ------
        ConfigError
            If a file is not in the shared folder.
        """
        return {
            name: value
            if name in _NOT_PATHS
            else self._map(value, job, is_output=name == _OUTPUT)
            for name, value in values.items()
        }

    def _map(self, value: object, job: Path, *, is_output: bool = False) -> object:
        if isinstance(value, dict):
            return self.map_settings(value, job)
        if isinstance(value, list | tuple):
            return [self._map(each, job) for each in value]
        if not isinstance(value, str) or not reading.is_absolute(value):
            return value
        path = Path(value)
        if not self.here or path.is_relative_to(job):
            return value
        # Text that only looks like a path, such as a group in a file, is kept.
        if is_output or path.exists() or self._contains(path):
            return self.there_of(path)
        return value

    def _contains(self, path: Path) -> bool:
        here = Path(self.here)
        return any(path.is_relative_to(top) for top in (here, here.resolve()))


def check(profile: Profile, parent: Path) -> SharedFolder:
    """Check the computer and the folder, and return the shared folder.

    Raises
    ------
    ConfigError
        If the name of the computer is invalid, or the computer cannot access the
        folder.
    """
    check_host(profile.host)
    shared = SharedFolder.of(profile)
    shared.there_of(parent)
    return shared


def script_of(name: str, folder: Path, profile: Profile, operation: str = "") -> str:
    """Return the script that a profile's computer would write for the job in a folder.

    See `napari_geosr.jobs.cluster.submission.script_of`.

    Raises
    ------
    ConfigError
        If the profile is incomplete, the folder is not shared, or a name contains line
        breaks.
    """
    there = PurePosixPath(check(profile, folder).there_of(folder))
    # The Python that runs napari-geosr there is known only on that computer.
    python = profile.python or f"python-of-{profile.host}"
    known = profile.model_copy(update={"python": python})
    return submission.script_of(name, cast("Path", there), known, operation)


# Jobs on other computers


def list_jobs(
    host: str,
    should_stop: ShouldStop = never_stop,
    on_note: OnNote = lambda note: None,
) -> list[JobStatus]:
    """List the jobs of a computer, newest first, with their states in its queue.

    Parameters
    ----------
    host : str
    should_stop : callable
    on_note : callable
        Receives a message if the computer has a different version of napari-geosr.

    Raises
    ------
    JobError
        If the computer does not respond.
    Cancelled
        If `should_stop` returns True.
    """
    words = ["jobs", "list", "--json"]
    text = output_of(
        host, words, profile_for(host), should_stop=should_stop, on_note=on_note
    )
    try:
        jobs = json.loads(text)["jobs"]
        return [_status(job) for job in jobs]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise JobError(
            f"The response from {host} is not a list of jobs. Install the same version "
            "of napari-geosr on both computers."
        ) from error


def stop(job: Elsewhere, should_stop: ShouldStop = never_stop) -> list[str]:
    """Stop a job on another computer; its finished work is kept.

    Returns
    -------
    list of str
        A message if the computer has a different version of napari-geosr.
    """
    return _run(job, ["stop", job.folder], should_stop)


def resume(
    job: Elsewhere, *, in_queue: bool, should_stop: ShouldStop = never_stop
) -> list[str]:
    """Resume a job on another computer: in its queue, or in the background.

    Returns
    -------
    list of str
        As for `stop`.
    """
    # Without --detach, a job outside a queue would run in the foreground.
    words = ["resume", job.folder, *([] if in_queue else ["--detach"])]
    return _run(job, words, should_stop)


def _run(job: Elsewhere, words: list[str], should_stop: ShouldStop) -> list[str]:
    profile, notes = profile_for(job.host), list[str]()
    output_of(
        job.host,
        ["jobs", *words],
        profile,
        should_stop=should_stop,
        on_note=notes.append,
    )
    return notes


def _status(values: AnyDict) -> JobStatus:
    """Read a job from a list in JSON; missing fields get their default values."""
    place = values.get("queue") or {}
    result = values.get("result")
    queue = NO_QUEUE
    if place.get("queue"):
        queue = QueuePlace(
            queue=str(place["queue"]),
            title=str(place.get("title", "")),
            number=str(place.get("number", "")),
            words=str(place.get("words", "")),
            resubmitted=reading.count(place.get("resubmitted")),
            has_ended=place.get("has_ended") is True,
            is_waiting=place.get("is_waiting") is True,
            is_running=place.get("is_running") is True,
            checked=reading.number(place.get("checked")),
            since=reading.number(place.get("since")),
            problem=str(place.get("problem", "")),
        )
    return JobStatus(
        path=cast("Path", PurePosixPath(values["path"])),
        name=str(values["name"]),
        operation=str(values.get("operation", "")),
        method=str(values.get("method", "")),
        state=cast("State", str(values["state"])),
        created=reading.number(values.get("created")),
        updated=reading.number(values.get("updated")),
        pid=reading.count(values.get("pid")),
        host=str(values.get("host", "")),
        done=reading.count(values.get("done")),
        total=reading.count(values.get("total")),
        message=str(values.get("message", "")),
        result=cast("Path", PurePosixPath(result)) if result else None,
        queue=queue,
        n_warnings=reading.count(values.get("n_warnings")),
        request=str(values.get("request", "")),
        processor_seconds=reading.number(values.get("processor_seconds")),
        parts=reading.percentages(values.get("parts")),
        silence=str(values.get("silence", "")),
        energy=str(values.get("energy", "")),
    )


# Folders that this computer shares with others


def path_here(host: str, path: PurePosixPath) -> Path | None:
    """Return the local path of a file on another computer, if it exists here.

    The file is looked for at the same path, and in the shared folders that this
    computer's profiles name or `share_folder` has recorded.
    """
    shared = [*_stored_folders(host), *_profile_folders(host)]
    found = (Path(path), *(folder.here_of(path) for folder in shared))
    return next((each for each in found if each is not None and each.exists()), None)


def share_folder(host: str, here: Path, there: PurePosixPath) -> None:
    """Record that the local folder `here` is the folder `there` on another computer.

    Raises
    ------
    FileError
        If the change cannot be stored.
    """
    own = [each for each in _stored_folders(host) if each.there != str(there)]
    own.append(SharedFolder(str(here), str(there)))
    values = _stored() | {host: [[each.here, each.there] for each in own]}
    path = index.index_folder() / _SHARED
    with atomic.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, json.dumps(values), overwrite=True, durable=False)


def _stored() -> AnyDict:
    try:
        text = (index.index_folder() / _SHARED).read_text(encoding="utf-8")
        return reading.parse_mapping(text)
    except (OSError, ValueError):
        return {}


def _stored_folders(host: str) -> list[SharedFolder]:
    found = []
    pairs = _stored().get(host)
    for pair in pairs if isinstance(pairs, list) else []:
        match pair:
            case [str(here), str(there)]:
                found.append(SharedFolder(here, there))
    return found


def _profile_folders(host: str) -> list[SharedFolder]:
    found = []
    for name in own_profiles():
        with suppress(GeoSRError):  # ignore invalid profiles, which are irrelevant here
            profile = load_profile(name)
            if profile.host == host:
                found.append(SharedFolder.of(profile))
    return found


# Watched computers


def watched_hosts() -> list[str]:
    """Return the watched computers, in the order in which they were added."""
    try:
        lines = (index.index_folder() / _HOSTS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for line in lines:
        try:
            found.append(check_host(line))
        except ConfigError:
            continue
    return list(dict.fromkeys(found))


def watch_host(host: str) -> None:
    """Add a computer to the watched computers, so that its jobs are listed.

    Raises
    ------
    ConfigError
        If `host` is not the name of a computer.
    FileError
        If the change cannot be stored.
    """
    _store([*watched_hosts(), check_host(host)])


def forget_host(host: str) -> None:
    """Stop listing the jobs of a computer."""
    _store([each for each in watched_hosts() if each != host])


def _store(hosts: list[str]) -> None:
    path = index.index_folder() / _HOSTS
    with atomic.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{host}\n" for host in dict.fromkeys(hosts))
    atomic.write_text(path, text, overwrite=True, durable=False)
