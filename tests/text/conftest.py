"""An analyzer of the catalogue that the table of queries is asked of."""

import sys
from collections.abc import Callable, Iterator

import pytest

from reelseek.text import languages, segmentation
from reelseek.text.query import constraints, entities, spelling
from reelseek.text.query.analyzer import QueryAnalyzer
from reelseek.text.query.vocabulary import Vocabulary
from tests.text.query_table import CATALOGUE, ENTITIES, NOW, TAGS

LOADERS = (
    constraints._dateparser,
    entities._jieba,
    entities._spacy,
    languages._lingua,
    segmentation._segmenter,
    spelling._symspell,
    spelling._wordfreq,
)


@pytest.fixture(scope="session")
def build_analyzer() -> Callable[..., QueryAnalyzer]:
    vocabulary = Vocabulary.of(CATALOGUE, tags=TAGS, entities=ENTITIES)

    def build(**options: object) -> QueryAnalyzer:
        return QueryAnalyzer(**{"vocabulary": vocabulary, "now": lambda: NOW, **options})

    return build


@pytest.fixture(scope="session")
def analyzer(build_analyzer: Callable[..., QueryAnalyzer]) -> QueryAnalyzer:
    """Without the neural part."""
    return build_analyzer(entities=False)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes packages as good as not installed."""

    def hide(*names: str) -> None:
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)
        forget()

    def forget() -> None:
        for load in LOADERS:
            load.cache_clear()
        spelling._zipf.cache_clear()

    yield hide
    monkeypatch.undo()
    forget()
