"""`python -m serving index=DIR`: searches an index over HTTP, and in the browser."""

from importlib.util import find_spec

from reelseek.configs import command_line
from reelseek.configs.schema import ServeConfig

USAGE = """usage: python -m serving index=DIR [host=127.0.0.1 port=8000 workers=N] [name=value ...]

Searches an index over HTTP, and in the browser. Ctrl-C stops when the requests in hand are
answered."""


_NEEDED = (
    "fastapi",
    "uvicorn",
    "httptools",
    "msgspec",
    "cachetools",
    "prometheus_client",
    "watchfiles",
)


def main(config: ServeConfig) -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ImportError(f"a service needs {missing[0]}: pip install 'reelseek[serve]'")

    from reelseek.serving.supervisor import serve
    from reelseek.serving.telemetry import log_as_json

    log_as_json()
    serve(config)


if __name__ == "__main__":
    command_line.run(main, ServeConfig, usage=USAGE)
