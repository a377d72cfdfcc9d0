"""Sentences such as people search videos by, to measure with where no real ones are known."""

from importlib.resources import files


def everyday_queries() -> list[str]:
    """A few hundred short descriptions of common things and events, in English."""
    return (
        files("reelseek.text.query")
        .joinpath("everyday_queries.txt")
        .read_text("utf-8")
        .splitlines()
    )
