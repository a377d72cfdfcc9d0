"""Redis servers of the tests of this folder."""

import pytest

from tests.recommendation.redis_servers import Pair


@pytest.fixture(scope="module")
def shared_pair(tmp_path_factory):
    pair = Pair(tmp_path_factory.mktemp("redis"))
    yield pair
    pair.close()


@pytest.fixture
def pair(shared_pair):
    shared_pair.master.call("FLUSHALL")
    return shared_pair
