"""The demo's clips are found by their pictures alone: their names share no word with a question."""

import sys
from importlib import import_module
from pathlib import Path

from reelseek.text import words


def test_names_of_clips_have_no_word_of_a_question(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1] / "examples"), *sys.path])
    demo, media = import_module("demo"), import_module("demo_media")
    clips = {**media.FILMS, **media.PHOTOGRAPHS}
    in_names = {word for name in clips for word in words(Path(name).stem)}
    asked = {word for question in [*demo.QUESTIONS, *demo.MOMENTS] for word in words(question)}
    assert not in_names & asked
    assert set(demo.QUESTIONS.values()) == set(clips)
    assert set(demo.MOMENTS.values()) <= set(media.FILM_PARTS)
