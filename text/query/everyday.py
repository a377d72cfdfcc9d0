"""Typical queries for measurements without real ones."""

from importlib.resources import files


def everyday_queries() -> list[str]:
    """Returns a few hundred short English descriptions of common things and events."""
    return (
        files("reelseek.text.query")
        .joinpath("everyday_queries.txt")
        .read_text("utf-8")
        .splitlines()
    )
