"""Patterns of negation and of temporal order in Korean."""

from reelseek.text.query.grammars.base import Negation, Order

_NOT = (
    r"(?!(?:수|끊임|끝|상관|어이|쓸데|소용|틀림|변함|꾸밈|거침|철|버릇|정신|문제|관심|"
    r"필요|말할 것도|할 수|\p{Hangul}+ 수)(?:이|가|도|은|는)?\s?(?:없|제외))"
)
_PATTERNS = (
    rf"(?<!\p{{Hangul}}){_NOT}(?P<not_seen>\p{{Hangul}}+?(?:(?:이나|나|와|과|하고) "
    rf"\p{{Hangul}}+?)?)(?:이|가|은|는|도)?\s?(?:없는|없이|없음)(?!\p{{Hangul}})",
    r"(?<!\p{Hangul})(?P<not_seen>\p{Hangul}+?)(?:을|를|은|는)?\s?(?:제외하고|제외한|제외|빼고|"
    r"뺀|말고)(?!\p{Hangul})",
    r"(?<!\p{Hangul})(?P<not_seen>\p{Hangul}+[을를] \p{Hangul}+?)지 ?(?:않은|않는|않고)"
    r"(?!\p{Hangul})",
    r"(?<!\p{Hangul})(?P<not_seen>\p{Hangul}+?)(?:이|가) 아닌(?!\p{Hangul})",
)

NEGATION = Negation(
    hint=r"없|제외|빼고|뺀|말고|않|아닌",
    patterns=_PATTERNS,
    separator=r"(?:이나|나|와|과|하고) ",
)
ORDER = Order(
    between=r"[,.]?\s*(?:그 ?다음에?|그리고 나서|그러고 나서|그 ?후에?|이어서|그런 다음)\s*,?\s*|"
    r"(?<=고) ?나서,?\s+|"
    r"(?<=\p{Hangul}{2}[은ㄴ한린친]) (?:다음|뒤|후)에?,?\s+(?=\p{Hangul}+[이가은는을를]? )",
    first=r"^(?:먼저|우선|처음에)\s+",
)
