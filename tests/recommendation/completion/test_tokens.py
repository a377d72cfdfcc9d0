from hypothesis import given
from hypothesis import strategies as st

from reelseek.ranking.prefix_index import folded
from reelseek.recommendation.completion.tokens import MAX_WORDS, tokens, words


def test_words_with_and_without_blanks():
    assert words("a dog's life") == ("a", "dog's", "life")
    assert "".join(words("谍战电视剧战争")) == "谍战电视剧战争"
    mixed = tokens("谍战 hello战争")
    assert [each.word for each in mixed][:2] == ["谍战", "hello"]
    assert [each.is_unspaced for each in mixed][:2] == [True, False]
    assert words("") == ()
    assert len(words("a " * 99)) == MAX_WORDS


@given(st.text(max_size=40))
def test_each_word_is_where_it_says(text):
    form = folded(text)
    end = 0
    for token in tokens(form):
        assert form[token.start :].startswith(token.word)
        assert token.start >= end
        assert not form[end : token.start].strip()
        end = token.start + len(token.word)
