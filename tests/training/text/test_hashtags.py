import pytest

from reelseek.training.text.hashtags import split_hashtags


@pytest.mark.parametrize(
    ("title", "rest", "tags"),
    [
        ("a dog #dog #Park_Life", "a dog", ["dog", "Park_Life"]),
        ("#first then words #first", "then words", ["first"]),
        ("晚饭后运动#搞笑 #感谢快手", "晚饭后运动", ["搞笑", "感谢快手"]),
        ("\uff03full width", "width", ["full"]),
        ("C# and a#b and x/#y &#39;", "C# and a#b and x/#y &#39;", []),
        ("# comic", "# comic", []),
        ("", "", []),
    ],
)
def test_hashtags_are_split_from_a_title(title, rest, tags):
    assert split_hashtags(title) == (rest, tags)
