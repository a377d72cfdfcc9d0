import numpy as np
import pytest
import torch

import reelseek.training.validation
from reelseek.ranking.metrics import retrieval_metrics
from reelseek.training.curves import score_of
from reelseek.training.data import CaptionedCollection
from reelseek.training.validation import Validation, as_record
from tests.training import tiny_run
from tests.training.tiny_run import prepare_texts

NUM_VIDEOS = 12


def collection_of(videos):
    """Video i has i % 3 + 1 captions."""
    captions = [[f"film {n} in words {k}" for k in range(n % 3 + 1)] for n in range(len(videos))]
    return CaptionedCollection(videos, captions, [""] * len(videos))


def embeddings_by_hand(clip, videos, captions, *, pixels):
    """One frame and one caption at a time, by the open_clip model or its projections."""
    gallery = []
    for video in videos:
        total = torch.zeros(tiny_run.EMBEDDING_DIM)
        for frame in video.frames:
            if pixels:
                picture = (torch.from_numpy(frame) / 255 - 0.5) / 0.5
                embedding = clip.encode_image(picture.unsqueeze(0))[0]
            else:
                embedding = torch.from_numpy(frame.astype(np.float32)) @ clip.visual.proj
            total += embedding / embedding.norm()
        gallery.append(total / total.norm())
    queries = [clip.encode_text(tiny_run.tokenize([caption]))[0] for caption in captions]
    return torch.stack([query / query.norm() for query in queries]), torch.stack(gallery)


@pytest.mark.parametrize("batch_frames", [512, 10, 1])
@pytest.mark.parametrize("pixels", [False, True])
def test_metrics_are_those_of_embeddings_made_one_by_one(monkeypatch, pixels, batch_frames):
    monkeypatch.setattr(reelseek.training.validation, "_BATCH_FRAMES", batch_frames)
    seen = []

    def watched(similarity, caption_video):
        seen.append(similarity)
        return retrieval_metrics(similarity, caption_video)

    monkeypatch.setattr(reelseek.training.validation, "retrieval_metrics", watched)
    model = tiny_run.make_model()
    network = tiny_run.make_network(model, trains="all" if pixels else "heads")
    collection = collection_of(tiny_run.make_videos(NUM_VIDEOS, pixels=pixels))
    captions = [caption for own in collection.captions for caption in own]
    device = torch.device("cpu")
    texts = prepare_texts(captions, model, network, device=device)
    metrics = Validation(collection, texts, device=device).measure(network)

    with torch.no_grad():
        queries, gallery = embeddings_by_hand(
            model.clip, collection.videos, captions, pixels=pixels
        )
    similarity = (queries @ gallery.T).numpy()
    caption_video = [n for n, own in enumerate(collection.captions) for _ in own]
    np.testing.assert_allclose(seen[0], similarity, atol=1e-5)
    assert metrics == retrieval_metrics(similarity, np.array(caption_video))
    assert (metrics["num_queries"], metrics["num_gallery"]) == (24, 12)


def test_model_that_finds_all_has_100_percent():
    model = tiny_run.make_model()
    network = tiny_run.make_network(model)
    videos = tiny_run.make_videos(NUM_VIDEOS)
    collection = CaptionedCollection(videos, [["a film"]] * NUM_VIDEOS, [""] * NUM_VIDEOS)
    # Text features that the text head projects to where the video's frames are.
    with torch.no_grad():
        wanted = torch.cat(
            [
                network.embed_videos(
                    torch.from_numpy(v.frames).float().unsqueeze(0), torch.tensor([len(v.frames)])
                )
                for v in videos
            ]
        )
        texts = wanted @ torch.linalg.pinv(network.text.head.weight)
    metrics = Validation(collection, texts, device=torch.device("cpu")).measure(network)
    assert score_of(as_record(metrics, step=1)) == 100.0
    swapped = Validation(collection, texts.flip(0), device=torch.device("cpu")).measure(network)
    assert swapped["t2v"]["R@1"] == 0.0


def test_network_is_left_as_it_was_and_can_train_on():
    network = tiny_run.make_network()
    before = {name: part.clone() for name, part in network.state_dict().items()}
    collection = collection_of(tiny_run.make_videos(3))
    texts = torch.randn(6, tiny_run.WIDTH, generator=torch.Generator().manual_seed(0))
    Validation(collection, texts, device=torch.device("cpu")).measure(network)
    for name, part in network.state_dict().items():
        assert torch.equal(part, before[name])
    network.embed_texts(texts).sum().backward()
    assert network.text.head.weight.grad is not None


def test_mean_recall_is_of_text_to_video():
    side = {"R@1": 10.0, "R@5": 30.0, "R@10": 50.0, "MdR": 7.0, "MnR": 9.0}
    metrics = {"t2v": side, "v2t": dict.fromkeys(side, 0.0)}
    assert score_of(as_record(metrics, step=1)) == 30.0


def test_record_has_the_step_and_each_metric_of_both_sides():
    metrics = {"t2v": {"R@1": 1.0, "MdR": 2.0}, "v2t": {"R@1": 3.0}, "num_queries": 4}
    assert as_record(metrics, step=7) == {
        "step": 7,
        "val/t2v/R@1": 1.0,
        "val/t2v/MdR": 2.0,
        "val/v2t/R@1": 3.0,
    }
