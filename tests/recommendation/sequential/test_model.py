"""A model that is saved and loaded is the same; another's or a damaged one is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from reelseek.recommendation.sequential.fitting import export_network
from reelseek.recommendation.sequential.model import SequentialModel, catalogue_fingerprint
from tests.recommendation.sequential.samples import new_network

_IDS = [f"item{number}" for number in range(28)] + ["\u732b", "\udcff"]


def model(num_networks: int = 2, content_dim: int = 5) -> SequentialModel:
    networks = [
        export_network(new_network(seed=seed, content_dim=content_dim))
        for seed in range(num_networks)
    ]
    return SequentialModel(networks, 2, _IDS, "tower", 0.35)


def test_scores_are_the_mean_logits_of_the_networks() -> None:
    ours = model()
    histories = [np.array([1, 2, 3]), np.array([4])]
    scores = ours.history_vectors(histories) @ ours.item_vectors().T
    expected = [
        SequentialModel([each], 2, _IDS).history_vectors(histories) @ each.items.T
        for each in ours.networks
    ]
    np.testing.assert_allclose(scores, np.mean(expected, axis=0), atol=1e-5)


def test_a_loaded_model_is_the_saved_one(tmp_path: Path) -> None:
    ours = model()
    ours.save(tmp_path / "new" / "folder")
    loaded = SequentialModel.load(tmp_path / "new" / "folder", fingerprint=ours.fingerprint)
    assert loaded.item_ids == _IDS and loaded.content_fingerprint == "tower"
    assert loaded.transitions_weight == 0.35
    histories = [np.array([1, 2, 3])]
    assert np.array_equal(loaded.history_vectors(histories), ours.history_vectors(histories))
    assert np.array_equal(loaded.item_vectors(), ours.item_vectors())
    one_more = ["one more"], np.ones((1, 5), np.float32)
    assert np.array_equal(
        loaded.with_items(*one_more).item_vectors(), ours.with_items(*one_more).item_vectors()
    )


def test_a_model_of_another_catalogue_is_refused(tmp_path: Path) -> None:
    model().save(tmp_path)
    for other in (
        catalogue_fingerprint(_IDS, "another tower"),
        catalogue_fingerprint(_IDS[::-1], "tower"),
        catalogue_fingerprint(_IDS[:-1], "tower"),
    ):
        with pytest.raises(ValueError, match="another catalogue"):
            SequentialModel.load(tmp_path, fingerprint=other)


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        SequentialModel.load(tmp_path)
    model().save(tmp_path)
    weights, config = tmp_path / "sequential.safetensors", tmp_path / "sequential.json"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ValueError, match="checksum"):
        SequentialModel.load(tmp_path)
    weights.write_bytes(good)
    values = json.loads(config.read_text())
    for changed, message in (
        (values | {"format": 2}, "format"),
        (values | {"item_ids": _IDS[1:]}, "30 items and 29 ids"),
        (values | {"item_ids": _IDS[::-1]}, "fingerprint"),
        (values | {"num_networks": 3}, "lacks 2.items"),
        ({name: each for name, each in values.items() if name != "crc32"}, "lacks crc32"),
    ):
        config.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            SequentialModel.load(tmp_path)


def test_a_new_item_is_placed_by_its_content() -> None:
    network = new_network(content_dim=5)
    ours = SequentialModel([export_network(network)], 2, _IDS)
    assert network.items.content is not None
    content = network.items.content.numpy()
    # Nobody chose item 0, so its own embedding comes from content as well.
    more = ours.with_items(["new"], content[:1])
    assert more.item_ids == [*_IDS, "new"] and more.fingerprint != ours.fingerprint
    np.testing.assert_array_equal(more.item_vectors()[:-1], ours.item_vectors())
    np.testing.assert_allclose(more.item_vectors()[-1], ours.item_vectors()[0], atol=1e-6)
    with pytest.raises(ValueError, match="content is"):
        ours.with_items(["new"], np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match="none"):
        model(content_dim=0).with_items(["new"], content[:1])
