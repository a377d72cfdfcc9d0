"""What is encoded and not in the index yet: its files, and runs that come back to them."""

import errno
import json
from dataclasses import replace

import numpy as np
import pytest

import reelseek.indexing.pipeline
import reelseek.indexing.writer
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.unfinished import FinishedVideo, UnfinishedVideos
from reelseek.indexing.store.videos import FileSignature
from reelseek.indexing.writer import IndexWriter
from reelseek.vision import FrameSettings
from tests.conftest import COLOURS, InProcessPool
from tests.indexing.conftest import SAMPLER, ColourIndex, WatchedEncoder
from tests.indexing.test_crashes import disk_of, leave_free

RED, GREEN, BLUE = COLOURS.values()
SCENES = {"kind": "scenes", "seconds": 4.0, "overlap_seconds": 2.0}
STAMP = FileSignature(10, 20, "ab" * 32)
END = FinishedVideo(9.5, "ok", "", "pyav", [[0.0, 9.5]])


# The files


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "unfinished"


def opened(folder, signature=STAMP, settings="{}"):
    return UnfinishedVideos(folder, settings=settings, embedding_dim=3).open(signature)


def rows(num, seed=0):
    return np.random.default_rng(seed).standard_normal((num, 3)).astype(np.float32)


def write_some(folder):
    """Two pieces, of which the second has two frames that look like the first one's last."""
    video = opened(folder)
    video.append(rows(2), [0.25, 0.75], [0, 1], first_row=0, first_frame=0)
    video.append(rows(1, 1), [1.25, 1.75, 2.25], [1, 1, 2], first_row=2, first_frame=2)
    video.close()
    return folder / f"{STAMP.content_sha256[:32]}.frames"


def contents(video):
    return video.embeddings.tolist(), video.times_seconds, video.rows, video.finished


def test_what_was_kept_is_read(folder):
    write_some(folder)
    expected = np.concatenate([rows(2), rows(1, 1)]).tolist()
    times = [0.25, 0.75, 1.25, 1.75, 2.25]
    assert contents(opened(folder)) == (expected, times, [0, 1, 1, 1, 2], None)


def test_finished_video_is_known_with_its_end(folder):
    write_some(folder)
    video = opened(folder)
    video.finish(END)
    video.close()
    assert opened(folder).finished == END


def test_frames_that_are_kept_again_take_the_place_of_the_first(folder):
    write_some(folder)
    video = opened(folder)
    video.append(rows(1, 2), [1.5], [1], first_row=1, first_frame=1)
    video.close()
    again = opened(folder)
    assert again.embeddings.tolist() == [*rows(2)[:1].tolist(), *rows(1, 2).tolist()]
    assert (again.times_seconds, again.rows) == ([0.25, 1.5], [0, 1])


def test_every_cut_keeps_the_pieces_before_it_and_can_be_gone_on_from(folder):
    path = write_some(folder)
    whole = path.read_bytes()
    seen = set()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        video = opened(folder)
        num_rows = len(video.embeddings)
        seen.add(num_rows)
        assert video.rows == [0, 1, 1, 1, 2][: {0: 0, 2: 2, 3: 5}[num_rows]]
        video.append(rows(1, 3), [9.0], [num_rows], first_row=num_rows, first_frame=5)
        video.close()
        assert opened(folder).embeddings[-1].tolist() == rows(1, 3)[0].tolist()
    assert seen == {0, 2, 3}


@pytest.mark.parametrize(
    ("signature", "settings"),
    [
        (replace(STAMP, content_sha256="ab" * 16 + "cd" * 16), "{}"),
        (STAMP, '{"fingerprint": "another"}'),
    ],
)
def test_frames_of_another_content_or_other_settings_are_not_taken_up(folder, signature, settings):
    path = write_some(folder)
    assert len(opened(folder, signature, settings).embeddings) == 0
    assert not path.exists()


def test_frames_stay_until_the_video_they_belong_to_is_saved(folder):
    videos = UnfinishedVideos(folder, settings="{}", embedding_dim=3)
    for signature in (STAMP, replace(STAMP, content_sha256="cd" * 32)):
        videos.open(signature).append(rows(1), [0.25], [0], first_row=0, first_frame=0)
    videos.add(STAMP)
    assert len(videos.contents()) == 2
    videos.save()
    assert videos.contents() == ["cd" * 16]
    videos.close()


# Runs that come back to them


class KilledError(Exception):
    """Stands for the death of the process: nothing is done after it but closing files."""


@pytest.fixture
def videos(write_video, tmp_path):
    """Twelve films of 8 to 30 seconds whose colours change."""
    colours = [RED, GREEN, BLUE]
    for i in range(12):
        film = [colours[(i + n // (3 + i % 4)) % 3] for n in range(16 + 4 * i)]
        write_video(f"{i:02d}.mp4", film, fps=2, size=(16, 16), folder=tmp_path / "videos")
    return tmp_path / "videos"


@pytest.fixture
def new_index(tmp_path, colour_model, colour_settings):
    def new_index(name, segments=SCENES):
        encoder = WatchedEncoder(colour_model, device="cpu", precision="fp32")
        encoder.batch_frames = 3
        return ColourIndex(tmp_path / name, replace(colour_settings, segments=segments), encoder)

    return new_index


def stored(index):
    """All that an index holds, by key."""
    catalogue = Catalogue(index.folder / CATALOGUE_NAME, read_only=True)
    parts = EmbeddingParts(index.folder / "embeddings", embedding_dim=3)
    found = {}
    for record in catalogue.scan():
        values = replace(record, id=-1, location=None)
        found[record.key] = values, parts.read_run(*record.location, record.num_rows)
    catalogue.close()
    return found


def assert_same_index(index, whole):
    found, expected = stored(index), stored(whole)
    assert found.keys() == expected.keys()
    for key, (record, embeddings) in expected.items():
        got, got_embeddings = found[key]
        for name in ("spans", "frame_times"):
            np.testing.assert_array_equal(getattr(got, name), getattr(record, name))
        nothing = {"spans": np.empty((0, 2)), "frame_times": np.empty(0)}
        assert (
            vars(replace(got, **nothing)).items()
            >= {
                name: value
                for name, value in vars(replace(record, **nothing)).items()
                if name not in nothing
            }.items()
        )
        np.testing.assert_allclose(got_embeddings, embeddings, atol=1e-3)


def kill_after(index, num_batches, videos, **options):
    """A run that dies when so many batches have been sent to the encoder; their frames."""
    num_frames = count = 0

    def die(pixels):
        nonlocal num_frames, count
        if count == num_batches:
            raise KilledError
        count += 1
        num_frames += len(pixels)

    index.encoder.before_encoding = die
    with pytest.raises(KilledError):
        index.update(videos, **options)
    del index.encoder.before_encoding
    return num_frames


def count_frames(index):
    sizes = []
    index.encoder.before_encoding = lambda pixels: sizes.append(len(pixels))
    return sizes


@pytest.mark.parametrize("dedup_threshold", [0.0, 20.0])
@pytest.mark.parametrize("num_batches", [1, 7, 20, 33])
def test_run_that_was_killed_goes_on_at_the_frame_where_it_was(
    new_index, videos, num_batches, dedup_threshold, monkeypatch
):
    monkeypatch.setattr(reelseek.indexing.pipeline, "_PATIENCE_SECONDS", 60)

    def pool(index):
        settings = FrameSettings(
            SAMPLER, index.encoder.preprocessing, dedup_threshold=dedup_threshold
        )
        return InProcessPool(settings)

    whole, broken = new_index("whole"), new_index("broken")
    sizes = count_frames(whole)
    whole.update(videos, pool=pool(whole))
    before = kill_after(broken, num_batches, videos, pool=pool(broken))
    assert before < sum(sizes)
    again = count_frames(broken)
    summary = broken.update(videos, pool=pool(broken))
    assert (summary.indexed + summary.unchanged, summary.searchable) == (12, 12)
    # Those that were sent to the encoder and had not come back, at most.
    in_flight = 3 * (2 * broken.encoder.num_parallel + 2)
    assert sum(sizes) <= before + sum(again) <= sum(sizes) + in_flight
    assert_same_index(broken, whole)
    assert list((broken.folder / "unfinished").iterdir()) == []


def test_run_that_is_killed_again_and_again_comes_to_its_end(new_index, videos):
    whole, broken = new_index("whole"), new_index("broken")
    sizes = count_frames(whole)
    whole.update(videos)
    total = 0
    for _ in range(4):
        total += kill_after(broken, 10, videos)
    again = count_frames(broken)
    broken.update(videos)
    in_flight = 3 * (2 * broken.encoder.num_parallel + 2)
    assert total + sum(again) <= sum(sizes) + 4 * in_flight
    assert_same_index(broken, whole)


def test_videos_that_wait_for_others_are_there_after_a_kill(new_index, videos, monkeypatch):
    """Scenes can be cut when 32 videos are there, or all of them."""
    counted = []
    monkeypatch.setattr(
        reelseek.indexing.building.run.Run,
        "_count",
        lambda run, *_, **__: counted.append(len(run._waiting)),
    )
    index = new_index("index")
    kill_after(index, 50, videos)
    num_counted = len(counted)
    assert num_counted > 3
    assert counted == [*range(1, num_counted + 1)]  # none of them is added
    summary = index.update(videos)
    assert summary.unchanged >= num_counted
    assert len(index.decoded) == summary.indexed == 12 - summary.unchanged


def test_frames_of_a_file_that_has_changed_are_not_taken_up(new_index, videos, write_video):
    whole, broken = new_index("whole"), new_index("broken")
    kill_after(broken, 2, videos)
    write_video("00.mp4", [BLUE] * 40, fps=2, size=(16, 16), folder=videos)
    broken.update(videos)
    whole.update(videos)
    assert_same_index(broken, whole)


def test_file_that_was_moved_meanwhile_is_gone_on_with(new_index, videos):
    index = new_index("index")
    before = kill_after(index, 4, videos)
    (videos / "00.mp4").rename(videos / "99.mp4")
    again = count_frames(index)
    index.update(videos)
    whole = new_index("whole")
    sizes = count_frames(whole)
    whole.update(videos)
    assert before + sum(again) <= sum(sizes) + 3 * (2 * index.encoder.num_parallel + 2)
    assert_same_index(index, whole)


def test_two_files_of_one_content_are_encoded_once(new_index, videos):
    (videos / "copy.mp4").write_bytes((videos / "03.mp4").read_bytes())
    index = new_index("index")
    summary = index.update(videos)
    assert (summary.indexed, summary.searchable) == (13, 13)
    assert sorted(index.decoded) == [f"{i:02d}.mp4" for i in range(12)]
    found = stored(index)
    assert (
        found["copy.mp4"][0].signature.content_sha256 == found["03.mp4"][0].signature.content_sha256
    )
    assert index.update(videos).unchanged == 13


def test_copies_of_a_broken_file_are_decoded_once(new_index, videos):
    for i in range(5):
        (videos / f"broken{i}.mp4").write_bytes(b"no video" * 100)
    index = new_index("index")
    summary = index.update(videos)
    assert (summary.indexed, summary.failed) == (12, 5)
    assert len([name for name in index.decoded if name.startswith("broken")]) == 1
    report = index.report()
    assert len({report[f"broken{i}.mp4"]["reason"] for i in range(5)}) == 1
    index.update(videos, retry_failed=True)
    assert len(index.decoded) == 1


def test_video_that_is_waiting_is_saved_against_a_power_loss_in_time(
    new_index, videos, monkeypatch
):
    synced = []
    monkeypatch.setattr(reelseek.indexing.writer, "SAVE_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(
        "indexing.store.unfinished.sync_new_folder", lambda folder, names: synced.append(set(names))
    )
    index = new_index("index")
    index.update(videos)
    assert max(map(len, synced)) >= 11


def test_frames_of_what_is_in_the_index_are_dropped(new_index, videos):
    index = new_index("index")
    index.update(videos)
    with IndexWriter(index.folder, index.settings) as writer:
        record = next(r for r in writer.catalogue.scan() if r.key == "00.mp4")
        kept = writer.unfinished.open(record.signature)
        kept.append(rows(1), [0.0], [0], first_row=0, first_frame=0)
        other = writer.unfinished.open(STAMP)
        other.append(rows(1), [0.0], [0], first_row=0, first_frame=0)
    with IndexWriter(index.folder) as writer:
        assert writer.unfinished.contents() == [STAMP.content_sha256[:32]]


@pytest.mark.parametrize("num_batches", [5, 25, 200])
def test_run_on_a_disk_that_fills_up_says_so_and_the_next_goes_on(
    new_index, videos, tmp_path, num_batches
):
    """While frames are encoded, or only when the index is published."""
    whole = new_index("whole")
    sizes = count_frames(whole)
    whole.update(videos)
    with disk_of(tmp_path / "disk", "3m") as disk:
        index = new_index("disk/index")
        before = []

        def fill_up(pixels):
            if len(before) == num_batches or sum(before) + len(pixels) == sum(sizes):
                leave_free(disk, 0)
            before.append(len(pixels))

        index.encoder.before_encoding = fill_up
        with pytest.raises(OSError) as full:
            index.update(videos)
        assert full.value.errno == errno.ENOSPC
        assert str(full.value.filename).startswith(str(index.folder))
        assert not list(index.folder.rglob("*.tmp"))
        (disk / "ballast").unlink()
        again = count_frames(index)
        summary = index.update(videos)
        assert (summary.indexed + summary.unchanged, summary.searchable) == (12, 12)
        # What came back from the encoder when there was no room is encoded again.
        in_flight = 3 * (2 * index.encoder.num_parallel + 2)
        assert sum(before) + sum(again) <= sum(sizes) + in_flight
        assert_same_index(index, whole)


def test_settings_are_told_apart(new_index, videos):
    """As after the folder was emptied by hand but for the frames."""
    index = new_index("index")
    kill_after(index, 3, videos)
    for path in index.folder.iterdir():
        if path.name != "unfinished":
            path.unlink()
    values = json.loads(json.dumps(index.settings.sampling)) | {"max_frames": 7}
    index.settings = replace(index.settings, sampling=values)
    sizes = count_frames(index)
    index.update(videos)
    whole = new_index("whole")
    expected = count_frames(whole)
    whole.update(videos)
    assert sum(sizes) == sum(expected)
