"""Hits of a search -> the bytes of an answer."""

from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from reelseek.ranking.hits import SearchHit, SearchResults
from reelseek.ranking.searcher import Searcher
from reelseek.text.query.analyzer import AnalyzedQuery

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True)
class Answer:
    """An answer that may be kept.

    Attributes:
        body: without the request id.
        etag: of the body.
        stage_seconds: what it took when it was worked out.
        is_complete: whether all shards answered; else it is not kept for others.
        score_unit: a difference of the hits' scores that is one of relevance; 0 where scores do not
            tell, and hits stay as they are.
    """

    body: bytes
    etag: str
    stage_seconds: dict[str, float]
    is_complete: bool = True
    score_unit: float = 0.0


def hit_fields(hit: SearchHit, *, explain: bool = True) -> dict[str, Any]:
    """A hit as the command line's JSON has it, but that `video` is the key: no path of this machine
    leaves it."""
    return {
        "rank": hit.rank,
        "id": hit.id,
        "video": hit.key,
        "score": hit.score,
        "start_seconds": hit.start_seconds,
        "end_seconds": hit.end_seconds,
        "best_seconds": hit.best_seconds,
        "duration_seconds": hit.duration_seconds,
        "metadata": hit.metadata,
        "confidence": hit.confidence,
        "evidence": [asdict(each) for each in hit.evidence] if explain else [],
        "date": hit.date,
        "date_source": hit.date_source,
        "also_as": [{"id": copy.id, "video": copy.key} for copy in hit.also_as],
    }


def meaning_fields(text: str, meaning: AnalyzedQuery | None) -> dict[str, Any]:
    """What a sentence is taken to mean; the sentence alone where it was not analysed."""
    if meaning is None:
        return {"text": text, "sentence": text}
    return {
        "text": text,
        "sentence": meaning.text or text,
        "filters": [
            {"where": each.where, "phrase": each.phrase, "source": each.source}
            for each in meaning.constraints
        ],
        "excluded": list(meaning.excluded),
        "steps": list(meaning.steps),
        "corrections": [
            {"original": each.original, "corrected": each.corrected} for each in meaning.corrections
        ],
        "entities": [{"text": each.text, "kind": each.kind} for each in meaning.entities],
    }


def strip_fields(searcher: Searcher, results: SearchResults) -> dict[str, dict[str, Any]]:
    """How well every part of each video that was found matches, by id."""
    assert results.request is not None
    matches = searcher.match_segments(results.request, list({hit.id for hit in results}))
    return {
        id: {
            "spans": [[round(float(second), 3) for second in span] for span in found.spans],
            "scores": [round(float(score), 4) for score in found.scores],
            "probabilities": None
            if found.probabilities is None
            else [round(float(each), 4) for each in found.probabilities],
        }
        for id, found in matches.items()
    }


def body_without_id(
    results: SearchResults,
    *,
    query: dict[str, Any],
    strips: dict[str, dict[str, Any]],
    explain: bool,
) -> bytes:
    """All of an answer but its request id, so that it may be kept for others who ask the same."""
    hits = [hit_fields(hit, explain=explain) for hit in results]
    for fields in hits:
        if fields["id"] in strips:
            fields["strip"] = strips[fields["id"]]
    cursor = results.next_cursor
    answered, of = results.shards_answered
    return _encoder.encode(
        {
            "query": query,
            "hits": hits,
            "why_empty": results.why_empty,
            "next_cursor": None if cursor is None else str(cursor),
            "generation": results.generation,
            "shards": {"answered": answered, "of": of},
        }
    )


def with_request_id(body: bytes, request_id: str) -> bytes:
    """Puts the id before an answer's other fields."""
    return b'{"request_id":"' + request_id.encode() + b'",' + body[1:]
