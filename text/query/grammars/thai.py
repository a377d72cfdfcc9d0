"""Patterns of negation and of temporal order in Thai."""

from reelseek.text.query.grammars.base import Negation, Order

_STOPS = r"(?:ใน|บน|ที่|ตอน|ขณะ|แต่|ก่อน|หลัง|ระหว่าง|ริม|ข้าง|อยู่|เลย|กลาง|เวลา)"
_PHRASE = rf"(?:(?!{_STOPS})[\p{{Thai}}]){{1,24}}"
_PATTERNS = (
    rf"(?:ที่|ซึ่ง|โดย|แบบ|แต่)?(?<=\S)(?:ไม่มี|ไร้|ปราศจาก)(?!ปัญหา|วัน|ใคร|อะไร|ทาง|ที่|เงื่อนไข|ขีดจำกัด|สิ้นสุด)"
    rf"(?P<not_seen>{_PHRASE})",
    rf"(?<=\S\s)(?:ไม่มี|ไร้|ไม่เอา)(?!ปัญหา|วัน|ใคร|อะไร|ทาง|ที่)(?P<not_seen>{_PHRASE})",
    rf"(?:ยกเว้น|ไม่รวม|นอกจาก)\s?(?P<not_seen>{_PHRASE})",
    rf"(?:ที่|ซึ่ง)ไม่ใช่(?P<not_seen>{_PHRASE})",
    rf"(?:ที่|ซึ่ง)?ไม่(?P<not_seen>(?:ใส่|สวม|ถือ){_PHRASE})",
)

NEGATION = Negation(
    hint=r"ไม่|ไร้|ปราศจาก|ยกเว้น|นอกจาก",
    patterns=_PATTERNS,
    separator=r"และ|หรือ|กับ",
)
ORDER = Order(
    between=r"\s*(?:จากนั้น(?:จึง|ก็)?|หลังจากนั้น(?:จึง|ก็)?|ต่อมา|แล้วจึง|แล้วก็)\s*|\s+(?:และ)?แล้ว\s*(?=\S{4})",
    first=r"^(?:ก่อนอื่น|ขั้นแรก|ตอนแรก|แรกเริ่ม)\s*",
    after=r"^หลังจาก(?:ที่)?(?P<first>[^\s\n]{4,})\s+(?P<later>[^\n]{4,})$",
    before=r"\s*ก่อนที่(?:จะ)?\s*(?=\S{4})",
)
