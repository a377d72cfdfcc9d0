"""`python -m serving index=DIR`: searches an index over HTTP, and in the browser."""

from reelseek.configs import command_line
from reelseek.configs.schema import ServeConfig

USAGE = """usage: python -m serving index=DIR [host=127.0.0.1 port=8000 workers=N] [name=value ...]

Searches an index over HTTP, and in the browser. Ctrl-C stops when the requests in hand are
answered."""


def main(config: ServeConfig) -> None:
    from reelseek.serving.supervisor import serve
    from reelseek.serving.telemetry import log_as_json

    log_as_json()
    serve(config)


if __name__ == "__main__":
    command_line.run(main, ServeConfig, usage=USAGE)
