"""Queries as people type them, in six languages, and what each means, written by hand.

All are asked on Wednesday, 25 November 2026, of a catalogue with `CATALOGUE`, `ENTITIES`, `TAGS`.
What is left out of an `Expected` is nothing; `text` left out is the query as it stands.
"""

from dataclasses import dataclass
from datetime import datetime

NOW = datetime(2026, 11, 25, 12, 0)

# Words of captions that no list of words knows: they are not to be "corrected".
CATALOGUE = (
    "a quadrokopter films the beach",
    "a labradoodel fetches a stick",
    "grandma makes knoedel",
    "a dog catches a frisbee",
)
ENTITIES = {
    "Golden Gate Bridge": "place",
    "Abbey Road": "work",
    "Rexo": "animal",
    "故宫": "place",
    "小黑": "animal",
    "東京タワー": "place",
    "ピカチュウ": "work",
    "경복궁": "place",
    "뽀로로": "work",
    "วัดพระแก้ว": "place",
    "Hồ Gươm": "place",
}
TAGS = ("cat", "drone", "b-roll", "travel", "旅行", "料理", "여행", "ท่องเที่ยว", "du lịch")


@dataclass(frozen=True)
class Expected:
    """A query and its whole analysis; `entities` are (text, kind) pairs."""

    language: str
    query: str
    text: str | None = None
    where: str | None = None
    excluded: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    entities: tuple[tuple[str, str], ...] = ()
    corrections: tuple[tuple[str, str], ...] = ()

    @property
    def positive_text(self) -> str:
        return self.query if self.text is None else self.text

    @property
    def constraints(self) -> frozenset[str]:
        return frozenset(self.where.split(" and ") if self.where else ())


def en(query: str, text: str | None = None, **parts: object) -> Expected:
    return Expected("en", query, text, **parts)  # type: ignore[arg-type]


def zh(query: str, text: str | None = None, **parts: object) -> Expected:
    return Expected("zh", query, text, **parts)  # type: ignore[arg-type]


def ja(query: str, text: str | None = None, **parts: object) -> Expected:
    return Expected("ja", query, text, **parts)  # type: ignore[arg-type]


def ko(query: str, text: str | None = None, **parts: object) -> Expected:
    return Expected("ko", query, text, **parts)  # type: ignore[arg-type]


def th(query: str, text: str | None = None, **parts: object) -> Expected:
    return Expected("th", query, text, **parts)  # type: ignore[arg-type]


def vi(query: str, text: str | None = None, **parts: object) -> Expected:
    return Expected("vi", query, text, **parts)  # type: ignore[arg-type]


ENGLISH = (
    # Plain: to be left as they are.
    en("a dog catches a frisbee"),
    en("two dogs playing in the snow"),
    en("99 luftballons"),
    en("a 30 second timer counting down"),
    en("a 1990s car on a country road"),
    en("woman in a red dress walking down the stairs"),
    en("close-up of a person typing on a laptop"),
    en("no parking sign on a brick wall"),
    en("without a doubt the best goal of the match"),
    en("x-ray of a broken hand"),
    en("man in a T-shirt - close up"),
    en('"no country for old men" trailer'),
    en("a woman and then some friends in a cafe"),
    en("sunset after the rain"),
    en("the minute hand of a clock"),
    en("how to make pasta in 5 minutes"),
    en("a runner finishes the 100 meters in under 10 seconds"),
    en("the secretary at work"),
    en("march of the penguins"),
    en("spider-man no way home"),
    en("a child may be sleeping"),
    en("first steps of a baby"),
    en("a quadrokopter over the sea"),
    en("a labradoodel on the sofa"),
    en("capoeira, kitesurfing and parkour"),
    en("no smoking sign at the airport"),
    en("people dancing like in the 80s"),
    en("a man with a number 23 jersey"),
    en("top 10 fails"),
    en("a sunday market"),
    # Durations.
    en("cats under 30 seconds", "cats", where="duration < 30"),
    en("videos of goals longer than a minute", "videos of goals", where="duration > 60"),
    en("drone shots over 5 minutes", "drone shots", where="duration > 300"),
    en("cooking between 10 and 20 seconds", "cooking", where="duration >= 10 and duration <= 20"),
    en("surfing 1-2 min", "surfing", where="duration >= 60 and duration <= 120"),
    en("at least 45s of waves", "waves", where="duration >= 45"),
    en("goals, no longer than 1m30s", "goals", where="duration <= 90"),
    en("less than half an hour, lecture on optics", "lecture on optics", where="duration < 1800"),
    en("talks of more than two hours", "talks", where="duration > 7200"),
    en("interview shorter than 1.5 hours", "interview", where="duration < 5400"),
    en("duration<30 puppies", "puppies", where="duration < 30"),
    en("a clip of a waterfall, max 15 sec", "a clip of a waterfall", where="duration <= 15"),
    en("under 30 seconds", "", where="duration < 30"),
    # Dates.
    en("birthday party from yesterday", "birthday party", where="date = 2026-11-24"),
    en("fireworks in 2024", "fireworks", where="date = 2024"),
    en("protests before May 2023", "protests", where="date < 2023-05"),
    en("snow since yesterday", "snow", where="date >= 2026-11-24"),
    en("kids in the garden last month", "kids in the garden", where="date = 2026-10"),
    en("concerts from the last 3 days", "concerts", where="date >= 2026-11-22"),
    en("road trip this year", "road trip", where="date = 2026"),
    en("a wedding on 3 June 2025", "a wedding", where="date = 2025-06-03"),
    en("football between 2019 and 2021", "football", where="date >= 2019 and date <= 2021"),
    en(
        "skiing from December 2024 to February 2025",
        "skiing",
        where="date >= 2024-12 and date <= 2025-02",
    ),
    en("ducks after 2020-06-01", "ducks", where="date > 2020-06-01"),
    en("the cat two weeks ago", "the cat", where="date >= 2026-11-09 and date < 2026-11-16"),
    en("uploaded today: street food", "street food", where="date = 2026-11-25"),
    en(
        "cats under 30 seconds from last week", "cats", where="duration < 30 and date >= 2026-11-16"
    ),
    # Tags.
    en("sleeping #cat", "sleeping", where="tag = 'cat'"),
    en("tag:drone coast at dawn", "coast at dawn", where="tag = 'drone'"),
    en("city lights tagged b-roll", "city lights", where="tag = 'b-roll'"),
    en(
        "mountains tagged travel, under 2 minutes",
        "mountains",
        where="tag = 'travel' and duration < 120",
    ),
    en("a cat and a drone"),
    en('tag:"night market" noodles', "noodles", where="tag = 'night market'"),
    en("beach -#drone", "beach", where="not tag = 'drone'"),
    # Negation.
    en("beach without people", "beach", excluded=("people",)),
    en("empty street, no people", "empty street", excluded=("people",)),
    en("beach -people -dogs", "beach", excluded=("people", "dogs")),
    en("a street without cars at night", "a street at night", excluded=("cars",)),
    en("forest with no people or animals", "forest", excluded=("people", "animals")),
    en("fruit but not apples", "fruit", excluded=("apples",)),
    en("all pets except cats", "all pets", excluded=("cats",)),
    en("landscapes excluding buildings", "landscapes", excluded=("buildings",)),
    en("a man without a hat", "a man", excluded=("hat",)),
    en("a person not wearing a mask", "a person", excluded=("wearing a mask",)),
    en("a dog, not a puppy, on grass", "a dog on grass", excluded=("puppy",)),
    en('soccer highlights -"slow motion"', "soccer highlights", excluded=("slow motion",)),
    en(
        "beach without people under 20 seconds",
        "beach",
        excluded=("people",),
        where="duration < 20",
    ),
    # Events.
    en("a man opens a door, then a dog runs out", steps=("a man opens a door", "a dog runs out")),
    en("first she pours the milk, then she stirs", steps=("she pours the milk", "she stirs")),
    en("a whistle followed by a goal", steps=("a whistle", "a goal")),
    en(
        "a boy claps before he jumps into the pool",
        steps=("a boy claps", "he jumps into the pool"),
    ),
    en(
        "after the bride throws the bouquet, people cheer",
        steps=("the bride throws the bouquet", "people cheer"),
    ),
    en(
        "a man opens a door, then a dog runs out, under 1 minute",
        "a man opens a door, then a dog runs out",
        where="duration < 60",
        steps=("a man opens a door", "a dog runs out"),
    ),
    # Names.
    en(
        "Barack Obama giving a speech in Berlin",
        entities=(("Barack Obama", "person"), ("Berlin", "place")),
    ),
    en("fog over the Golden Gate Bridge", entities=(("Golden Gate Bridge", "place"),)),
    en("people crossing abbey road", entities=(("abbey road", "work"),)),
    en("rexo chasing a ball", entities=(("rexo", "animal"),)),
    en(
        "Messi scores against Real Madrid",
        entities=(("Messi", "person"), ("Real Madrid", "organisation")),
    ),
    en("the Eiffel Tower at night", entities=(("Eiffel Tower", "place"),)),
    en(
        "Taylor Swift concert in London from last week",
        "Taylor Swift concert in London",
        where="date >= 2026-11-16",
        entities=(("Taylor Swift", "person"), ("London", "place")),
    ),
    # Misspelt.
    en("a girafe eating leaves", "a giraffe eating leaves", corrections=(("girafe", "giraffe"),)),
    en(
        "kid riding a skatebord",
        "kid riding a skateboard",
        corrections=(("skatebord", "skateboard"),),
    ),
    en("man playing the guitarr", "man playing the guitar", corrections=(("guitarr", "guitar"),)),
    en(
        "a red umbrela in the rain",
        "a red umbrella in the rain",
        corrections=(("umbrela", "umbrella"),),
    ),
    en("a mountian lake", "a mountain lake", corrections=(("mountian", "mountain"),)),
    en(
        "jumping dolpin wihtout people",
        "jumping dolphin",
        excluded=("people",),
        corrections=(("dolpin", "dolphin"), ("wihtout", "without")),
    ),
    en('the word "umbrela" on a shop window'),
)

CHINESE = (
    zh("一只狗在雪地里奔跑"),
    zh("两个孩子在海边玩"),
    zh("无人机航拍城市夜景"),
    zh("三十秒倒计时"),
    zh("厨师在切菜"),
    zh("有没有下雪的视频"),
    zh("没完没了的雨"),
    zh("下雨之后的街道"),
    zh("五分钟学会做蛋糕"),
    zh("红色汽车停在路边"),
    zh("2008年的老爷车"),
    zh("一个人先生气地走开"),
    zh("没有人的海滩", "海滩", excluded=("人",)),
    zh("海滩\uff0c没有人", "海滩", excluded=("人",)),
    zh("除了猫以外的动物", "动物", excluded=("猫",)),
    zh("不戴帽子的男人", "男人", excluded=("戴帽子",)),
    zh("城市夜景 不要汽车", "城市夜景", excluded=("汽车",)),
    zh("风景 -人", "风景", excluded=("人",)),
    zh("猫 30秒以内", "猫", where="duration <= 30"),
    zh("不到一分钟的跳舞视频", "跳舞视频", where="duration < 60"),
    zh("超过5分钟的演讲", "演讲", where="duration > 300"),
    zh("10到20秒的烟花", "烟花", where="duration >= 10 and duration <= 20"),
    zh("上周的生日聚会", "生日聚会", where="date >= 2026-11-16"),
    zh("昨天的猫", "猫", where="date = 2026-11-24"),
    zh("2024年拍摄的烟花", "烟花", where="date = 2024"),
    zh("2023年5月以前的抗议", "抗议", where="date < 2023-05"),
    zh("最近三天的狗", "狗", where="date >= 2026-11-22"),
    zh("上个月的婚礼\uff0c两分钟以内", "婚礼", where="date = 2026-10 and duration <= 120"),
    zh("山 #旅行", "山", where="tag = '旅行'"),
    zh("标签:旅行 海边", "海边", where="tag = '旅行'"),
    zh("男人打开门\uff0c然后一只狗跑出来", steps=("男人打开门", "一只狗跑出来")),
    zh("先倒牛奶\uff0c再搅拌", steps=("倒牛奶", "搅拌")),
    zh("游客在故宫拍照", entities=(("故宫", "place"),)),
    zh("小黑在沙发上睡觉", entities=(("小黑", "animal"),)),
    zh("姚明在北京打篮球", entities=(("姚明", "person"), ("北京", "place"))),
)

JAPANESE = (
    ja("犬がフリスビーをキャッチする"),
    ja("二匹の猫が寝ている"),
    ja("雪の中を走る電車"),
    ja("30秒タイマーの画面"),
    ja("犬しかいない公園"),
    ja("もったいないおばけ"),
    ja("おもてなしの料理"),
    ja("5分で作れるパスタ"),
    ja("昨日の天気予報を見る人"),
    ja("桜の下でピクニック"),
    ja("雨の後の虹"),
    ja("1990年代の車"),
    ja("人のいないビーチ", "ビーチ", excluded=("人",)),
    ja("車が写っていない道路", "道路", excluded=("車",)),
    ja("犬以外の動物", "動物", excluded=("犬",)),
    ja("字幕なしの映画", "映画", excluded=("字幕",)),
    ja("海岸 人なし", "海岸", excluded=("人",)),
    ja("帽子をかぶっていない男性", "男性", excluded=("帽子をかぶって",)),
    ja("30秒以内の猫", "猫", where="duration <= 30"),
    ja("1分以上のダンス", "ダンス", where="duration >= 60"),
    ja("5分未満の料理動画", "料理動画", where="duration < 300"),
    ja("10秒から20秒の花火", "花火", where="duration >= 10 and duration <= 20"),
    ja("先週の誕生日会", "誕生日会", where="date >= 2026-11-16"),
    ja("昨日の猫の動画", "猫の動画", where="date = 2026-11-24"),
    ja("2024年に撮影した花火", "花火", where="date = 2024"),
    ja("2023年5月以前のデモ", "デモ", where="date <= 2023-05"),
    ja("先月の旅行 2分以内", "旅行", where="date = 2026-10 and duration <= 120"),
    ja("海 #旅行", "海", where="tag = '旅行'"),
    ja("タグ:料理 卵を割る", "卵を割る", where="tag = '料理'"),
    ja("男がドアを開けて、その後犬が走り出す", steps=("男がドアを開けて", "犬が走り出す")),
    ja("牛乳を注いでから混ぜる", steps=("牛乳を注いで", "混ぜる")),
    ja("東京タワーの夜景", entities=(("東京タワー", "place"),)),
    ja("ピカチュウが踊る", entities=(("ピカチュウ", "work"),)),
    ja("大谷翔平がホームランを打つ", entities=(("大谷翔平", "person"),)),
)

KOREAN = (
    ko("개가 원반을 잡는다"),
    ko("고양이 두 마리가 자고 있다"),
    ko("눈 속을 달리는 기차"),
    ko("30초 타이머 화면"),
    ko("끊임없는 파도"),
    ko("믿을 수 없는 골"),
    ko("5분 만에 만드는 파스타"),
    ko("어제 내린 눈사람"),
    ko("빨간 우산을 든 여자"),
    ko("비 온 후의 거리"),
    ko("사람 없는 해변", "해변", excluded=("사람",)),
    ko("사람이 없는 해변", "해변", excluded=("사람",)),
    ko("자막 없이 영화 장면", "영화 장면", excluded=("자막",)),
    ko("고양이 제외한 동물", "동물", excluded=("고양이",)),
    ko("해변 -사람", "해변", excluded=("사람",)),
    ko("모자를 쓰지 않은 남자", "남자", excluded=("모자를 쓰",)),
    ko("30초 이하 고양이", "고양이", where="duration <= 30"),
    ko("1분 이상 춤", "춤", where="duration >= 60"),
    ko("5분 미만 요리 영상", "요리 영상", where="duration < 300"),
    ko("10초에서 20초 사이 불꽃놀이", "불꽃놀이", where="duration >= 10 and duration <= 20"),
    ko("지난주 생일 파티", "생일 파티", where="date >= 2026-11-16"),
    ko("어제 찍은 고양이", "고양이", where="date = 2026-11-24"),
    ko("2024년 불꽃놀이", "불꽃놀이", where="date = 2024"),
    ko("2023년 5월 이전 시위", "시위", where="date <= 2023-05"),
    ko("지난달 결혼식 2분 이내", "결혼식", where="date = 2026-10 and duration <= 120"),
    ko("최근 3일 강아지", "강아지", where="date >= 2026-11-22"),
    ko("바다 #여행", "바다", where="tag = '여행'"),
    ko("태그:여행 산", "산", where="tag = '여행'"),
    ko("남자가 문을 열고 나서 개가 뛰어나온다", steps=("남자가 문을 열고", "개가 뛰어나온다")),
    ko("우유를 붓는다, 그 다음 젓는다", steps=("우유를 붓는다", "젓는다")),
    ko("경복궁에서 사진 찍는 사람들", entities=(("경복궁", "place"),)),
    ko("뽀로로가 춤을 춘다", entities=(("뽀로로", "work"),)),
)

THAI = (
    th("สุนัขกำลังวิ่งในหิมะ"),
    th("แมวสองตัวนอนหลับ"),
    th("ผู้หญิงใส่ชุดสีแดง"),
    th("นาฬิกาจับเวลา 30 วินาที"),
    th("รถไฟวิ่งผ่านหิมะ"),
    th("ไม่มีปัญหา"),
    th("เด็กๆ เล่นน้ำในสระ"),
    th("กินข้าวแล้ว"),
    th("ทำพาสต้าใน 5 นาที"),
    th("ถนนหลังฝนตก"),
    th("ชายหาดที่ไม่มีคน", "ชายหาด", excluded=("คน",)),
    th("ชายหาดไม่มีคน", "ชายหาด", excluded=("คน",)),
    th("สัตว์ทุกชนิดยกเว้นแมว", "สัตว์ทุกชนิด", excluded=("แมว",)),
    th("ถนนโดยไม่มีรถ", "ถนน", excluded=("รถ",)),
    th("ชายหาด -คน", "ชายหาด", excluded=("คน",)),
    th("แมว ต่ำกว่า 30 วินาที", "แมว", where="duration < 30"),
    th("เต้นรำ ไม่เกิน 1 นาที", "เต้นรำ", where="duration <= 60"),
    th("บรรยายนานกว่า 5 นาที", "บรรยาย", where="duration > 300"),
    th("พลุ 10 ถึง 20 วินาที", "พลุ", where="duration >= 10 and duration <= 20"),
    th("งานวันเกิดสัปดาห์ที่แล้ว", "งานวันเกิด", where="date >= 2026-11-16"),
    th("แมวเมื่อวานนี้", "แมว", where="date = 2026-11-24"),
    th("งานแต่งงานเดือนที่แล้ว", "งานแต่งงาน", where="date = 2026-10"),
    th("พลุในปี 2024", "พลุ", where="date = 2024"),
    th("พลุ พ.ศ. 2567", "พลุ", where="date = 2024"),
    th("ทะเล #ท่องเที่ยว", "ทะเล", where="tag = 'ท่องเที่ยว'"),
    th("ผู้ชายเปิดประตู แล้วสุนัขวิ่งออกมา", steps=("ผู้ชายเปิดประตู", "สุนัขวิ่งออกมา")),
    th("เทนม จากนั้นคนให้เข้ากัน", steps=("เทนม", "คนให้เข้ากัน")),
    th("นักท่องเที่ยวที่วัดพระแก้ว", entities=(("วัดพระแก้ว", "place"),)),
)

VIETNAMESE = (
    vi("một con chó bắt đĩa bay"),
    vi("hai con mèo đang ngủ"),
    vi("tàu hỏa chạy trong tuyết"),
    vi("đồng hồ đếm ngược 30 giây"),
    vi("không gian làm việc hiện đại"),
    vi("không khí lễ hội trên phố"),
    vi("máy bay của hàng không Việt Nam", entities=(("Việt Nam", "place"),)),
    vi("làm bánh trong 5 phút"),
    vi("người phụ nữ mặc váy đỏ"),
    vi("đường phố sau cơn mưa"),
    vi("bãi biển không có người", "bãi biển", excluded=("người",)),
    vi("phố không người vào ban đêm", "phố vào ban đêm", excluded=("người",)),
    vi("động vật ngoại trừ mèo", "động vật", excluded=("mèo",)),
    vi("một người đàn ông không đội mũ", "một người đàn ông", excluded=("đội mũ",)),
    vi("bãi biển -người", "bãi biển", excluded=("người",)),
    vi("mèo dưới 30 giây", "mèo", where="duration < 30"),
    vi("bài giảng dài hơn 5 phút", "bài giảng", where="duration > 300"),
    vi("khiêu vũ ít nhất 1 phút", "khiêu vũ", where="duration >= 60"),
    vi("pháo hoa từ 10 đến 20 giây", "pháo hoa", where="duration >= 10 and duration <= 20"),
    vi("tiệc sinh nhật tuần trước", "tiệc sinh nhật", where="date >= 2026-11-16"),
    vi("con mèo hôm qua", "con mèo", where="date = 2026-11-24"),
    vi("đám cưới tháng trước", "đám cưới", where="date = 2026-10"),
    vi("pháo hoa năm 2024", "pháo hoa", where="date = 2024"),
    vi("biểu tình trước tháng 5 năm 2023", "biểu tình", where="date < 2023-05"),
    vi("chó trong 3 ngày qua", "chó", where="date >= 2026-11-22"),
    vi("biển #du_lịch", "biển", where="tag = 'du lịch'"),
    vi(
        "một người đàn ông mở cửa, sau đó một con chó chạy ra",
        steps=("một người đàn ông mở cửa", "một con chó chạy ra"),
    ),
    vi("cô ấy rót sữa rồi khuấy đều", steps=("cô ấy rót sữa", "khuấy đều")),
    vi("hoàng hôn ở Hồ Gươm", entities=(("Hồ Gươm", "place"),)),
)

TABLE = ENGLISH + CHINESE + JAPANESE + KOREAN + THAI + VIETNAMESE
