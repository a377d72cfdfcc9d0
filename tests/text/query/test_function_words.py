"""Which words of a query say something, in the languages that queries come in."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from reelseek.text import content_words, words
from reelseek.text.query import function_words


@pytest.fixture
def without(without):
    """Lists that were read before are read again."""
    caches = (
        function_words._list,
        function_words._is_listed,
        function_words._is_function_word_in,
        function_words._latin_language,
        function_words._frequencies,
        function_words._japanese_tagger,
    )

    def hide(*names):
        without(*names)
        for cached in caches:
            cached.cache_clear()

    yield hide
    for cached in caches:
        cached.cache_clear()


def content(text):
    return content_words(words(text))


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("a rocket", "rocket"),
        ("The man who is in his car", "man car"),
        ("two dogs, 3 cats and the 2nd horse", "dogs cats horse"),
        ("it's my dog and that isn't yours", "dog"),
        ("b-roll of a beach", "roll beach"),
        ("IMG_0001 of a cat.mp4", "cat"),
        ("die Katze auf dem Tisch mit einem Ball", "katze tisch ball"),
        ("le chat dort près d'un arbre", "chat dort arbre"),
        ("el perro juega con los niños en la playa", "perro juega niños playa"),
        ("un gatto sul divano", "gatto divano"),
        ("o gato preto em cima da mesa", "gato preto mesa"),
        ("een hond en een kat in het park", "hond kat park"),
        ("кошка и собака на столе", "кошка собака столе"),
        ("kot i pies na plaży", "kot pies plaży"),
    ],
)
def test_words_between_blanks(query, left):
    assert content(query) == left.split()


@pytest.mark.parametrize(
    ("query", "left", "package"),
    [
        ("两个女人正在海滩上和一只狗玩", "女人 海滩 狗 玩", "rjieba"),
        ("她在厨房里做饭", "厨房 做饭", "rjieba"),
        ("彼はその犬と海で遊んでいる", "犬 海 遊ぶ", "fugashi"),
        ("แมวบนโซฟาในครัว", "แมว โซฟา ครัว", "icu4py"),
        ("con mèo ngồi trên ghế sofa", "mèo ghế sofa", "pyvi"),
    ],
)
def test_words_that_a_dictionary_cuts(query, left, package):
    pytest.importorskip(package)
    pytest.importorskip("spacy")
    assert content(query) == left.split()


@pytest.mark.parametrize(
    "query",
    [
        *("the", "in the", "of a", "B", "x", "2024", "part 3 of 7", "GOPR", "DSC 0042", "VID.mp4"),
        *("der die das", "auf dem", "dans les", "en la", "на", "的", "一个", "II", "iv"),
    ],
)
def test_nothing_is_left_where_nothing_is_said(query):
    pytest.importorskip("spacy")
    assert content(query) == []


@pytest.mark.parametrize(
    ("query", "left"),
    [
        # Function words of German, Spanish, Italian or French, and words of English.
        *(("a red hat", "red hat"), ("hat", "hat"), ("war", "war"), ("people die", "people die")),
        *(("once upon a time", "time"), ("my son", "son"), ("Los Angeles", "los angeles")),
        *(("come home", "come home"), ("a tree on fire", "tree fire")),
        # The other way round.
        *(("der Mann hat einen Hut", "mann hut"), ("das Boot war im Hafen", "boot hafen")),
        *(("un chat noir", "chat noir"), ("son chien", "chien")),
        # Frequent words that say something.
        ("man woman people day night home water world dog", None),
    ],
)
def test_language_of_the_query_decides(query, left):
    pytest.importorskip("spacy")
    pytest.importorskip("wordfreq")
    assert content(query) == (query if left is None else left).split()


def test_words_beside_another_script_are_told_by_their_own():
    pytest.importorskip("spacy")
    assert content_words(["the", "cat", "и", "собака"]) == ["cat", "собака"]


@pytest.mark.parametrize("missing", [("spacy",), ("spacy", "wordfreq")])
def test_lists_of_tantivy_stand_in(without, missing):
    pytest.importorskip("tantivy")
    without(*missing)
    assert content("a rocket in the sky with IMG_0001") == ["rocket", "sky"]
    assert content("die Katze auf dem Tisch mit einem Ball") == ["katze", "tisch", "ball"]
    assert content("a red hat") == ["red", "hat"]


def test_without_any_list_only_marks_and_numbers_are_left_out(without):
    without("spacy", "wordfreq", "tantivy", "rjieba", "fugashi")
    assert content_words(["the", "cat", "2", "b", "猫"]) == ["the", "cat", "猫"]


def test_threads_are_answered_alike():
    pytest.importorskip("fugashi")
    queries = ["彼はその犬と海で遊んでいる", "私の旅の記録", "a cat in the hat", "das Boot"] * 25
    expected = [content(query) for query in queries]
    caches = (
        function_words._is_listed,
        function_words._is_function_word_in,
        function_words._latin_language,
    )
    for cached in caches:
        cached.cache_clear()
    start = threading.Barrier(4)

    def ask(_):
        start.wait()
        return [content_words(words) for words in cut]

    cut = [words(query) for query in queries]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == [expected] * 4
