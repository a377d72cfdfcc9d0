"""What the pairs of shards say of a batch whose loss is not finite."""

from reelseek.indexing.shutdown import StopRequest
from reelseek.training.shards.collection import read_collection
from reelseek.training.shards.pairs import ShardPairs
from tests.training.shards.generated import write_shard


def test_samples_of_a_broken_step_are_named_once_by_shard_and_name(tmp_path):
    for shard in range(2):
        files = [(f"{i}.{end}", "content") for i in range(2) for end in ("jpg", "txt")]
        write_shard(tmp_path / f"{shard}.tar", files)
    collection = read_collection(
        [str(tmp_path)],
        cache_folder=tmp_path / "cache",
        max_failed_fraction=0.0,
        stop=StopRequest(),
    )
    pairs = ShardPairs(collection, None, None, skipped=None, tokenize=None)
    described = pairs.describe_broken([3, 0, 3])
    assert described == (
        "lower optimizer.lr, or look at: 2 videos of the batch: "
        f"{tmp_path / '0.tar'}, '0.jpg', {tmp_path / '1.tar'}, '1.jpg'"
    )
