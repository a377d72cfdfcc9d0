"""`python search.py index=DIR query="..."`; and in a checkout, `from search import Searcher`."""

from reelseek import Searcher, SearchHit, SearchResults, search

__all__ = ["SearchHit", "SearchResults", "Searcher", "search"]

if __name__ == "__main__":
    from reelseek.configs import command_line
    from reelseek.configs.schema import SearchConfig
    from reelseek.ranking.command import USAGE, main

    command_line.run(main, SearchConfig, usage=USAGE)
