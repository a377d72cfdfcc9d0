"""`python -m recommendation.evaluate_completion log=FILE test=FILE`: measures completion."""

import sys
import time
from pathlib import Path

from reelseek.configs import command_line
from reelseek.configs.completion_schema import (
    CompletionMode,
    EvaluateCompletionConfig,
    letter_range,
)
from reelseek.recommendation.completion.query_files import read_daily_counts

USAGE = """usage: python -m recommendation.evaluate_completion log=FILE test=FILE [mode=query|word]
       [prefix_letters=1-4] [name=value ...]

Asks the first letters of each query of `test`, or of each of its words, and completes them from
`log`; with dates, a day is answered from all earlier days of both files. The last line on stdout is
a JSON object: MRR@10 weighted by the counts, the baselines, and the ceiling."""


def main(config: EvaluateCompletionConfig) -> None:
    started = time.monotonic()
    log = read_daily_counts(Path(config.log), option="log")
    test = read_daily_counts(Path(config.test), option="test")
    letters = letter_range(config.prefix_letters)
    if config.mode is CompletionMode.query:
        from reelseek.recommendation.completion.query_evaluation import evaluate_queries

        result = evaluate_queries(log, test, letters, report=_say)
    else:
        from reelseek.recommendation.completion.word_evaluation import evaluate_words
        from reelseek.recommendation.completion.word_training import train_word_model

        # A day's model is used for that day alone: trees would cost more than they give.
        with_trees = config.trees and None in test
        embed = None
        if with_trees and config.text_model is not None:
            from reelseek.recommendation.completion.word_embeddings import WordEmbeddings

            _say(f"words: loading the text model {config.text_model}")
            embed = WordEmbeddings(config.text_model)
        result = evaluate_words(
            log, test, letters,
            train=lambda queries: train_word_model(
                queries, with_trees=with_trees, embed=embed, seed=config.seed, report=_say
            ),
        )  # fmt: skip
    result["seconds"] = time.monotonic() - started
    command_line.print_json(_rounded(result))


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    command_line.run(main, EvaluateCompletionConfig, usage=USAGE)
