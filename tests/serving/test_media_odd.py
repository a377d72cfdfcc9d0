"""Every odd video from which a frame decodes shows a thumbnail, and plays or gives a clip."""

import csv

import pytest

from benchmarks.serving_odd import cut_all


@pytest.mark.shared
def test_every_odd_video_is_shown(shared_data, tmp_path):
    folder = shared_data / "odd"
    if not folder.is_dir():
        pytest.skip(f"the odd videos are not there: {folder}")
    results = cut_all(folder, cache=tmp_path)
    shown = {name: found for name, found in results.items() if found.shows}
    with (folder / "MANIFEST.tsv").open() as file:
        decodable = {
            row["file"]
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if int(row["decodable_frames_ffmpeg9(max 400)"] or 0)
        }
    assert len(decodable) > 100
    assert decodable - shown.keys() == set()
    assert [n for n, found in shown.items() if not (found.plays or found.has_clip)] == []
