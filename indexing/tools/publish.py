"""`python -m indexing.tools.publish index=DIR to=s3://BUCKET/NAME`: publishes an index in object
storage, from which searchers open it."""

from dataclasses import asdict
from pathlib import Path

from reelseek.configs import command_line
from reelseek.configs.schema import PublishConfig

USAGE = """usage: python -m indexing.tools.publish index=DIR to=s3://BUCKET/NAME [prune=true]

Sends what is not there yet, and then puts the new publication in force at once; search it with
index=s3://BUCKET/NAME. The last line on stdout is a JSON object."""


def main(config: PublishConfig) -> None:
    from reelseek.indexing.remote.publisher import publish_index
    from reelseek.indexing.remote.retrying import Retry

    summary = publish_index(
        Path(config.index),
        config.to,
        prune=config.prune,
        retry=Retry(config.attempts),
        timeout_seconds=config.timeout_seconds,
    )
    command_line.print_json(asdict(summary))


if __name__ == "__main__":
    command_line.run(main, PublishConfig, usage=USAGE)
