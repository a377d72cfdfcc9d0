"""One index and the folders it is made of: writes, runs of the indexer, and how far they are."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any

from reelseek.configs.schema import ModelConfig, ServeConfig
from reelseek.flags import as_item
from reelseek.indexing.store.manifest import Manifest
from reelseek.serving.library import writes
from reelseek.serving.library.errors import InvalidRequest, without_paths
from reelseek.serving.library.index_run import IndexRun
from reelseek.serving.library.jobs import Jobs, Run
from reelseek.serving.library.metadata import checked_changes
from reelseek.serving.library.roots import AddableRoots
from reelseek.serving.library.target import is_glob, source_folder
from reelseek.serving.library.watching import Watcher

MAX_VIDEOS = 200  # of one request
PUBLISH_SECONDS = 10.0  # from one publishing during a run to the next, at least
SETTLE_SECONDS = 2.0
REPORT_SECONDS = 30.0  # after single videos were added, all are looked at again


class Library:
    """All that changes an index; threads may share it.

    Args:
        config: with the folder of the index, and absolute paths of the videos to index and watch.
        index_run: starts the indexer with these options of its command line.
        settle_seconds: for which a new file must stay the same.
    """

    def __init__(
        self,
        config: ServeConfig,
        *,
        index_run: Callable[..., Run] = IndexRun,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        assert config.index is not None
        self._index = Path(config.index)
        self._videos = [os.path.abspath(name) for name in config.videos]
        roots = config.roots or [
            source_folder(name) if is_glob(name) else name
            for name in self._videos
            if not Path(name).is_file()
        ]
        self._roots = AddableRoots(roots)
        self._model = config.model
        self._options = config.index_options
        self._index_run = index_run
        self._settle_seconds = settle_seconds
        self._names = _names([self._index, *map(Path, (*self._videos, *roots))])
        self._jobs = Jobs(self._start_run)
        self._watcher: Watcher | None = None
        if self._videos:
            self._watcher = Watcher(
                self._videos,
                on_change=self._jobs.request_run,
                images="images=true" in self._options,
                rescan_seconds=60 * config.rescan_minutes,
                settle_seconds=settle_seconds,
            )

    def status(self, _: Any = None) -> dict[str, Any]:
        """Returns the state of the indexer, and the names of what is watched; no paths."""
        state = self._jobs.state()
        state["reason"] = without_paths(state["reason"], self._names)
        return {"indexing": state, "watching": [_shown(name) for name in self._videos]}

    def delete(self, request: dict[str, Any]) -> dict[str, Any]:
        """Deletes videos.

        Args:
            request: `ids`.

        Returns:
            The `token` of the state after it.
        """
        public_ids = _texts(request.get("ids"), "ids")
        token = self._jobs.write(lambda: writes.delete_videos(self._index, public_ids))
        return {"token": str(token)}

    def patch(self, request: dict[str, Any]) -> dict[str, Any]:
        """Changes metadata of a video.

        Args:
            request: `id`, and `metadata` with the values to change, None for those to remove.

        Returns:
            The `token` of the state after it, and all of its `metadata`.
        """
        changes = checked_changes(request.get("metadata"))
        (public_id,) = _texts([request.get("id")], "id")
        token, metadata = self._jobs.write(
            lambda: writes.change_metadata(self._index, public_id, changes)
        )
        return {"token": str(token), "metadata": metadata}

    def add(self, request: dict[str, Any]) -> dict[str, Any]:
        """Indexes videos before all others, also those that were deleted.

        Args:
            request: `videos`, their keys below the roots, and `wait_seconds` to wait at most.

        Returns:
            `done`, whether all were looked at in this time; then the `token` of the state after it
            and, of each of the `videos`, its key, `id`, `outcome` and `reason`.
        """
        if not self._roots:
            raise InvalidRequest("this service has no folder to add videos from; it needs roots=")
        keys = _texts(request.get("videos"), "videos")
        sources = [self._roots.source(key) for key in keys]
        paths = [source.replace("/./", "/", 1) for source in sources]
        known_as = [*paths, *map(os.path.realpath, paths)]
        if writes.is_any_excluded(self._index, known_as):
            self._jobs.write(lambda: writes.include_paths(self._index, known_as))
        adding = self._jobs.add(sources)
        if self._videos:  # the report of a run over single videos says nothing of the others
            adding.add_done_callback(lambda _: self._jobs.request_run(after_seconds=REPORT_SECONDS))
        try:
            adding.result(timeout=float(request.get("wait_seconds", 30.0)))
        except FutureTimeout:
            return {"done": False, "token": None, "videos": []}
        except InvalidRequest as error:
            raise InvalidRequest(without_paths(str(error), self._names)) from error
        token = str(writes.current_state(self._index))
        found = writes.find_by_path(self._index, known_as)
        videos = [_outcome(key, path, found) for key, path in zip(keys, paths, strict=True)]
        return {"done": True, "token": token, "videos": videos}

    def close(self) -> None:
        """Stops watching, and a run; what is done is kept."""
        if self._watcher is not None:
            self._watcher.close()
        self._jobs.close()

    def _start_run(self, videos: Sequence[str], on_change: Any) -> Run:
        options = [f"videos={as_item(name)}" for name in videos or self._videos]
        options += [f"index={self._index}", "progress=json", "niceness=10", "keep_edits=true"]
        options.append(f"publish_every_seconds={PUBLISH_SECONDS}")
        # Who adds single videos says that they are whole, and wants them tried again.
        options += ["retry_failed=true"] if videos else [f"settle_seconds={self._settle_seconds}"]
        if self._model is not None and not Manifest.exists(self._index):
            options += model_options(self._model)
        return self._index_run([*options, *self._options], on_change=on_change)


def model_options(model: ModelConfig) -> list[str]:
    """Returns what names this model on the command line of the indexer."""
    options = [f"model={model.name}"]
    if model.pretrained is not None:
        options.append(f"model.pretrained={model.pretrained}")
    if model.scripts:
        options.append(f"model.scripts=[{','.join(model.scripts)}]")
    return options


def _texts(values: Any, name: str) -> list[str]:
    if not isinstance(values, list) or not 0 < len(values) <= MAX_VIDEOS:
        raise InvalidRequest(f"{name}: must be a list of 1 to {MAX_VIDEOS}")
    if not all(isinstance(value, str) for value in values):
        raise InvalidRequest(f"{name}: must be text")
    return list(dict.fromkeys(values))


def _shown(name: str) -> str:
    """What is watched, without the path of the server that leads there."""
    if not is_glob(name):
        return Path(name).name
    return os.path.relpath(name, Path(source_folder(name)).parent)


def _names(folders: Sequence[Path]) -> dict[str, str]:
    return {str(folder): folder.name for folder in folders}


def _outcome(key: str, path: str, found: dict[str, Any]) -> dict[str, str]:
    record = found.get(path) or found.get(os.path.realpath(path))
    if record is None:
        return {"video": key, "id": "", "outcome": "failed", "reason": "it could not be read"}
    return {
        "video": record.key,
        "id": record.public_id,
        "outcome": record.outcome,
        "reason": record.reason,
    }
