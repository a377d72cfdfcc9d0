import pytest

from reelseek.indexing.lexical import documents


@pytest.fixture
def without_words(monkeypatch):
    """Making the indexes of words takes most of the time, and is tested beside the answers."""
    monkeypatch.setattr(documents, "is_installed", lambda: False)
