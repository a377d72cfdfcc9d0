import pytest

from reelseek.recommendation.completion.block_list import BlockList, read_block_list

BLOCKED = BlockList(["Bad", "very ugly", "=a whole query", "坏词", "나쁜", "café noir"])


@pytest.mark.parametrize(
    "text",
    [
        "bad", "a BAD dog", "\uff42\uff41\uff44 dog", "b\u00e1d", "ba\u0301d", "bad-dog", "so:bad!",
        "b\u200bad", "ba\u00add", "a very ugly dog", "VERY  UGLY", "very, ugly", "a whole query",
        "A whole query?", "这是坏词吗", "坏 词", "나쁜 개", "cafe noir", "CAFÉ NOIR x",
    ],
)  # fmt: skip
def test_blocked_in_any_form(text):
    assert BLOCKED.blocks(text)


@pytest.mark.parametrize(
    "text",
    ["badge", "a dog", "very", "ugly very", "this is a whole query", "坏", "", "café", "\x00"],
)
def test_not_blocked(text):
    assert not BLOCKED.blocks(text)


def test_a_file(tmp_path):
    path = tmp_path / "blocked.txt"
    path.write_text("# words\n\n  bad \n= exact one\n!!!\n", encoding="utf-8")
    found = read_block_list(path)
    assert found.entries == ("bad", "= exact one", "!!!")
    assert found.blocks("exact one") and not found.blocks("an exact one") and found.blocks("bad")
    assert not BlockList().blocks("anything")
    with pytest.raises(ValueError, match=r"block_list=.*cannot be read"):
        read_block_list(tmp_path / "none")
