"""Patterns of negation and of temporal order in Chinese."""

from reelseek.text.query.grammars.base import END, Negation, Order

_NOT_HAN = r"[^的,\uff0c。;\s]"
_PATTERNS = (
    rf"(?<![有])(?:没有|沒有|不含|不包含|不带|沒|没)(?!问题|关系|办法|意义|想到|关联|尽头|人知|"
    rf"完|了)(?P<not_seen>{_NOT_HAN}{{1,10}})的(?=\S)",
    rf"无(?P<not_seen>人|车|字幕|水印|文字|声音|音乐|广告)(?:的|{END})",
    rf"(?:^|[,\uff0c\s])\s*(?<!有)(?:而不是|但不要|不要|不含|没有|沒有|不包括|排除|除去|不是)"
    rf"(?P<not_seen>{_NOT_HAN}{{1,12}}){END}",
    rf"(?<=\p{{Han}})(?<!有)(?:没有|沒有)(?!问题|关系|办法|意义|想到|尽头|了|过)"
    rf"(?P<not_seen>\p{{Han}}{{1,4}}){END}",
    rf"除了?(?P<not_seen>{_NOT_HAN}{{1,10}}?)(?:以外|之外|外)的?(?:所有|其他|其它)?",
    rf"(?:不|没)(?=[戴穿带拿骑背抽系])(?P<not_seen>{_NOT_HAN}{{2,8}})的(?=\S)",
    rf"不是(?P<not_seen>{_NOT_HAN}{{1,6}})的(?=\S)",
)

NEGATION = Negation(
    hint=r"[没沒无除不]",
    patterns=_PATTERNS,
    separator=r"和|或者?|以及|,",
)
ORDER = Order(
    between=r"[,\uff0c。;]?\s*(?:然后再?|接着|接下来|随后|紧接着|之后(?!的)|后来|最后"
    r"(?=\p{Han}{3}))\s*[,\uff0c]?|[,\uff0c]\s*(?:再|又)(?=\p{Han}{2})",
    first=r"^(?:首先|起初|先)(?!生)",
    after=r"^(?:在)?(?P<first>\p{Han}{3,20}?)(?:之后|以后|后)[,\uff0c]\s*(?P<later>\S[^\n]{2,})$",
)
