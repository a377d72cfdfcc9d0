"""Sentences on the border between a filter, a negation or an order of events and plain words."""

import pytest


@pytest.mark.parametrize(
    ("query", "text", "where"),
    [
        ("date>=2024-01 cats", "cats", "date >= 2024-01"),
        ("length > 5 min", "", "duration > 300"),
        ("duration<=1m cats", "cats", "duration <= 60"),
        ("video less than 1 min of cats", "video of cats", "duration < 60"),
        ("a 10-second clip of a cat", "a clip of a cat", "duration >= 8 and duration <= 12"),
        ("short clips under 1:30 of a dog", "short clips of a dog", "duration < 90"),
        (
            "the sea, from yesterday, tagged cat and longer than 5 minutes",
            "the sea",
            "duration > 300 and date = 2026-11-24 and tag = 'cat'",
        ),
        ("dogs until last month", "dogs", "date <= 2026-10"),
        ("dogs before last week", "dogs", "date < 2026-11-16"),
        ("dogs in december", "dogs", "date = 2025-12"),
        ("cats under 1,000 seconds", "cats", "duration < 1000"),
        ("cats, 1,200-1,500 seconds long", "cats", "duration >= 1200 and duration <= 1500"),
        ("lasting over 2,5 min", "", "duration > 150"),
        ("dogs not older than 2020", "dogs", "date >= 2020"),
        ("dogs not newer than May 2023", "dogs", "date <= 2023-05"),
        ("dogs from more than 3 days ago", "dogs", "date < 2026-11-22"),
        ("dogs filmed less than 2 months ago", "dogs", "date > 2026-09"),
    ],
)
def test_filters(analyzer, query, text, where):
    meaning = analyzer.analyze(query)
    assert (meaning.text, meaning.where) == (text, where)


@pytest.mark.parametrize(
    "query",
    [
        "over 100 people", "children under 5", "a 5 minute walk", "1:30", "at 1:30 a dog barks",
        "under the bridge for 30 seconds", "less than 10 people in a room", "under 30 second rule",
        "cover 30 seconds of news", "still photos from the 2002 movie", "in the may sunshine",
        "today is a good day", "last week tonight with a host", "until dawn", "yesterday by a band",
        "the last week of summer", "issue #12", "C# tutorial", "#", "tag:", "tagged", "e-mail",
        "two out of three", "a > b", "olympics 2024", "the 1990s",
        "5分で作れる", "三十秒倒计时",
    ],
)  # fmt: skip
def test_no_filters(analyzer, query):
    meaning = analyzer.analyze(query)
    assert (meaning.text, meaning.where) == (query, None)


@pytest.mark.parametrize(
    ("query", "text", "excluded"),
    [
        ("beach, no people, no dogs", "beach", ("people", "dogs")),
        ("a man without a hat and a dog", "a man and a dog", ("hat",)),
        ("a street without cars or people", "a street", ("cars", "people")),
        ("a man who is not smiling", "a man", ("smiling",)),
        ("beach without people in the background", "beach", ("people in the background",)),
        ("没有红绿灯的十字路口有很多车", "十字路口有很多车", ("红绿灯",)),
        ("사람 없는 곳", "곳", ("사람",)),
    ],
)
def test_negations(analyzer, query, text, excluded):
    meaning = analyzer.analyze(query)
    assert (meaning.text, meaning.excluded) == (text, excluded)


@pytest.mark.parametrize(
    "query",
    [
        "rebel without a cause", "a sign that says no war", "The House With No Name", "No Way Out",
        "do not disturb sign", "it is not raining", "whether or not", "man with no name", "--help",
        "a well-known face", "cat - dog", "5 -3", "没有",
        "无人驾驶汽车", "違いない", "いないいないばあ",
        "なし", "없는", "ไม่มี", "không có gì", "hàng không", "minus ten degrees",
    ],
)  # fmt: skip
def test_no_negations(analyzer, query):
    meaning = analyzer.analyze(query)
    assert (meaning.text, meaning.excluded) == (query, ())


@pytest.mark.parametrize(
    ("query", "steps"),
    [
        (
            "a cat jumps then a dog barks and then a bird flies",
            ("a cat jumps", "a dog barks", "a bird flies"),
        ),
        ("the crowd cheers after he scores", ("he scores", "the crowd cheers")),
        ("a man stirs before serving the soup", ("a man stirs", "serving the soup")),
        ("open the tap and then close it", ("open the tap", "close it")),
    ],
)
def test_events(analyzer, query, steps):
    meaning = analyzer.analyze(query)
    assert (meaning.text, meaning.steps) == (query, steps)


@pytest.mark.parametrize(
    "query",
    [
        "back then people danced", "every now and then a car passes",
        "a child claps after the show",
        "street before sunrise", "before and after makeup", "if it rains then it pours",
        "closer to then pen", "first person view of skiing",
        "ate rồi",
        "กินข้าวแล้ว",
        "下雨之后的街道",
    ],
)  # fmt: skip
def test_no_events(analyzer, query):
    assert analyzer.analyze(query).steps == ()


@pytest.mark.parametrize(
    ("word", "corrected"),
    [
        ("girafe", "giraffe"),
        ("labradoodel", None),  # the catalogue has it
        ("streetfood", None),  # two words
        ("frisbee", None),
        ("Girafe", None),  # may be a name
        ("girafe2", None),
        ("zzzzqqq", None),  # nothing is near
        ("cta", None),  # too short to tell
    ],
)
def test_spelling(analyzer, word, corrected):
    pytest.importorskip("wordfreq")
    pytest.importorskip("symspellpy")
    meaning = analyzer.analyze(f"a photo of {word} here")
    assert [one.corrected for one in meaning.corrections] == ([corrected] if corrected else [])
