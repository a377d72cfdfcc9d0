"""A sentence -> the events that it tells, in order of time.

    "a man opens a door, then a dog runs out" -> ("a man opens a door", "a dog runs out")
    "after the rain stops, kids run outside"  -> ("the rain stops", "kids run outside")

"Before" and "after" make events of clauses only, "sunset after the rain" is one picture; and "then"
only between two that say something ("back then", "now and then" do not).
"""

from functools import cache

import regex

from reelseek.text.query.constraints import CUT

# Verbs of what is filmed, to tell a clause ("before he jumps") from a time ("before sunset").
_VERBS = (
    "add arrive ask bark begin bite blow board boil bounce bow break bring brush build burn "
    "buy call "
    "carry catch chase cheer clap clean climb close come cook cough cover crash crawl cross "
    "cry cut "
    "dance dive draw dress drink drive drop eat enter explode fall feed fight fill find "
    "finish fix "
    "flip fly fold follow get give go grab greet hand hang hide hit hold hug hop hurt jump "
    "kick kiss "
    "knock land laugh lay leave lift light lick listen look lose make meet mix move open pack "
    "paint "
    "park pass pick play point pour press pull push put race rain raise reach read ride ring rise "
    "roll run say scream score see serve set shake shave shoot shout show shut sing sit skate ski "
    "sleep slide slip smile sneeze snow sort speak spill spin splash spread stand start steal "
    "step "
    "stir stop swim swing switch take talk tear tell throw tie touch try turn type unlock wait "
    "wake "
    "walk wash watch wave wear whistle win wipe wrap write yell zoom"
).split()
_PAST = (
    "began bit blew broke brought built bought caught came cut drank drew drove ate fell fed "
    "fought "
    "found flew got gave went held hit hid hung kept laid left lit lost made met put ran rang "
    "read "
    "rode rose said sang sat saw set shook shot shut slept slid spoke spun stood stole swam swung "
    "threw took told tore turned woke wore won wrote"
).split()


def _inflected(verb: str) -> str:
    sibilant = verb.endswith(("s", "sh", "ch", "x", "z", "o"))
    if verb.endswith("y") and verb[-2] not in "aeou":
        return rf"{verb[:-1]}(?:y|ies|ied|ying)"
    stem = verb[:-1] if verb.endswith("e") else verb
    return rf"{verb}{'es' if sibilant else 's?'}|{stem}{verb[-1]}?(?:ed|ing)|{verb}"


_VERB = rf"\b(?:{'|'.join([*map(_inflected, _VERBS), *_PAST])})\b"
_SUBJECT = (
    r"(?:(?:an?|the|his|her|its|their|two|three|some|another|one) (?:[\w'-]+ ){1,4}?|"
    r"(?:he|she|it|they|we|someone|people|everyone|kids|children|players?|[A-Z][\w'-]*) "
    r"(?:\w+ )?)"
)
_ING = r"[\w'-]{2,}ing\b"
_CLAUSE = rf"(?:{_SUBJECT}(?:is |are |was |were )?{_VERB}|{_ING})"

# How events follow each other; `first` and `later` are their phrases.
_NOT_THEN_BEFORE = (
    r"(?<!\b(?:back|since|even|by|until|till|just|only|right|now|now and|the|"
    r"from|if|more|better|less|was|were|is|are|but))"
)
_EVENTS_EN = regex.compile(
    rf"(?:,\s*|;\s*|\.\s+)(?:and )?(?:then|after that|afterwards|next)\b,?\s+|"
    rf"{_NOT_THEN_BEFORE}\s+(?:and )?then\s+(?=\S+ \S)(?!some\b|again\b|and\b|there (?:was|"
    rf"were)\b)|"
    r",?\s*\bfollowed by\s+",
    regex.IGNORECASE,
)
_PREFIX_EN = regex.compile(
    r"^(?:first(?:ly)?(?: of all)?,?\s+(?!\w+ of\b)|at first,?\s+|to begin with,?\s+)",
    regex.IGNORECASE,
)
_BEFORE_EN = regex.compile(rf",?\s+before\s+(?={_CLAUSE})")
_AFTER_FIRST_EN = regex.compile(
    rf"^after\s+(?={_CLAUSE})(?P<first>[^,\n]+),\s*(?P<later>[^\n]+)$", regex.IGNORECASE
)
_AFTER_EN = regex.compile(rf"^(?P<later>[^\n]+?),?\s+after\s+(?P<first>{_CLAUSE}[^\n]*)$")
_HAS_VERB = regex.compile(rf"{_VERB}|{_ING}", regex.IGNORECASE)

# The other languages: what stands between events; what stands before the first.
_BETWEEN = {
    "zh": r"[,\uff0c。;]?\s*(?:然后再?|接着|接下来|随后|紧接着|之后(?!的)|后来|最后"
    r"(?=\p{Han}{3}))\s*[,\uff0c]?|[,\uff0c]\s*(?:再|又)(?=\p{Han}{2})",
    "ja": r"[,。]?\s*(?:その後(?!ろ)で?に?|それから|そのあと|続いて|次に|すると|"
    r"そして次に)\s*[,]?|(?<=[てで])から,?\s*(?=\S{2})"
    r"|(?<=[ただ])(?:後に?|あとに?),?\s*(?=\S{3})",
    "ko": r"[,.]?\s*(?:그 ?다음에?|그리고 나서|그러고 나서|그 ?후에?|이어서|그런 다음)\s*,?\s*|"
    r"(?<=고) ?나서,?\s+|"
    r"(?<=\p{Hangul}{2}[은ㄴ한린친]) (?:다음|뒤|후)에?,?\s+(?=\p{Hangul}+[이가은는을를]? )",
    "th": r"\s*(?:จากนั้น(?:จึง|ก็)?|หลังจากนั้น(?:จึง|ก็)?|ต่อมา|แล้วจึง|แล้วก็)\s*|\s+(?:และ)?แล้ว\s*(?=\S{4})",
    "vi": r"\s*[,;.]?\s*\b(?:và )?(?:sau đó|tiếp theo|tiếp đó|kế đến)\b(?: là)?(?: thì)?,?\s+|"
    r",?\s+(?<!\b(?:đã|xong|lâu|trước|tuần|tháng|mệt)\s)rồi\s+(?=\S+\s+\S|\S+ \S+)",
}
_PREFIX = {
    "zh": r"^(?:首先|起初|先)(?!生)",
    "ja": r"^(?:最初に|まず|初めに),?\s*",
    "ko": r"^(?:먼저|우선|처음에)\s+",
    "th": r"^(?:ก่อนอื่น|ขั้นแรก|ตอนแรก|แรกเริ่ม)\s*",
    "vi": r"^(?:đầu tiên|trước tiên|lúc đầu),?\s+",
}
# "After X, Y" of the other languages; X comes first.
_AFTER = {
    "zh": r"^(?:在)?(?P<first>\p{Han}{3,20}?)(?:之后|以后|后)[,\uff0c]\s*(?P<later>\S[^\n]{2,})$",
    "th": r"^หลังจาก(?:ที่)?(?P<first>[^\s\n]{4,})\s+(?P<later>[^\n]{4,})$",
    "vi": r"^sau khi (?P<first>[^,\n]+),\s*(?P<later>[^\n]+)$",
}
_BEFORE = {
    "th": r"\s*ก่อนที่(?:จะ)?\s*(?=\S{4})",
    "vi": r",?\s+trước khi\s+(?=\S+\s+\S)",
}
_EDGES = f" ,;.\uff0c。{CUT}"


@cache
def _compiled(pattern: str) -> regex.Pattern[str]:
    return regex.compile(pattern, regex.IGNORECASE)


def temporal_steps(text: str, *, language: str = "en") -> tuple[str, ...]:
    """The events of a normalised sentence, first things first; none where it tells of one only.

    Args:
        language: ISO 639-1 code.
    """
    text = text.strip(_EDGES)
    if not text:
        return ()
    split = _of_other_language if language in _BETWEEN else _of_english
    steps = [step.strip(_EDGES) for step in split(text, language)]
    return tuple(steps) if len(steps) > 1 and all(map(_says_something, steps)) else ()


def _of_english(text: str, _: str) -> list[str]:
    if text[:3].casefold() == "if ":  # "if it rains, then it pours"
        return [text]
    parts = [part for part in _EVENTS_EN.split(text) if part]
    parts[0] = _PREFIX_EN.sub("", parts[0]) if len(parts) > 1 else parts[0]
    return [step for part in parts for step in _around_before_and_after(part)]


def _around_before_and_after(part: str) -> list[str]:
    for pattern in (_AFTER_FIRST_EN, _AFTER_EN):
        match = pattern.match(part)
        if match and _HAS_VERB.search(match["later"]):
            return [match["first"], match["later"]]
    first, *later = _BEFORE_EN.split(part, maxsplit=1)
    return [first, *later] if later and _HAS_VERB.search(first) else [part]


def _of_other_language(text: str, language: str) -> list[str]:
    if language in _AFTER and (match := _compiled(_AFTER[language]).match(text)):
        return [match["first"], match["later"]]
    patterns = [table[language] for table in (_BETWEEN, _BEFORE) if language in table]
    parts = [part for part in _compiled("|".join(patterns)).split(text) if part]
    if len(parts) > 1:
        parts[0] = _compiled(_PREFIX[language]).sub("", parts[0])
    return parts


def _says_something(step: str) -> bool:
    return len(step) >= 2
