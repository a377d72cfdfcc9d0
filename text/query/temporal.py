"""Splits a sentence into its events in order of time.

    "a man opens a door, then a dog runs out" -> ("a man opens a door", "a dog runs out")
    "after the rain stops, kids run outside"  -> ("the rain stops", "kids run outside")

"Before" and "after" only separate clauses: "sunset after the rain" is one event. "Then" only counts
between two events, not in "back then" or "now and then".
"""

from reelseek.text.query.constraints import CUT
from reelseek.text.query.grammars import chinese, english, japanese, korean, thai, vietnamese
from reelseek.text.query.grammars.base import Order, compiled

_GRAMMARS = {
    "zh": chinese.ORDER,
    "ja": japanese.ORDER,
    "ko": korean.ORDER,
    "th": thai.ORDER,
    "vi": vietnamese.ORDER,
}
_EDGES = f" ,;.\uff0c。{CUT}"
_MIN_CHARACTERS = 2  # of an event


def temporal_steps(text: str, *, language: str = "en") -> tuple[str, ...]:
    """Returns the events of a normalised sentence in order of time; none if it has only one.

    Args:
        text: The sentence.
        language: ISO 639-1 code; languages without a grammar are read as English.
    """
    text = text.strip(_EDGES)
    if not text:
        return ()
    grammar = _GRAMMARS.get(language)
    steps = _english_steps(text) if grammar is None else _steps(text, grammar)
    steps = [event.strip(_EDGES) for event in steps]
    if len(steps) < 2 or min(map(len, steps)) < _MIN_CHARACTERS:
        return ()
    return tuple(steps)


def _english_steps(text: str) -> list[str]:
    if text[:3].casefold() == "if ":  # "if it rains, then it pours" is a condition
        return [text]
    parts = [part for part in english.BETWEEN.split(text) if part]
    if len(parts) > 1:
        parts[0] = english.FIRST.sub("", parts[0])
    return [event for part in parts for event in _split_before_and_after(part)]


def _split_before_and_after(part: str) -> list[str]:
    for pattern in (english.AFTER_FIRST, english.AFTER):
        match = pattern.match(part)
        if match and english.HAS_VERB.search(match["later"]):
            return [match["first"], match["later"]]
    first, *later = english.BEFORE.split(part, maxsplit=1)
    return [first, *later] if later and english.HAS_VERB.search(first) else [part]


def _steps(text: str, grammar: Order) -> list[str]:
    if grammar.after and (match := compiled(grammar.after).match(text)):
        return [match["first"], match["later"]]
    between = "|".join(filter(None, (grammar.between, grammar.before)))
    parts = [part for part in compiled(between).split(text) if part]
    if len(parts) > 1:
        parts[0] = compiled(grammar.first).sub("", parts[0])
    return parts
