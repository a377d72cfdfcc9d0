"""`python -m recommendation.completion events=DIR`: builds what completes queries."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from reelseek.configs import command_line
from reelseek.configs.completion_schema import CompletionConfig
from reelseek.indexing.store.atomic import check_can_write_folder, make_folder
from reelseek.recommendation.completion.block_list import BlockList, read_block_list
from reelseek.recommendation.completion.building import BuildSettings, Encode, build_model
from reelseek.recommendation.completion.model_files import DEFAULT_FOLDER, save_model
from reelseek.recommendation.completion.search_history import read_history
from reelseek.recommendation.events.opening import check_readable, open_log
from reelseek.recommendation.redis_server import is_redis

USAGE = """usage: python -m recommendation.completion events=DIR [output=DIR] [index=DIR]
       [block_list=FILE] [min_users=5] [name=value ...]

Builds what completes queries, from what users asked; a running service goes over to it. With an
index, only queries whose best hit is probable enough are suggested. The last line on stdout is a
JSON object: how many queries were kept and left out."""


def main(config: CompletionConfig) -> None:
    started = time.monotonic()
    if config.output is None and is_redis(config.events):
        raise ValueError("output: missing; name a folder, as the events are in a Redis server")
    folder = Path(config.output or Path(config.events) / DEFAULT_FOLDER)
    check_readable(config.events)
    check_can_write_folder("output", folder)
    block_list = BlockList()
    if config.block_list is not None:
        block_list = read_block_list(Path(config.block_list))
    log = open_log(config.events)
    try:
        history = read_history(log, max_queries_per_user=config.max_queries_per_user, report=_say)
    finally:
        log.close()
    embed, encode = None, None
    if config.text_model is not None and history.queries:
        from reelseek.recommendation.completion.word_embeddings import WordEmbeddings

        _say(f"loading the text model {config.text_model}")
        embed = WordEmbeddings(config.text_model) if config.trees else None
        encode = _encoder(config.text_model, config.device)
    has_answer, close = _has_answer(config)
    try:
        settings = BuildSettings(
            min_users=config.min_users,
            block_list=block_list,
            has_answer=has_answer,
            embed=embed,
            encode=encode,
            trees=config.trees,
            seed=config.seed,
        )
        built, figures = build_model(history, settings, report=_say)
    finally:
        close()
    make_folder(folder)
    version = save_model(folder, built)
    seconds = round(time.monotonic() - started, 1)
    command_line.print_json({**figures, "version": version, "seconds": seconds})


def _encoder(model: str, device: str) -> Encode:
    from reelseek.ranking.query_encoding import QueryEncoder
    from reelseek.vision.models.loading import load_model
    from reelseek.vision.models.spec import ModelSpec

    encoder = QueryEncoder(load_model(ModelSpec(model)), device=device)

    def encode(queries: "list[str] | tuple[str, ...]") -> np.ndarray:
        _say(f"embeddings of {len(queries):,} queries")
        return encoder.sentences(queries)

    return encode  # type: ignore[return-value]


def _has_answer(
    config: CompletionConfig,
) -> tuple[Callable[[str], bool] | None, Callable[[], None]]:
    """Returns what says whether a query has an answer, and what closes it."""
    if config.index is None:
        return None, lambda: None
    from reelseek.ranking.searcher import Searcher

    searcher = Searcher.open(config.index, device=config.device)

    def has_answer(query: str) -> bool:
        try:
            return bool(searcher.search(query, k=1, min_confidence=config.min_confidence))
        except ValueError:  # filters that cannot be read: no sentence to suggest
            return False

    return has_answer, searcher.close


def _say(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    command_line.run(main, CompletionConfig, usage=USAGE)
