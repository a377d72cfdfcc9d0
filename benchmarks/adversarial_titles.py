"""Pictures, and pictures with texts, where every title is a trap.

    python benchmarks/adversarial_titles.py data=FILE.jsonl folder=DIR [seed=0] [languages=de,fr]

Writes lists into FOLDER: the captioned videos of the list, whose captions are asked, each with a
title as people give them (series, days, places, "The ... of ...", names of files), none of which
says what its video shows. In `words.jsonl` titles share only function words with captions; in
`one.jsonl` each has one content word of some other video's caption, which has at least four.

For each of `languages`, `words-LANGUAGE.jsonl` has titles in that language, and so are the
questions for videos whose English caption names one of some common things; the others keep theirs.
Then
`python train.py eval_only=true` measures all lists: with texts, no fewer videos should be found
than by pictures alone.
"""

import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from benchmarks.source_table import HEADER, print_rows  # noqa: E402
from reelseek.indexing import collect_videos  # noqa: E402
from reelseek.text import content_words, words  # noqa: E402

_PLACES = "Lisbon Oslo Kyoto Naples Zermatt Reykjavik Havana Tallinn Quito Porto".split()
# Titles without a content word that a caption could share, but for places.
_TITLES = {
    "en": (
        "A week in {place}, part {n}|The {place} of the North|In {place} with Anna|From {place} to "
        "Zermatt|IMG_{n:04d}|On the way to {place} {n}|{place} at its best|A|The|To {place}"
    ),
    "de": (
        "Eine Woche in {place}, Teil {n}|Der Sommer von {place}|Auf dem Weg nach {place}|Mit Anna "
        "in {place}|DSC_{n:04d}|Die {place}|Das ist {place}|Ein|Unter dem Mond von {place}"
    ),
    "fr": (
        "Une semaine à {place}, partie {n}|Le {place} de Anna|Dans {place} avec Anna|Sur la route "
        "de {place}|VID_{n:04d}|La {place}|Les {n} de {place}|Un|Sous la lune de {place}"
    ),
    "es": (
        "Una semana en {place}, parte {n}|El {place} de Anna|En {place} con Anna|Por la ruta de "
        "{place}|MVI_{n:04d}|La {place}|Los {n} de {place}|Un|Bajo la luna de {place}"
    ),
    "zh": (
        "在{place}的一周, 第{n}集|{place}的一个|和安娜在{place}|这是{place}|IMG_{n:04d}|的|"
        "{place}, 我们的{n}"
    ),
    "ja": (
        "{place}の一週間、その{n}|{place}にて|アンナと{place}で|これは{place}|IMG_{n:04d}|の|"
        "私の{place}{n}"
    ),
}
_ONE_WORD = (
    "The {word} of {place}|A {word} in {place}, part {n}|My {word} {n}|{place} {word} 2019|"
    "On the {word} with Anna|The {word}|{word} number {n}"
)
_QUESTIONS = {
    "de": "Ein Video mit {thing} und mit den anderen auf der Straße",
    "fr": "Un film avec {thing} et avec les autres sur la neige",
    "es": "Un vídeo con {thing} y con los otros en la playa",
    "zh": "在海边的一个{thing}和他的朋友",
    "ja": "海の近くで{thing}と彼の友達",
}
_THINGS = {
    "man": "einem Mann|un homme|un hombre|男人|男性",
    "woman": "einer Frau|une femme|una mujer|女人|女性",
    "girl": "einem Mädchen|une fille|una niña|女孩|少女",
    "boy": "einem Jungen|un garçon|un niño|男孩|少年",
    "car": "einem Auto|une voiture|un coche|汽车|車",
    "dog": "einem Hund|un chien|un perro|狗|犬",
    "cat": "einer Katze|un chat|un gato|猫|猫",
    "game": "einem Spiel|un jeu|un juego|游戏|ゲーム",
    "people": "vielen Leuten|des gens|mucha gente|人群|人々",
    "person": "einer Person|une personne|una persona|人物|人物",
    "robot": "einem Roboter|un robot|un robot|机器人|ロボット",
    "child": "einem Kind|un enfant|un chico|孩子|子供",
    "cooking": "einem Koch|un cuisinier|un cocinero|厨师|料理人",
    "band": "einer Band|un groupe|un grupo|乐队|バンド",
    "water": "Wasser|de l'eau|agua|水|水",
    "food": "Essen|un repas|comida|食物|食べ物",
}


def titles(templates: str, num: int, draws: random.Random) -> list[str]:
    return [
        draws.choice(templates.split("|")).format(
            index=draws.choice(_PLACES), n=draws.randrange(1, 30)
        )
        for _ in range(num)
    ]


def one_word_titles(captions: Sequence[str], draws: random.Random) -> list[str]:
    """With a content word each, of a caption that has at least four."""
    content = [content_words(words(caption)) for caption in captions]
    pool = [found for found in content if len(set(found)) >= 4]
    return [
        draws.choice(_ONE_WORD.split("|")).format(
            word=draws.choice(draws.choice(pool)),
            index=draws.choice(_PLACES),
            n=draws.randrange(1, 30),
        )
        for _ in captions
    ]


def questions(captions: Sequence[str], language: str) -> Iterator[str | None]:
    """A question for each English caption that names a thing, or None."""
    index = list(_QUESTIONS).index(language)
    for caption in captions:
        named = [thing for thing in _THINGS if thing in caption.casefold().split()]
        if named:
            thing = _THINGS[named[0]].split("|")[index]
            yield _QUESTIONS[language].format(thing=thing)
        else:
            yield None


def lists(
    captions: Sequence[str], languages: Sequence[str], draws: random.Random
) -> Iterator[tuple[str, list[str], list[str]]]:
    """The name of each list, its questions and its titles."""
    yield "words", list(captions), titles(_TITLES["en"], len(captions), draws)
    yield "one", list(captions), one_word_titles(captions, draws)
    for language in languages:
        queries = [
            question or caption
            for question, caption in zip(questions(captions, language), captions, strict=True)
        ]
        yield f"words-{language}", queries, titles(_TITLES[language], len(captions), draws)


def main() -> None:
    options = parse_options(
        __doc__, data=None, folder=None, seed="0", languages=",".join(_QUESTIONS)
    )
    folder, draws = Path(options["folder"]), random.Random(int(options["seed"]))
    folder.mkdir(parents=True, exist_ok=True)
    items = [item for item in collect_videos(options["data"]) if item.captions]
    captions = [item.captions[0] for item in items]
    print(HEADER)
    for name, queries, given in lists(captions, options["languages"].split(","), draws):
        print_rows(folder / f"{name}.jsonl", items, queries=queries, titles=given)


if __name__ == "__main__":
    main()
