"""Patterns of negation and of temporal order in Vietnamese."""

from reelseek.text.query.grammars.base import WORD, Negation, Order

_STOPS = (
    r"trong|trên|ở|tại|vào|dưới|nhưng|khi|lúc|với|của|để|sau|trước|gần|bên|đang|mà|"
    r"không|từ"
)
_PHRASE = rf"{WORD}(?: (?!(?:{_STOPS})\b){WORD}){{0,5}}"
_NOT = r"(?!(?:gì|ai|việc|vấn đề|thật|khả năng|sao|giới hạn|điểm dừng|nghi ngờ)\b)"
_PATTERNS = (
    rf"(?:,\s*|\b)(?:mà )?(?:không (?:hề )?có|chẳng có|không bao gồm|không phải(?: là)?|ngoại "
    rf"trừ|loại trừ|trừ)"
    rf" {_NOT}(?:bất kỳ |một |bóng )?(?P<not_seen>{_PHRASE})",
    rf"(?:,\s*|\b)không (?P<not_seen>(?:(?:đội|đeo|mặc|mang|cầm|đi giày)\b(?: (?!"
    rf"(?:{_STOPS})\b){WORD}){{0,3}}|người|xe|phụ đề|âm thanh))(?!\p{{L}})",
)

NEGATION = Negation(
    hint=r"không|trừ|chẳng",
    patterns=_PATTERNS,
    separator=r" (?:hoặc|và|hay) |, ",
)
ORDER = Order(
    between=r"\s*[,;.]?\s*\b(?:và )?(?:sau đó|tiếp theo|tiếp đó|kế đến)\b(?: là)?(?: thì)?,?\s+|"
    r",?\s+(?<!\b(?:đã|xong|lâu|trước|tuần|tháng|mệt)\s)rồi\s+(?=\S+\s+\S|\S+ \S+)",
    first=r"^(?:đầu tiên|trước tiên|lúc đầu),?\s+",
    after=r"^sau khi (?P<first>[^,\n]+),\s*(?P<later>[^\n]+)$",
    before=r",?\s+trước khi\s+(?=\S+\s+\S)",
)
