from itertools import chain

import numpy as np
import pytest
import torch

from reelseek.training.batches import CaptionedPairs, collate, step_seed
from reelseek.training.frame_cache import CachedVideo
from reelseek.training.order import EpochBatches
from tests.training import tiny_run


def make_pairs(videos=None, **options):
    videos = tiny_run.make_videos() if videos is None else videos
    captions = tiny_run.make_captions(len(videos))
    sentences = sorted({caption for own in captions for caption in own})
    return CaptionedPairs(
        videos,
        captions,
        text=torch.arange(len(sentences)).unsqueeze(1).repeat(1, 3),
        sentence_ids={sentence: number for number, sentence in enumerate(sentences)},
        **options,
    )


def numbered_video(length, *, pixels=False):
    """Frame i is full of i."""
    shape, dtype = ((3, 4, 4), np.uint8) if pixels else ((5,), np.float16)
    frames = np.arange(length).reshape(-1, *[1] * len(shape)) * np.ones(shape)
    return CachedVideo("a.mp4", frames.astype(dtype))


def epoch_of(epoch, *, num_pairs=23, first=0, **options):
    options = {"batch_size": 4, "seed": 0} | options
    return list(EpochBatches(num_pairs, **options).of_epoch(epoch, first=first))


def test_every_pair_comes_once_an_epoch_less_what_does_not_fill_a_batch():
    seen = set()
    for epoch in range(5):
        batches = epoch_of(epoch)
        assert [len(batch) for batch in batches] == [4] * 5
        assert {position[0] for batch in batches for position in batch} == {epoch}
        numbers = [number for batch in batches for _, number in batch]
        assert len(set(numbers)) == 20
        assert set(numbers) <= set(range(23))
        seen |= set(numbers)
    assert seen == set(range(23))  # what is left out of one epoch is seen in another


def test_batches_that_fill_an_epoch_leave_nothing_out():
    numbers = [number for batch in epoch_of(0, num_pairs=20) for _, number in batch]
    assert sorted(numbers) == list(range(20))


def test_order_depends_on_the_seed_and_the_epoch_only():
    def order(epoch, seed):
        return [number for batch in epoch_of(epoch, seed=seed) for _, number in batch]

    np.random.seed(5)
    torch.manual_seed(5)
    again = order(1, seed=3)
    batches = EpochBatches(23, batch_size=4, seed=3)
    list(batches.of_epoch(0))  # what came before is nothing to it
    assert [number for batch in batches.of_epoch(1) for _, number in batch] == again
    assert order(1, seed=3) == again
    assert len({tuple(order(epoch, seed)) for epoch in range(4) for seed in range(4)}) == 16


@pytest.mark.parametrize("world_size", [2, 4])
def test_parts_of_the_processes_are_the_global_batch(world_size):
    parts = [epoch_of(2, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert all(len(batch) == 4 // world_size for part in parts for batch in part)
    whole = [list(chain(*batch)) for batch in zip(*parts, strict=True)]
    assert whole == epoch_of(2)


@pytest.mark.parametrize("first", [0, 1, 4, 5])
def test_epoch_from_a_batch_on_is_its_tail(first):
    assert epoch_of(3, first=first) == epoch_of(3)[first:]


def test_weights_say_how_often_a_pair_is_seen():
    weights = np.array([0.25] * 8 + [1.0] * 8 + [2.5] * 4)
    epochs = [
        [number for batch in epoch_of(epoch, num_pairs=20, weights=weights) for _, number in batch]
        for epoch in range(200)
    ]
    assert {len(numbers) for numbers in epochs} == {20}  # of 2 + 8 + 10
    counts = np.array([np.bincount(numbers, minlength=20) for numbers in epochs])
    assert set(counts[:, :8].flat) == {0, 1}
    assert set(counts[:, 8:16].flat) == {1}
    assert set(counts[:, 16:].flat) == {2, 3}
    means = counts.mean(axis=0)
    assert np.abs(means - weights).max() < 0.16  # four deviations of 0.5 / sqrt(200)
    assert epochs[3] == [
        number for batch in epoch_of(3, num_pairs=20, weights=weights) for _, number in batch
    ]


def test_weights_that_leave_fewer_pairs_than_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"batch_size=4: there are only 3 pairs"):
        EpochBatches(10, batch_size=4, seed=0, weights=np.full(10, 0.39))


def test_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match=r"batch_size=5: must be a multiple of the 2 processes"):
        EpochBatches(10, batch_size=5, seed=0, world_size=2)


def test_fewer_pairs_than_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"batch_size=5: there are only 4 pairs .* smaller"):
        EpochBatches(4, batch_size=5, seed=0)


def test_pairs_are_each_caption_of_each_video():
    pairs = make_pairs()
    assert len(pairs) == 40
    captions = tiny_run.make_captions()
    sentences = sorted({caption for own in captions for caption in own})
    found = []
    for number in range(len(pairs)):
        frames, text, video, caption = pairs[0, number]
        assert torch.equal(frames, torch.from_numpy(pairs.videos[video].frames).float())
        assert frames.dtype == torch.float32
        assert text.tolist() == [caption] * 3  # its own row
        found.append((video, sentences[caption]))
    assert found == [(video, caption) for video, own in enumerate(captions) for caption in own]


def test_equal_sentences_of_two_videos_have_equal_numbers():
    pairs = make_pairs()
    _, _, first_video, first_caption = pairs[0, 1]
    _, _, seventh_video, seventh_caption = pairs[0, 13]
    assert (first_video, seventh_video) == (0, 6)
    assert first_caption == seventh_caption


def test_frames_are_padded_with_zeros_and_counted():
    pairs = [
        (torch.full((length, 4), 1.0 + length), torch.tensor([length, 0]), length, 10 * length)
        for length in (2, 1, 3)
    ]
    batch = collate(pairs)
    assert batch.frames[:, :, 0].tolist() == [[3, 3, 0], [2, 0, 0], [4, 4, 4]]
    assert batch.frames.shape == (3, 3, 4)
    assert batch.num_frames.tolist() == [2, 1, 3]
    assert batch.text.tolist() == [[2, 0], [1, 0], [3, 0]]
    assert [ids.tolist() for ids in batch.ids] == [[2, 1, 3], [20, 10, 30]]
    assert {ids.dtype for ids in (*batch.ids, batch.num_frames)} == {torch.int64}


def test_padding_has_no_part_in_a_videos_embedding(network):
    short, long = tiny_run.make_videos()[0], tiny_run.make_videos()[3]
    text = torch.zeros(tiny_run.WIDTH)
    pairs = [(torch.from_numpy(v.frames).float(), text, 0, 0) for v in (short, long)]
    together, alone = collate(pairs), collate(pairs[:1])
    torch.testing.assert_close(
        network.embed_videos(together.frames, together.num_frames)[:1],
        network.embed_videos(alone.frames, alone.num_frames),
    )


def test_chunks_are_the_batch():
    batch = collate([make_pairs()[0, number] for number in range(5)])
    chunks = batch.chunks(2)
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    assert torch.equal(torch.cat([chunk.frames for chunk in chunks]), batch.frames)
    assert torch.equal(torch.cat([chunk.caption_ids for chunk in chunks]), batch.caption_ids)


@pytest.mark.parametrize("pixels", [False, True])
def test_random_frames_are_in_order_and_none_comes_twice(pixels):
    pairs = make_pairs([numbered_video(10, pixels=pixels)], frames_per_video=4)
    chosen = []
    for epoch in range(50):
        frames, *_ = pairs[epoch, 0]
        assert len(frames) == 4
        numbers = frames.flatten(1)[:, 0].tolist()
        assert (frames.flatten(1) == frames.flatten(1)[:, :1]).all()  # frames are whole
        assert numbers == sorted(set(numbers))
        chosen.append(tuple(numbers))
    assert len(set(chosen)) > 30
    assert {number for numbers in chosen for number in numbers} == set(range(10))


def test_random_frames_depend_on_seed_epoch_and_number_only():
    def drawn(seed, epoch, number):
        pairs = make_pairs([numbered_video(100)], frames_per_video=4, seed=seed)
        _ = pairs[7, 1]  # what was drawn before is nothing to it
        return tuple(pairs[epoch, number][0][:, 0].tolist())

    positions = [(seed, epoch, number) for seed in (0, 1) for epoch in (0, 1) for number in (0, 1)]
    assert len({drawn(*position) for position in positions}) == len(positions)
    assert [drawn(*position) for position in positions] == [
        drawn(*position) for position in positions
    ]


@pytest.mark.parametrize("frames_per_video", [0, 10, 11])
def test_all_frames_are_taken_where_there_are_no_more(frames_per_video):
    pairs = make_pairs([numbered_video(10)], frames_per_video=frames_per_video)
    assert pairs[0, 0][0][:, 0].tolist() == list(range(10))


def test_half_of_the_videos_are_mirrored_from_left_to_right():
    picture = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(1, 3, 2, 4)
    video = CachedVideo("a.mp4", picture.repeat(2, axis=0))
    pairs = make_pairs([video], flip=True)
    mirrored = 0
    for epoch in range(200):
        frames = pairs[epoch, 0][0].numpy()
        is_mirrored = np.array_equal(frames, video.frames[:, :, :, ::-1])
        assert is_mirrored or np.array_equal(frames, video.frames)
        mirrored += is_mirrored
    assert 70 <= mirrored <= 130
    assert np.array_equal(make_pairs([video])[0, 0][0].numpy(), video.frames)


def test_features_are_not_mirrored():
    video = tiny_run.make_videos(1)[0]
    pairs = make_pairs([video], flip=True)
    for epoch in range(10):
        assert np.array_equal(pairs[epoch, 0][0].numpy(), video.frames.astype(np.float32))


def test_cached_frames_are_not_changed():
    video = numbered_video(4, pixels=True)
    video.frames.flags.writeable = False  # as memory-mapped ones are
    frames, *_ = make_pairs([video])[0, 0]
    frames.zero_()
    assert video.frames.max() == 3


def test_loading_workers_change_nothing():
    pairs = make_pairs(frames_per_video=2)
    by_workers = [
        list(pairs.load(iter(epoch_of(1, num_pairs=len(pairs))), num_workers=num_workers))
        for num_workers in (0, 2)
    ]
    assert len(by_workers[0]) == 10
    for ours, theirs in zip(*by_workers, strict=True):
        assert all(map(torch.equal, vars(ours).values(), vars(theirs).values()))


def test_seeds_of_different_numbers_differ():
    positions = [(1, 2), (2, 1), (12,), (1, 2, 0), (0, 1, 2), (1,), ()]
    seeds = [step_seed(*position) for position in positions]
    assert len(set(seeds)) == len(positions)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == [step_seed(*position) for position in positions]
