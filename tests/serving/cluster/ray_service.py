"""What the tests of a service on Ray share: a stand-in encoder, and the service's parts here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.serving.admission import Admission
from reelseek.serving.app import create_app
from reelseek.serving.channel import Client
from reelseek.serving.cluster.deploying import Application, application
from reelseek.serving.cluster.front import Front
from reelseek.serving.remote_encoder import RemoteEncoder
from reelseek.serving.services import Services
from tests.indexing.shards.collection import GivenEncoder
from tests.indexing.small_index import D


def given_handlers(folder: str):
    """What an encoder process of `GivenEncoder` answers."""
    encoder = GivenEncoder()
    return {
        "sentences": lambda texts: encoder.sentences(texts).astype(np.float32).tobytes(),
        "describe": lambda _: {"fingerprint": encoder.fingerprint, "embedding_dim": D},
    }


@contextmanager
def served(index: str, *options: str) -> Iterator[tuple[Services, Front, Application]]:
    """An application on the Ray that this process is connected to, and an HTTP worker's part."""
    config = compose(ServeConfig, [f"index={index}", "engine=ray", "threads=8", *options])
    with application(config, index, make_handlers=given_handlers) as app:
        front = Front(app, config, encoder=RemoteEncoder(Client(Path("none")), max_cache_bytes=0))
        services = Services(
            config=config,
            admission=Admission(num_running=8, max_waiting=64, max_wait_seconds=60),
            encoder=Client(Path("none")),
            search=front.search,
        )
        services.set_searcher(front.searcher)
        try:
            yield services, front, app
        finally:
            front.searcher.close()


def asgi(services: Services):
    """What `tests.serving.test_app.ask` takes."""
    return type("Service", (), {"app": create_app(services)})
