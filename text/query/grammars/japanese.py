"""Patterns of negation and of temporal order in Japanese."""

from reelseek.text.query.grammars.base import END, Negation, Order
from reelseek.text.query.quoting import SIGN

_NOUN = r"[\p{Han}\p{Katakana}ー々]+"
_ANY_NOUN = rf"(?:{SIGN}|{_NOUN}|(?<![\p{{Hiragana}}\p{{Han}}])(?:ねこ|いぬ|ひと|こども|くるま))"
_NOT = (
    r"(?!(?:限り|果て|仕方|仕様|間違い|問題|意味|申し訳|何|他|途方|心配|数|違い|名|底|台|"
    r"文句)(?:の|が|は|も|なし|無し))"
)
_PATTERNS = (
    rf"{_NOT}(?P<not_seen>{_ANY_NOUN}(?:や{_ANY_NOUN})*)[のがはも](?:写って|映って|入って|"
    rf"出て)?(?:い|居)?(?:ない|無い)"
    r"(?=$|[\n,。\s\p{Han}\p{Katakana}]|[のこあ]\S)",
    rf"{_NOT}(?P<not_seen>{_ANY_NOUN}(?:や{_ANY_NOUN})*)(?:なし|無し|抜き)(?:の(?=\S)|で|"
    rf"{END}|(?=\s))",
    rf"(?P<not_seen>{_ANY_NOUN}(?:や{_ANY_NOUN})*)(?:以外|を除く|を除いた|を除外した)の?",
    r"(?P<not_seen>[\p{Han}\p{Katakana}ー]+を[\p{Hiragana}\p{Han}]{1,6}?[てで])い?ない"
    r"(?=[\p{Han}\p{Katakana}])",
    rf"(?P<not_seen>{_ANY_NOUN})(?:では|じゃ)ない(?=[\p{{Han}}\p{{Katakana}}])",
)

NEGATION = Negation(
    hint=r"ない|無い|なし|無し|抜き|以外|除",
    patterns=_PATTERNS,
    separator=r"や",
)
ORDER = Order(
    between=r"[,。]?\s*(?:その後(?!ろ)で?に?|それから|そのあと|続いて|次に|すると|"
    r"そして次に)\s*[,]?|(?<=[てで])から,?\s*(?=\S{2})"
    r"|(?<=[ただ])(?:後に?|あとに?),?\s*(?=\S{3})",
    first=r"^(?:最初に|まず|初めに),?\s*",
)
