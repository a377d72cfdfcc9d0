"""Files that are being written while the indexer looks at them."""

import os
import time

from tests.conftest import COLOURS


def test_file_that_was_just_written_is_left_to_the_next_run(colour_index, write_video, tmp_path):
    folder = tmp_path / "films"
    old = write_video("old.mp4", [COLOURS["red"]] * 5, folder=folder)
    os.utime(old, (time.time() - 100, time.time() - 100))
    write_video("new.mp4", [COLOURS["green"]] * 5, folder=folder)
    summary = colour_index.update(folder, settle_seconds=50)
    assert (summary.indexed, summary.settling) == (1, 1)
    summary = colour_index.update(folder, settle_seconds=0)
    assert (summary.indexed, summary.unchanged, summary.settling) == (1, 1, 0)
    summary = colour_index.update(folder, settle_seconds=50)  # it looks the same
    assert (summary.unchanged, summary.settling) == (2, 0)
    write_video("new.mp4", [COLOURS["blue"]] * 5, folder=folder)
    summary = colour_index.update(folder, settle_seconds=50)
    assert (summary.unchanged, summary.settling, summary.searchable) == (2, 1, 2)
    ahead = time.time() + 3600  # the clock of a network drive
    os.utime(folder / "new.mp4", (ahead, ahead))
    assert colour_index.update(folder, settle_seconds=50).indexed == 1
