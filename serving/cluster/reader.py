"""An index whose shards other machines read -> the candidates for a search.

The same as `indexing.reader.IndexReader` does on one machine (which says what each method
returns), but that shards may be missing from an answer.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.indexing import filters
from reelseek.indexing.candidates import CandidateSet, CollectionStatistics, GatherRequest
from reelseek.indexing.lexical.scoring import TermStatistics
from reelseek.indexing.shards.clusters import ClusterMap, is_near, parse_max_asked, read_clusters
from reelseek.indexing.shards.gathering import gather
from reelseek.indexing.store.catalogue import VideoRecord
from reelseek.indexing.store.manifest import Manifest
from reelseek.serving.cluster.catalogues import Catalogues
from reelseek.serving.cluster.fan_out import FanOut
from reelseek.serving.cluster.shard_calls import RemoteShards
from reelseek.serving.cluster.shards import Reply, StaleGeneration
from reelseek.serving.cluster.source import Generation, IndexSource
from reelseek.serving.cluster.terms import KnownTerms

logger = logging.getLogger(__name__)

_ASK_AGAIN_SECONDS = 5.0  # for the statistics of a shard that did not answer


class ShardsUnavailable(Exception):
    """No shard has answered."""


@dataclass(eq=False)
class _State:
    """A generation, and what the router knows of it.

    Attributes:
        clusters: by which videos are placed; None where that is by hash.
        counts: videos of each shard.
        statistics: of the groups that have told theirs; those of a group that has not yet are
            taken from the generation before.
        merged: of these; None until they are needed.
    """

    manifest: Manifest
    generation: Generation
    clusters: ClusterMap | None
    counts: list[int]
    statistics: dict[int, CollectionStatistics] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)
    merged: CollectionStatistics | None = None
    ask_at: float = 0.0
    terms: KnownTerms = field(default_factory=KnownTerms)
    fields: set[str] = field(default_factory=set)
    measuring: threading.Lock = field(default_factory=threading.Lock)


@dataclass(eq=False)
class _Query:
    """What one query reads, and which groups did not answer it: they are not asked again."""

    state: _State
    missing: set[int] = field(default_factory=set)


class ClusterReader:
    """Reads an index through the replicas of its shards; several threads may search at once.

    Args:
        source: of the manifest, and of the catalogues where `revision` or `record` is called.
        shards: the deployments that read the shards, by group.
        shards_asked: see `IndexReader`.

    Raises:
        ValueError: there is no index, or its manifest is damaged.
    """

    def __init__(
        self, source: IndexSource, shards: FanOut, *, shards_asked: str | int = "auto"
    ) -> None:
        self._max_asked = parse_max_asked(shards_asked)
        self._source = source
        self._shards = shards
        self._refreshing = threading.Lock()
        self._held = threading.local()
        self._folder = source.folder()
        self._latest = self._read(self._folder)
        self._catalogues = Catalogues()

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def manifest(self) -> Manifest:
        return self._query.state.manifest

    @property
    def generation(self) -> Generation:
        return self._query.state.generation

    @property
    def revision(self) -> int:
        if not self._source.is_changed_in_place:
            return self._latest.manifest.revision
        return self._catalogues.revision(self._folder, self._latest.manifest)

    @property
    def shards_answered(self) -> tuple[int, int]:
        """How many shards the answer of this thread comes from, and of how many."""
        query = self._query
        num_shards = len(query.state.manifest.shard_manifests(self._folder))
        missing = (range(num_shards)[group :: len(self._shards)] for group in query.missing)
        return num_shards - sum(map(len, missing)), num_shards

    @contextmanager
    def one_generation(self) -> Iterator[None]:
        """Keeps this thread on the generation in use, and on the shards that have answered."""
        if self._held_query is not None:
            yield
            return
        self._held.query = _Query(self._latest)
        try:
            yield
        finally:
            self._held.query = None

    def refresh(self, prepare: Callable[[], None] | None = None) -> bool:
        with self._refreshing:
            folder = self._source.folder()
            state = self._read(folder)
            if state.generation == self._latest.generation:
                return False
            self._shards.broadcast("look")
            if state.generation.division == self._latest.generation.division:
                state.statistics = dict(self._latest.statistics)
            held = self._held_query
            self._held.query = _Query(state)
            try:
                if prepare is not None:
                    prepare()
            finally:
                self._held.query = held
            self._folder, self._latest = folder, state
            return True

    def gather(self, request: GatherRequest) -> CandidateSet:
        """As `IndexReader.gather`, of the shards that answer.

        Raises:
            ValueError: the filter is wrong, or a file is damaged.
            ShardsUnavailable: none answers.
            StaleGeneration: the generation is gone; `refresh` finds the newest one.
        """
        with self.one_generation():
            self._check(request.where)
            shards = RemoteShards(request, self._step, num_groups=len(self._groups))
            return gather(shards, request, is_near=self._is_near(request).tolist())

    def _step(self, name: str, arguments: Mapping[int, Sequence[Any]]) -> dict[int, Any]:
        """Has groups take a step of a search; see `RemoteShards`."""
        query = self._query
        answers = self._answers_to(
            name, {group: own for group, own in arguments.items() if group not in query.missing}
        )
        if query.missing >= self._groups:
            raise ShardsUnavailable
        return answers

    def _is_near(self, request: GatherRequest) -> np.ndarray:
        state = self._query.state
        return is_near(
            state.manifest,
            request,
            clusters=state.clusters,
            counts=state.counts,
            max_asked=self._max_asked,
        )

    def statistics(self) -> CollectionStatistics:
        state = self._query.state
        with state.measuring:
            lacking = self._groups - state.told
            if lacking and time.monotonic() >= state.ask_at:
                try:
                    answers = self._answers("statistics", to=lacking)
                finally:
                    state.ask_at = time.monotonic() + _ASK_AGAIN_SECONDS
                if answers or state.merged is None:
                    state.statistics |= answers
                    state.told |= answers.keys()
                    state.merged = None
            if state.merged is None:
                if not state.statistics:
                    raise ShardsUnavailable
                known = [state.statistics[group] for group in sorted(state.statistics)]
                state.merged = CollectionStatistics.merge(known)
            return state.merged

    def measure(self) -> bool:
        """Asks the shards for their statistics; returns whether all have told them.

        Raises:
            ShardsUnavailable: none has.
        """
        state = self._query.state
        state.ask_at = 0.0
        self.statistics()
        return self._groups <= state.told

    def term_statistics(self, stems: Sequence[str]) -> dict[str, TermStatistics]:
        query = self._query
        known = query.state.terms.find(stems)
        if known is not None:
            return known
        answers = self._answers("term_statistics", list(stems))
        terms = TermStatistics.merge_levels(answers.values())
        if answers.keys() == self._groups:
            query.state.terms.add(stems, terms)
        return terms

    def copies(self, contents: Iterable[str], *, where: str | None = None) -> list[VideoRecord]:
        contents = list(contents)
        if not contents:
            return []
        self._check(where)
        answers = self._answers("copies", contents, where)
        return [record for group in sorted(answers) for record in answers[group]]

    def count(self, where: str) -> int:
        self._check(where)
        return sum(self._ask("count", where))

    def record(self, public_id: str) -> VideoRecord | None:
        """Returns the entry of a video, from the catalogues of the shared folder."""
        return self._catalogues.record(self._folder, self._latest.manifest, public_id)

    def video_ids(self) -> list[str]:
        return sorted(public_id for names in self._ask("names") for _, public_id in names)

    def ids_by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for names in self._ask("names"):
            for key, public_id in names:
                for name in (key, public_id):
                    found.setdefault(name, []).append(public_id)
        return found

    def metadata(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for group in self._ask("metadata"):
            yield from group

    def log_queries(self, embeddings: Sequence[np.ndarray]) -> None:
        """Keeps nothing: a query may be sent twice, and shards only read."""

    @property
    def has_lexical_index(self) -> bool:
        return self.statistics().has_texts

    @property
    def skipped(self) -> str:
        if self.has_lexical_index:
            return ""
        return "texts are not searched by their words, which this index lacks"

    def check_filter(self, where: str) -> filters.Filter:
        condition = filters.parse_filter(where)
        state = self._query.state
        try:
            filters.check_fields(condition, state.fields)
        except ValueError:  # a field may be new
            answers = self._answers("metadata_fields")
            state.fields = state.fields.union(*answers.values())
            filters.check_fields(condition, state.fields)
        return condition

    def close(self) -> None:
        self._catalogues.close()
        self._shards.close()
        self._source.close()

    @property
    def _held_query(self) -> _Query | None:
        return getattr(self._held, "query", None)

    @property
    def _query(self) -> _Query:
        return self._held_query or _Query(self._latest)

    @property
    def _groups(self) -> set[int]:
        """The groups that have shards in this generation."""
        num_shards = len(self.manifest.shard_manifests(self._folder))
        return set(range(min(num_shards, len(self._shards))))

    def _check(self, where: str | None) -> None:
        if where is not None:
            self.check_filter(where)

    def _ask(self, name: str, *arguments: Any) -> list[Any]:
        """The answers of the groups, in their order; at least one."""
        answers = self._answers(name, *arguments)
        if not answers:
            raise ShardsUnavailable
        return [answers[group] for group in sorted(answers)]

    def _answers(self, name: str, *arguments: Any, to: set[int] | None = None) -> dict[int, Any]:
        groups = (self._groups if to is None else to) - self._query.missing
        return self._answers_to(name, {group: arguments for group in sorted(groups)})

    def _answers_to(self, name: str, arguments: Mapping[int, Sequence[Any]]) -> dict[int, Any]:
        query = self._query
        calls = {g: (name, query.state.generation, own) for g, own in arguments.items()}
        replies: dict[int, Reply] = self._shards.call("answer", calls, kind=name)
        query.missing |= calls.keys() - replies.keys()
        for reply in replies.values():
            if reply.is_stale:
                raise StaleGeneration
            if reply.refused:
                raise ValueError(reply.refused)
        return {group: reply.value for group, reply in replies.items()}

    @staticmethod
    def _read(folder: Path) -> _State:
        manifest, clusters = _read_description(folder)
        counts = [own.num_videos for own in manifest.shard_manifests(folder).values()]
        return _State(manifest, Generation.of(manifest), clusters, counts)


def _read_description(folder: Path) -> tuple[Manifest, ClusterMap | None]:
    """Reads the manifest with its clusters, again where a writer replaces them meanwhile."""
    manifest = Manifest.read(folder)
    while True:
        try:
            return manifest, read_clusters(folder, manifest)
        except FileNotFoundError as error:
            before, manifest = manifest, Manifest.read(folder)
            if manifest.generation == before.generation:
                raise ValueError(
                    f"index={folder}: lacks {error.filename}; run reelseek repair --index {folder}"
                ) from error
