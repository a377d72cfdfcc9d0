import pytest

from reelseek.recommendation.completion import background


@pytest.fixture(scope="session", autouse=True)
def few_background_words():
    """The language at large with a thousand words, which takes no second to count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(background, "MAX_WORDS", 1_000)
        background._frequencies.cache_clear()
        pairs = {first: row for first, row in list(background.background_pairs().items())[:200]}
        patch.setattr(
            "reelseek.recommendation.completion.word_counts.background_pairs", lambda: pairs
        )
        yield
    background._frequencies.cache_clear()
