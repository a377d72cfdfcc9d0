"""What HTTP asks of a search: parameters, JSON or a form with files -> one checked request."""

import re
from collections.abc import Hashable
from typing import Any, Literal

import msgspec

from reelseek.ranking.query_parts import Query, Similar
from reelseek.serving.errors import ApiError

MAX_HITS = 200
MAX_QUERY_LETTERS = 2000
MAX_PARTS = 8

Level = Literal["video", "moment"]
_LIKED = re.compile(r"(?P<id>[^@]{1,64})(?:@(?P<start>[0-9.]{1,12})-(?P<end>[0-9.]{1,12}))?")

EXAMPLE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Hits, best first",
        "content": {
            "application/json": {
                "example": {
                    "request_id": "5f0c2a9d",
                    "query": {"text": "a dog on a beach", "sentence": "a dog on a beach"},
                    "hits": [
                        {
                            "rank": 1,
                            "id": "7h4iuog5w56v",
                            "video": "holiday/beach.mp4",
                            "score": 0.31,
                            "start_seconds": 12.0,
                            "end_seconds": 19.5,
                            "best_seconds": 15.0,
                            "duration_seconds": 63.2,
                            "metadata": {"title": "At the beach"},
                            "confidence": 0.93,
                            "evidence": [{"source": "visual", "rank": 1, "score": 0.31}],
                        }
                    ],
                    "why_empty": "",
                    "next_cursor": None,
                    "generation": 3,
                    "shards": {"answered": 1, "of": 1},
                }
            }
        },
    }
}


class SearchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a parameter, a field of a form and of JSON, and a SearchRequest call the same."""

    k: int = 10
    level: Level = "video"
    where: str | None = None
    min_confidence: float = 0.0
    sources: str | None = None
    analyze: bool = True
    explain: bool = True
    strip: bool = False
    cursor: str | None = None


class SearchRequest(SearchOptions, frozen=True, kw_only=True):
    """All that an answer depends on, beside the state of the index.

    Attributes:
        text: a sentence; may be empty where there are other parts.
        similar: videos of the index, or stretches of them.
        uploads: embeddings of pictures and videos that were sent along, as bytes of float32.
        weights: of the text, then of `similar`, then of `uploads`; none where all are 1.
    """

    text: str = ""
    similar: tuple[Similar, ...] = ()
    uploads: tuple[bytes, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (self.text.strip() or self.similar or self.uploads):
            raise ApiError(
                422, "invalid_request", "q: say in a few words what the video should show"
            )
        if len(self.text) > MAX_QUERY_LETTERS:
            raise ApiError(413, "query_too_long", f"q has over {MAX_QUERY_LETTERS} letters")
        if len(self.similar) + len(self.uploads) > MAX_PARTS:
            raise ApiError(413, "too_many_parts", f"a query has at most {MAX_PARTS} parts")

    @property
    def key(self) -> Hashable:
        return msgspec.structs.astuple(self)

    @property
    def chosen_sources(self) -> list[str] | None:
        return self.sources.split(",") if self.sources else None

    @property
    def query(self) -> Query:
        """What `Searcher.search` takes."""
        import numpy as np

        parts: list[Any] = [self.text] if self.text.strip() else []
        parts += self.similar
        parts += [np.frombuffer(each, np.float32) for each in self.uploads]
        if self.weights:
            return list(zip(parts, self.weights, strict=True))
        return parts[0] if len(parts) == 1 else parts


def liked(text: str) -> Similar:
    """Reads `ID` or `ID@START-END`."""
    match = _LIKED.fullmatch(text)
    if match is None:
        raise ApiError(400, "invalid_request", f"like={text[:80]}: must be ID or ID@START-END")
    try:
        if match["start"] is None:
            return Similar(match["id"])
        return Similar(match["id"], float(match["start"]), float(match["end"]))
    except ValueError as error:
        raise ApiError(400, "invalid_request", f"like={text}: {error}") from error


class JsonPart(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a query: words, or a video of the index or a stretch of it."""

    text: str | None = None
    like: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    weight: float = 1.0


class JsonQuery(SearchOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a POST."""

    parts: list[JsonPart]
    timeout_ms: int | None = None

    @staticmethod
    def openapi() -> dict[str, Any]:
        """How OpenAPI describes the body."""
        _, components = msgspec.json.schema_components([JsonQuery, JsonPart])
        query = {**components["JsonQuery"]}
        query["properties"] = {
            **query["properties"],
            "parts": {"type": "array", "items": components["JsonPart"]},
        }
        file = {"type": "string", "format": "binary"}
        form = {
            "type": "object",
            "properties": {
                "q": {"type": "string"},
                "image": {"type": "array", "items": file},
                "video": {"type": "array", "items": file},
            },
        }
        return {
            "required": True,
            "content": {
                "application/json": {
                    "schema": query,
                    "example": {
                        "parts": [{"text": "at night"}, {"like": "7h4iuog5w56v", "weight": -0.5}]
                    },
                },
                "multipart/form-data": {"schema": form},
            },
        }


def from_json(body: bytes) -> tuple[SearchRequest, int | None]:
    """Reads the body of a POST; returns the request, and its time limit in milliseconds."""
    try:
        asked = msgspec.json.decode(body, type=JsonQuery)
    except msgspec.DecodeError as error:
        raise ApiError(400, "invalid_request", str(error)) from error
    _check_numbers(asked.k, asked.min_confidence, asked.timeout_ms)
    texts = [part for part in asked.parts if part.text is not None]
    if len(texts) > 1 or any((part.text is None) == (part.like is None) for part in asked.parts):
        message = "parts: each has either text or like, and one has text at most"
        raise ApiError(400, "invalid_request", message)
    similar = [part for part in asked.parts if part.like is not None]
    weights = [part.weight for part in (*texts, *similar)]
    return (
        SearchRequest(
            text=texts[0].text or "" if texts else "",
            similar=tuple(_similar(part) for part in similar),
            weights=() if all(weight == 1 for weight in weights) else tuple(weights),
            **{name: getattr(asked, name) for name in _PLAIN},
        ),
        asked.timeout_ms,
    )


_PLAIN = SearchOptions.__struct_fields__


def _similar(part: JsonPart) -> Similar:
    assert part.like is not None
    try:
        return Similar(part.like, part.start_seconds, part.end_seconds)
    except ValueError as error:
        raise ApiError(400, "invalid_request", f"parts: {error}") from error


def from_form(values: dict[str, str]) -> tuple[SearchRequest, int | None]:
    """Reads the fields of a form; the embeddings of its files are still to be put in."""
    known = {name: values[name] for name in (*_PLAIN, "timeout_ms") if name in values}
    unknown = values.keys() - known.keys() - {"q", "like"}
    if unknown:
        raise ApiError(400, "invalid_request", f"{min(unknown)}: there is no such field")
    try:
        asked = msgspec.convert({**known, "parts": []}, JsonQuery, strict=False)
    except msgspec.ValidationError as error:
        raise ApiError(400, "invalid_request", str(error)) from error
    _check_numbers(asked.k, asked.min_confidence, asked.timeout_ms)
    similar = [liked(each) for each in values.get("like", "").split(",") if each]
    request = SearchRequest(
        text=values.get("q", ""),
        similar=tuple(similar),
        uploads=(b"",),
        **{name: getattr(asked, name) for name in _PLAIN},
    )
    return request, asked.timeout_ms


def _check_numbers(k: int, min_confidence: float, timeout_ms: int | None) -> None:
    if not 1 <= k <= MAX_HITS:
        raise ApiError(422, "invalid_request", f"k={k}: must be 1 to {MAX_HITS}")
    if not 0 <= min_confidence <= 1:
        message = f"min_confidence={min_confidence}: must be 0 to 1"
        raise ApiError(422, "invalid_request", message)
    if timeout_ms is not None and not 1 <= timeout_ms <= 600_000:
        raise ApiError(422, "invalid_request", f"timeout_ms={timeout_ms}: must be 1 to 600000")
