"""Hits of a search -> the bytes of an answer."""

from dataclasses import asdict
from typing import Any

import msgspec

from reelseek.ranking.hits import SearchHit, SearchResults
from reelseek.text.query.analyzer import AnalyzedQuery

_encoder = msgspec.json.Encoder()


def hit_fields(hit: SearchHit) -> dict[str, Any]:
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
        "evidence": [asdict(each) for each in hit.evidence],
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


def body_without_id(
    results: SearchResults, *, query: dict[str, Any], generation: int, further: dict[str, Any]
) -> bytes:
    """All of an answer but its request id, so that it may be kept for others who ask the same."""
    return _encoder.encode(
        {
            "query": query,
            "hits": [hit_fields(hit) for hit in results],
            "why_empty": results.why_empty,
            "generation": generation,
            "shards": {"answered": 1, "of": 1},
            **further,
        }
    )


def with_request_id(body: bytes, request_id: str) -> bytes:
    """Puts the id before an answer's other fields."""
    return b'{"request_id":"' + request_id.encode() + b'",' + body[1:]
