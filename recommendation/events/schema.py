"""The JSON of a request -> typed events, or the reason why it is refused.

`docs/events.md` says what each field means, also of `Deletion`, which no client sends. A change of
meaning needs a new `SCHEMA_VERSION`; a new optional field does too, so that a reader knows who
could have sent it.
"""

import hashlib
import re
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

SCHEMA_VERSION = 1
MAX_EVENTS = 1000  # in a request

_MAX_AHEAD_SECONDS = 24 * 3600.0  # clocks of phones are wrong, but not by more than time zones
_EARLIEST_SECONDS = 1e9  # September 2001; less is no Unix time, but seconds since a page was opened

# No control characters, as ids are printed. The end is written so that it means the same to Python
# and, in OpenAPI, to JavaScript.
_END = r"(?![\s\S])"
Id: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]*" + _END)
]
Name: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}" + _END)]
Text: TypeAlias = Annotated[str, Meta(max_length=2000)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=1e9)]
Rank: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000)]
Version: TypeAlias = Annotated[int, Meta(ge=1, le=SCHEMA_VERSION)]


class Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag=str.lower,
):
    """What all kinds have in common.

    Attributes:
        event_id: made by the client, such as a UUID; stored once.
        time_seconds: Unix time by the client's clock.
        user, session: pseudonyms; at least one of them.
        request_id: of the answer that showed what this is about.
    """

    event_id: Id
    time_seconds: float
    user: Id | None = None
    session: Id | None = None
    request_id: Id | None = None
    schema_version: Version = 1


class Search(Event, frozen=True, kw_only=True):
    """A query was sent.

    Attributes:
        num_hits: that the answer had.
    """

    query: Text
    num_hits: Count | None = None


class VideoEvent(Event, frozen=True, kw_only=True):
    """About a video, or a moment of it.

    Attributes:
        start_seconds, end_seconds: the moment; without an end, the second at which it began.
        position: rank in the list in which it was shown, from 1.
        surface: which list: `search`, `related`, ...
    """

    video: Id
    start_seconds: Seconds | None = None
    end_seconds: Seconds | None = None
    position: Rank | None = None
    surface: Name | None = None


class Impression(VideoEvent, frozen=True, kw_only=True):
    """A hit was seen.

    Attributes:
        propensity: the probability with which the list's maker chose it for this position.
    """

    position: Rank
    propensity: Annotated[float, Meta(gt=0, le=1)] | None = None


class Click(VideoEvent, frozen=True, kw_only=True):
    """A hit was opened."""


class Play(VideoEvent, frozen=True, kw_only=True):
    """A video was watched.

    Attributes:
        watched_seconds: that it played, without what was skipped, since it was opened or since the
            last such event of this playback; several add up.
    """

    watched_seconds: Seconds


class Skip(VideoEvent, frozen=True, kw_only=True):
    """The user went on to something else, on purpose."""


class Like(VideoEvent, frozen=True, kw_only=True):
    """The user likes a video, or with `liked` false no longer does."""

    liked: bool = True


class Deletion(Event, frozen=True, kw_only=True):
    """All earlier events of a pseudonym were deleted; the log adds it, no client sends it.

    Attributes:
        pseudonym_sha256: hexadecimal SHA-256 of the pseudonym, which itself is no longer kept.
    """

    pseudonym_sha256: str

    def is_of(self, pseudonym: str | None) -> bool:
        """Whether the events of this user or session were deleted."""
        return pseudonym is not None and self.pseudonym_sha256 == sha256_of(pseudonym)


def sha256_of(pseudonym: str) -> str:
    """What is kept of a pseudonym whose events were deleted."""
    return hashlib.sha256(pseudonym.encode()).hexdigest()


AnyEvent: TypeAlias = Search | Impression | Click | Play | Skip | Like
CLASSES: tuple[type[Event], ...] = (Search, Impression, Click, Play, Skip, Like)
KINDS: dict[str, type[Event]] = {str(each.__struct_config__.tag): each for each in CLASSES}

_MAX_REASON_LETTERS = 200  # it may quote what was sent


class InvalidEvents(ValueError):
    """A request that is refused; the message names the event and its field."""


class TooManyEvents(InvalidEvents):
    """A request with more than `MAX_EVENTS` events."""


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/events`."""

    events: list[AnyEvent]


_decoder = msgspec.json.Decoder(Request)
_PLACE = re.compile(r"(?P<reason>.*) - at `(key in )?\$\.?(?P<place>.*)`", re.DOTALL)


def parse_events(body: bytes, *, now_seconds: float) -> list[AnyEvent]:
    """Returns the events of a request.

    Args:
        body: `{"events": [...]}`.
        now_seconds: Unix time; events of later than a day after it are refused.

    Raises:
        InvalidEvents: an event is not as the schema says.
    """
    try:
        events = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidEvents(_named(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEvents(f"the body is not JSON: {error}") from error
    if len(events.events) > MAX_EVENTS:
        raise TooManyEvents(
            f"events: {len(events.events)} of them; at most {MAX_EVENTS} in a request"
        )
    for index, event in enumerate(events.events):
        if reason := _fault(event, now_seconds):
            raise InvalidEvents(f"events[{index}].{reason}")
    return events.events


def _fault(event: AnyEvent, now_seconds: float) -> str:
    """Returns what types cannot say: the field and what is wrong with it, or nothing."""
    if not _EARLIEST_SECONDS <= event.time_seconds <= now_seconds + _MAX_AHEAD_SECONDS:
        return (
            f"time_seconds: {event.time_seconds:g} is not a Unix time in seconds between 2001 and "
            "a day from now"
        )
    if event.user is None and event.session is None:
        return "user: missing; an event has a user, a session or both"
    if isinstance(event, Search):
        return ""
    start, end = event.start_seconds, event.end_seconds
    if end is None:
        return ""
    if start is None:
        return "end_seconds: has no start_seconds beside it"
    return f"end_seconds: {end:g} is less than start_seconds" if end < start else ""


def _named(message: str) -> str:
    """Rewrites msgspec's "Expected ... - at `$.events[3].user`" to begin with the field."""
    found = _PLACE.fullmatch(message)
    if found is None:
        return f"the body: {message[:_MAX_REASON_LETTERS]}"
    reason, place = found["reason"][:_MAX_REASON_LETTERS], found["place"]
    if place.endswith(".kind"):
        reason = f"{reason}; known are {', '.join(KINDS)}"
    if "matching regex" in reason:
        reason = "has characters that are not allowed there"
    return f"{place}: {reason}"
