"""`python -m serving index=DIR`: searches an index over HTTP, and in the browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from reelseek.configs import command_line
from reelseek.configs.schema import Engine, ServeConfig
from reelseek.text.urls import is_url, public_url

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
    if config.engine is Engine.ray:
        from reelseek.indexing.cluster.connection import require_ray

        require_ray()
    with _on_this_machine(config) as url:
        serve(config, url=url)


@contextmanager
def _on_this_machine(config: ServeConfig) -> Iterator[str | None]:
    """Fetches a published index, and puts its folder in the place of its URL, which it yields.

    With `engine=ray` only what describes the index: the nodes fetch their shards themselves.
    """
    if config.index is None or not is_url(config.index):
        yield None
        return
    from reelseek.indexing.remote.opening import open_published_index

    if config.videos:
        raise ValueError(
            f"videos={config.videos[0]}: index={public_url(config.index)} is published, and only "
            "searched; leave videos out, or give the folder of an index"
        )
    url, part = config.index, None
    if config.engine is Engine.ray:
        from reelseek.serving.cluster.source import description

        part = description()
    published = open_published_index(
        url, config.index_cache, cache_gb=config.index_cache_gb, part=part
    )
    try:
        config.index = str(published.folder)
        yield url
    finally:
        published.close()


if __name__ == "__main__":
    command_line.run(main, ServeConfig, usage=USAGE)
