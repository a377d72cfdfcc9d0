"""A folder in which a learner keeps its model with the log position it came from.

    with ModelStore(folder) as store:
        position = store.open(model).position  # the model is as it was last committed
        ...learn the log from there...
        store.commit(model, position)

Each commit is one file, which appears whole or not at all: the changes since the last one, and now
and then all of it. Both hold the position, so an event is never learned twice, nor left out. Files:

    snapshot-EPOCH-NUMBER.bin    the whole state
    delta-EPOCH-NUMBER.bin       what changed since the file with the number before
    epoch, writer.lock           the lease
    forgetting                   there while files may name users who were deleted

Where users were deleted, the whole state is written, and all files before it are removed. What may
be gone back to is kept as a snapshot of number 0, without these users; it is not published.

The lease: one process holds the lock, which the system releases when it ends in whatever way. Each
new holder takes the next epoch and begins with a snapshot. Readers follow the newest epoch alone,
so what an earlier holder still writes (the lock of a network drive can be lost) counts for nothing.

Where servers are on other machines, the same files are published to a Redis server, which refuses
those of an earlier epoch.
"""

import fcntl
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from reelseek.indexing.store.atomic import make_folder
from reelseek.recommendation.learning.files import (
    EPOCH,
    EpochEnded,
    FolderFiles,
    PublishedFiles,
    StateFiles,
)
from reelseek.recommendation.learning.forgetting import Forgetting
from reelseek.recommendation.learning.ftrl import Rates
from reelseek.recommendation.learning.model import ModelSettings, OnlineModel
from reelseek.recommendation.learning.publishing import Publisher
from reelseek.recommendation.learning.state import (
    DamagedState,
    decode,
    encode,
    fingerprint,
    restore,
    take_state,
)

__all__ = ["LeaseHeld", "LeaseLost", "ModelReader", "ModelStore", "Stored", "WholeState"]

_NAME = re.compile(r"(?P<kind>snapshot|delta)-(?P<epoch>\d{10})-(?P<number>\d{12})\.bin\Z")
_LOCK = "writer.lock"
_KEPT_SNAPSHOTS = 2  # the one before serves where the last is damaged
_SMALL_SNAPSHOT = 4_000_000  # bytes, which take some hundredths of a second
_MOST_SNAPSHOTS = 12  # of short epochs, as where a process is killed again and again
_PAST_NUMBER = 0  # before all others of an epoch


@dataclass(frozen=True)
class Stored:
    """What belongs to a model.

    Attributes:
        position: of the log, that the model came from; 0 where there is none.
        extra: what was given to `commit`.
        snapshot_position, snapshot_extra: the same of the whole state before it.
        extras_since: what was given to `commit` after that, the last one being `extra`.
    """

    position: int = 0
    extra: Any = None
    snapshot_position: int = 0
    snapshot_extra: Any = None
    extras_since: tuple[Any, ...] = ()


@dataclass(frozen=True)
class WholeState:
    """The whole state of a model, and what belongs to it."""

    model: OnlineModel
    position: int
    extra: Any
    snapshot_extra: Any


class LeaseHeld(ValueError):
    """Another process learns into the folder."""


class LeaseLost(RuntimeError):
    """Another process has taken over; what this one has learned since is not kept."""


@dataclass(frozen=True, order=True)
class _File:
    epoch: int
    number: int
    kind: str
    name: str


class ModelReader:
    """Reads the newest model of a folder, and follows it.

    Args:
        place: the folder, or the files that a learner has published.

    Attributes:
        epoch, number: of the last file that was read; 0 for none.
    """

    def __init__(self, place: Path | StateFiles) -> None:
        self._files = FolderFiles(place) if isinstance(place, Path) else place
        self.epoch = self.number = 0

    def load(self, model: OnlineModel, *, up_to: float = math.inf) -> Stored:
        """Gives a new model the newest state; returns what belongs to it.

        Args:
            up_to: log position; later states are passed over.

        Raises:
            ValueError: the model's settings are not those of the state.
            DamagedState: there are states, but none can be read.
        """
        return self._load(lambda state: model, up_to=up_to)[1]

    def open(self) -> tuple[OnlineModel, Stored] | None:
        """Makes a model with the settings of the newest state; None where there is none.

        Raises:
            ValueError: the state came from a history or from tables, which are not stored with it.
            DamagedState: there are states, but none can be read.
        """
        model, found = self._load(lambda state: OnlineModel(_settings_of(state)))
        return None if model is None else (model, found)

    def changes(self) -> Iterator[dict[str, Any]]:
        """Yields what was committed since, to be given to `restore` in this order; ends before a
        file that is damaged or missing, and where another learner has taken over."""
        while _read_epoch(self._files) <= self.epoch:
            try:
                state = self._read(_name("delta", self.epoch, number=self.number + 1))
            except (DamagedState, FileNotFoundError):
                return
            self.number += 1
            yield state

    def has_newer(self) -> bool:
        """Whether there is a whole state that `changes` does not lead to, or has not yet."""
        return any(
            (file.epoch, file.number) > (self.epoch, self.number)
            for file in _snapshots(self._files)
        )

    def _load(
        self, model_of: Callable[[dict[str, Any]], OnlineModel], *, up_to: float = math.inf
    ) -> tuple[OnlineModel | None, Stored]:
        snapshots = _snapshots(self._files)
        problem: DamagedState | None = None
        while snapshots:
            snapshot = snapshots.pop()
            try:
                state = self._read(snapshot.name)
            except (DamagedState, FileNotFoundError) as error:
                now = _snapshots(self._files)
                if snapshot not in now:  # it was deleted, as there is a later one
                    snapshots = now
                    continue
                problem = DamagedState(f"{self._files.shown(snapshot.name)}: {error}")
                continue
            if state["position"] > up_to:
                continue
            model = model_of(state)
            _check_fingerprint(model, state, shown=self._files.shown(snapshot.name))
            restore(model, state["model"])
            self.epoch, self.number = snapshot.epoch, snapshot.number
            position, extra = state["position"], state["extra"]
            found = Stored(position, extra, position, state["snapshot_extra"])
            return model, self._follow(model, found, up_to=up_to)
        if problem is not None:
            raise problem
        return None, Stored()

    def _follow(self, model: OnlineModel, found: Stored, *, up_to: float = math.inf) -> Stored:
        """Applies the deltas that follow; stops at one that is damaged, missing, or later."""
        while True:
            try:
                state = self._read(_name("delta", self.epoch, number=self.number + 1))
            except (DamagedState, FileNotFoundError):
                return found
            if state["position"] > up_to:
                return found
            restore(model, state["model"])
            self.number += 1
            found = replace(
                found,
                position=state["position"],
                extra=state["extra"],
                extras_since=(*found.extras_since, state["extra"]),
            )

    def _read(self, name: str) -> dict[str, Any]:
        return decode(self._files.read(name))


class ModelStore:
    """The folder, for the one process that writes it.

    Args:
        folder: made where it is missing.
        snapshot_every: commits, of which one writes the whole state at most. A large one is written
            only when the changes since take as much room, as learning stops meanwhile.
        publish: where the files are published, too; None for nowhere.

    Attributes:
        before_commit: called before each, to store what the model came from beside the log.

    Raises:
        LeaseHeld: another process has it.
        ConnectionError: the files cannot be published.
    """

    def __init__(
        self, folder: Path, *, snapshot_every: int = 64, publish: PublishedFiles | None = None
    ) -> None:
        self._folder, self._snapshot_every = folder, snapshot_every
        self._files = FolderFiles(folder)
        self.before_commit: Callable[[], None] = lambda: None
        make_folder(folder)
        self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise LeaseHeld(f"{folder}: another process learns into it; stop that first") from error
        for left in folder.glob("*.tmp"):  # of a process that was killed
            left.unlink(missing_ok=True)
        self._publisher = (
            None
            if publish is None
            else Publisher(self._files, publish, wanted=self._names_of_epoch)
        )
        self.forgetting = Forgetting(self._files)
        self._number = 0
        self._snapshot_number = self._snapshot_bytes = self._delta_bytes = 0
        self._fingerprint = ""
        self._positions: dict[str, int] = {}  # of the snapshots of this epoch
        try:
            self.epoch = self._begin_epoch()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "ModelStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives up the lease."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def must_forget(self) -> bool:
        """Whether it is time for a commit, as files name users who were deleted."""
        return self.forgetting.is_due

    def open(self, model: OnlineModel) -> Stored:
        """Gives a new model the last committed state; returns the log position to go on from, and
        what was stored with it."""
        found = ModelReader(self._files).load(model)
        self._fingerprint = fingerprint(model)
        return found

    def open_past(self, model: OnlineModel, *, up_to: int) -> Stored:
        """Gives a new model the last state that was committed up to a log position."""
        return ModelReader(self._folder).load(model, up_to=up_to)

    def commit(
        self,
        model: OnlineModel,
        position: int,
        *,
        extra: Any = None,
        snapshot_extra: Callable[[], Any] = lambda: None,
        keep_from: float = math.inf,
        has_forgotten: bool = False,
        past: Callable[[], WholeState | None] = lambda: None,
    ) -> None:
        """Stores the model and the position as one; they are on the disk when this returns.

        Args:
            model: the one that was opened.
            extra: what else belongs to this position, of numbers, text, lists and dictionaries.
            snapshot_extra: gives what is stored with the whole state alone, as it is large.
            keep_from: log position from which on all states must be kept, for `open_past`.
            has_forgotten: whether users were deleted since the last commit. Files that may name
                them are removed by this commit, or by one that is called when that is due.
            past: gives the state at `keep_from` without these users, which is kept then; None where
                there is none.

        Raises:
            LeaseLost: another process has taken over.
        """
        if not self._fingerprint:
            raise ValueError("the model must be opened before it is committed")
        is_first = not self._number
        self._number += 1
        self.before_commit()
        if has_forgotten:
            self.forgetting.note_deletion()
        is_cleaning = self.forgetting.is_due
        if not is_first:
            self._delta_bytes += self._write(
                "delta",
                {
                    "position": position,
                    "extra": extra,
                    "fingerprint": self._fingerprint,
                    "model": take_state(model, only_changed=True),
                },
                number=self._number,
            )
        if is_first or is_cleaning or self._is_snapshot_due:
            # It has the number of the delta whose state it repeats, so that where it is damaged,
            # the deltas lead past it.
            whole = WholeState(model, position, extra, snapshot_extra())
            num_bytes = self._write_snapshot(whole, number=self._number)
            self._snapshot_number, self._snapshot_bytes = self._number, num_bytes
            self._delta_bytes = 0
            if is_cleaning:
                self.publish()  # who is one commit behind need not read the whole state
                with self.forgetting.removing():
                    self._keep_alone(past())
            else:
                self._delete_old(keep_from)
        self.publish()

    def publish(self) -> None:
        """Publishes what could not be published before; call it now and then.

        Raises:
            LeaseLost: another process has taken over.
        """
        if self._publisher is not None:
            try:
                self._publisher.publish()
            except EpochEnded as error:
                raise LeaseLost(str(error)) from error

    def publish_status(self, content: bytes, kept_seconds: float) -> None:
        """Publishes what the learner says of itself, where the files are published.

        Args:
            kept_seconds: after which that counts no more.

        Raises:
            LeaseLost: another process has taken over.
        """
        if self._publisher is not None:
            try:
                self._publisher.publish_status(content, kept_seconds=kept_seconds)
            except EpochEnded as error:
                raise LeaseLost(str(error)) from error

    def _begin_epoch(self) -> int:
        known = [_read_epoch(self._files), *(file.epoch for file in _state_files(self._files))]
        if self._publisher is not None:
            known.append(self._publisher.last_epoch())
        epoch = 1 + max(known)
        self._files.write(EPOCH, b"%d\n" % epoch)
        if self._publisher is not None:
            try:
                self._publisher.begin(epoch)
            except EpochEnded as error:  # another learner starts just now
                raise LeaseHeld(str(error)) from error
        return epoch

    def _names_of_epoch(self) -> list[str]:
        return [
            file.name
            for file in _state_files(self._files)
            if file.epoch == self.epoch and file.number != _PAST_NUMBER
        ]

    @property
    def _is_snapshot_due(self) -> bool:
        if self._number - self._snapshot_number < self._snapshot_every:
            return False
        return self._snapshot_bytes <= max(_SMALL_SNAPSHOT, self._delta_bytes)

    def _write_snapshot(self, whole: WholeState, *, number: int) -> int:
        """Returns the size of the file."""
        content = {
            "position": whole.position,
            "extra": whole.extra,
            "snapshot_extra": whole.snapshot_extra,
            "fingerprint": self._fingerprint,
            "settings": asdict(whole.model.settings),
            "model": take_state(whole.model),
        }
        num_bytes = self._write("snapshot", content, number=number)
        self._positions[_name("snapshot", self.epoch, number=number)] = whole.position
        return num_bytes

    def _write(self, kind: str, content: dict[str, Any], *, number: int) -> int:
        """Returns the size of the file."""
        self._check_lease()
        encoded = encode(content)
        self._files.write(_name(kind, self.epoch, number=number), encoded)
        return len(encoded)

    def _check_lease(self) -> None:
        if self._lock < 0:
            raise LeaseLost(f"{self._folder}: the lease was given up")
        epoch = _read_epoch(self._files)
        if epoch != self.epoch:
            raise LeaseLost(f"{self._folder}: epoch {epoch} has begun, this one is {self.epoch}")

    def _keep_alone(self, past: WholeState | None) -> None:
        """Deletes all files but the snapshot just written, and an earlier state."""
        kept = {_name("snapshot", self.epoch, number=self._number)}
        if past is not None:
            self.before_commit()  # of what it came from, more may have been found
            self._write_snapshot(past, number=_PAST_NUMBER)
            kept.add(_name("snapshot", self.epoch, number=_PAST_NUMBER))
        for file in _state_files(self._files):
            if file.name not in kept and file.epoch <= self.epoch:
                self._files.delete(file.name)

    def _delete_old(self, keep_from: float) -> None:
        """Deletes what is older than the last snapshots, one of which is of before `keep_from`;
        where those of this epoch do not reach so far back, more of those before are kept."""
        files, snapshots = _state_files(self._files), _snapshots(self._files)
        oldest = snapshots[-_KEPT_SNAPSHOTS:][0]
        if self._positions.get(oldest.name, math.inf) > keep_from:
            early = [s for s in snapshots if self._positions.get(s.name, math.inf) <= keep_from]
            oldest = min(oldest, early[-1] if early else snapshots[-_MOST_SNAPSHOTS:][0])
        for file in files:
            if (file.epoch, file.number) < (oldest.epoch, oldest.number):
                self._files.delete(file.name)


def _settings_of(state: Mapping[str, Any]) -> ModelSettings:
    """Returns what the model of a snapshot was made with; the defaults where it does not say so."""
    found: dict[str, Any] = {
        name: Rates(**value) if isinstance(value, Mapping) else value
        for name, value in state.get("settings", {}).items()
    }
    return ModelSettings(**found)


def _name(kind: str, epoch: int, *, number: int) -> str:
    return f"{kind}-{epoch:010d}-{number:012d}.bin"


def _state_files(files: StateFiles) -> list[_File]:
    """Returns the files of states in the order in which they were written."""
    found = [(match, name) for name in files.names() if (match := _NAME.match(name))]
    return sorted(
        _File(int(match["epoch"]), int(match["number"]), match["kind"], name)
        for match, name in found
    )


def _snapshots(files: StateFiles) -> list[_File]:
    return [file for file in _state_files(files) if file.kind == "snapshot"]


def _read_epoch(files: StateFiles) -> int:
    try:
        return int(files.read(EPOCH))
    except FileNotFoundError:
        return 0
    except ValueError:
        raise DamagedState(
            f"{files.shown(EPOCH)}: is no number; write the last epoch into it"
        ) from None


def _check_fingerprint(model: OnlineModel, state: dict[str, Any], *, shown: str) -> None:
    if state["fingerprint"] != fingerprint(model):
        raise ValueError(
            f"{shown}: holds a model with other settings or tables; give those, or another folder"
        )
