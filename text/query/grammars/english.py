"""Patterns of negation and of temporal order in English."""

import regex

from reelseek.text.query.grammars.base import WORD, Negation

# Words that end the phrase after "without".
_STOPS = (
    r"in(?! the (?:background|foreground|back|front|frame|picture)\b)|on|at|during|under|near|"
    r"behind|"
    r"beside|next|over|through|while|when|from|for|then|but|that|which|who|with|without|as|to|"
    r"into|"
    r"under|along|against|across|between|before|after|by|no|not|except|excluding|is|are|and "
    r"(?:an?|the)"
)
_PHRASE = (
    rf"{WORD}(?:(?!,? and (?:an?|the)\b)(?:,? (?:or|and|nor))? (?!"
    rf"(?:{_STOPS})\b){WORD}){{0,7}}"
)
_GERUND_OR_NOUN = (
    r"(?!(?:only|bad|yet|so|very|enough|even|sure|really|just|to|be|quite|all|"
    r"much|many|far|long|a single|one)\b)"
)
_IDIOM_WITHOUT = (
    r"(?:an? )?(?:doubt|question|borders|end|limits?|fail|delay|cause|warning|"
    r"words|further|reason)\b"
)
_IDIOM_NO = (
    r"(?:way|man'?s?|one|body|doubt|matter|longer|more|less|country|time|problem|idea|limits?|"
    r"fear|"
    r"war|kidding|signal|worries|comment|escape|future|place|hands?|name|thanks|good|big deal|"
    r"evil|"
    r"\d+|\w+ing|entry|trespassing|\w+ (?:sign|signs|symbol|zone|area|policy|logo)|entry sign|"
    r"\w+ \w+ sign)\b"
)
_PATTERNS = (
    rf"\b(?:but )?without (?!{_IDIOM_WITHOUT})(?:any )?(?P<not_seen>{_PHRASE})",
    rf"(?:,\s*|\b)(?:with|has|having|but|and|there (?:is|are)) no (?!{_IDIOM_NO})"
    rf"(?P<not_seen>{_PHRASE})",
    rf"(?<!\b(?:says?|said|saying|shout\w*|scream\w*|yes|or|word|oh),? )(?:,\s*|(?<![\w'-]))no "
    rf"(?!{_IDIOM_NO})(?P<not_seen>{_PHRASE})",
    rf"(?:,\s*|\b)(?:but|and) not {_GERUND_OR_NOUN}(?P<not_seen>{_PHRASE})",
    rf"(?:\b(?:who|that|which) (?:is|are) )not {_GERUND_OR_NOUN}(?P<not_seen>{_PHRASE})",
    rf",\s*not {_GERUND_OR_NOUN}(?P<not_seen>{_PHRASE})(?:,(?= ))?",
    rf"(?<!\b(?:is|are|was|were|do|does|did|can|could|will|would|should|shall|may|might|must|has|"
    rf"have|had|or|why|if|or|am|be|whether|of|course)) not {_GERUND_OR_NOUN}"
    rf"(?P<not_seen>{_PHRASE})",
    rf"(?:,\s*|\b)(?:except|excluding|other than)(?: for)? (?!that\b|when\b|if\b)"
    rf"(?P<not_seen>{_PHRASE})",
)
NEGATION = Negation(
    hint=r"\b(?:without|no|not|except|excluding|other)\b",
    patterns=_PATTERNS,
    separator=r",? (?:or|and|nor) |, ",
)

# Verbs of visible events tell a clause ("before he jumps") from a time ("before sunset").
_VERBS = (
    "add arrive ask bark begin bite blow board boil bounce bow break bring brush build burn buy "
    "call carry catch chase cheer clap clean climb close come cook cough cover crash crawl cross "
    "cry cut dance dive draw dress drink drive drop eat enter explode fall feed fight fill find "
    "finish fix flip fly fold follow get give go grab greet hand hang hide hit hold hug hop hurt "
    "jump kick kiss knock land laugh lay leave lift light lick listen look lose make meet mix "
    "move open pack paint park pass pick play point pour press pull push put race rain raise "
    "reach read ride ring rise roll run say scream score see serve set shake shave shoot shout "
    "show shut sing sit skate ski sleep slide slip smile sneeze snow sort speak spill spin splash "
    "spread stand start steal step stir stop swim swing switch take talk tear tell throw tie "
    "touch try turn type unlock wait wake walk wash watch wave wear whistle win wipe wrap write "
    "yell zoom"
).split()
_PAST = (
    "began bit blew broke brought built bought caught came cut drank drew drove ate fell fed "
    "fought found flew got gave went held hit hid hung kept laid left lit lost made met put ran "
    "rang read rode rose said sang sat saw set shook shot shut slept slid spoke spun stood stole "
    "swam swung threw took told tore turned woke wore won wrote"
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
BETWEEN = regex.compile(
    rf"(?:,\s*|;\s*|\.\s+)(?:and )?(?:then|after that|afterwards|next)\b,?\s+|"
    rf"{_NOT_THEN_BEFORE}\s+(?:and )?then\s+(?=\S+ \S)(?!some\b|again\b|and\b|there (?:was|"
    rf"were)\b)|"
    r",?\s*\bfollowed by\s+",
    regex.IGNORECASE,
)
FIRST = regex.compile(
    r"^(?:first(?:ly)?(?: of all)?,?\s+(?!\w+ of\b)|at first,?\s+|to begin with,?\s+)",
    regex.IGNORECASE,
)
BEFORE = regex.compile(rf",?\s+before\s+(?={_CLAUSE})")
AFTER_FIRST = regex.compile(
    rf"^after\s+(?={_CLAUSE})(?P<first>[^,\n]+),\s*(?P<later>[^\n]+)$", regex.IGNORECASE
)
AFTER = regex.compile(rf"^(?P<later>[^\n]+?),?\s+after\s+(?P<first>{_CLAUSE}[^\n]*)$")
HAS_VERB = regex.compile(rf"{_VERB}|{_ING}", regex.IGNORECASE)
