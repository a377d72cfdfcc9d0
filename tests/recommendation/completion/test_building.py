"""From a log of events to a model in a folder, and to what a service suggests."""

import json
import os
import threading
import time

import numpy as np
import pytest

from reelseek.ranking.suggestions import Suggester
from reelseek.recommendation.completion import __main__ as program
from reelseek.recommendation.completion.block_list import BlockList
from reelseek.recommendation.completion.building import BuildSettings, build_model
from reelseek.recommendation.completion.mapped_tensors import map_tensors
from reelseek.recommendation.completion.model_files import (
    MANIFEST_NAME,
    open_model,
    save_model,
)
from reelseek.recommendation.completion.search_history import read_history
from reelseek.recommendation.events.log import EventLog
from reelseek.serving import past_queries
from reelseek.serving.past_queries import ServedCompletion
from reelseek.serving.suggestions import Suggestions
from tests.command_lines import run_in_this_process
from tests.recommendation.completion.asked_events import ask, many

ASKED = [
    *many("dog on a beach", 6), *many("dog in snow", 5), *many("dog secret of four", 4),
    *many("badword dog", 9), *many("dog on a beach", 1, name="other"),
]  # fmt: skip


@pytest.fixture
def log(tmp_path):
    log = EventLog(tmp_path / "events")
    ask(log, ASKED)
    yield log
    log.close()


def build(log, **options):
    settings = BuildSettings(
        **{"min_users": 5, "block_list": BlockList(["badword"]), "trees": False, **options}
    )
    return build_model(read_history(log, max_queries_per_user=100), settings)


@pytest.fixture
def folder(log, tmp_path):
    folder = tmp_path / "events" / "completion"
    save_model(folder, build(log)[0])
    return folder


def test_only_what_enough_users_asked_is_there(log, folder):
    _, figures = build(log)
    assert (figures["too_few_users"], figures["blocked"], figures["kept"]) == (1, 1, 2)
    model = open_model(folder)
    assert model.completer.best("dog", 10)[:2] == ["dog on a beach", "dog in snow"]
    for prefix in ("d", "dog s", "dog secret", "bad", "badword ", "my dog secret o", "secr"):
        found = " ".join(model.completer.best(prefix, 10))
        assert "badword" not in found
        assert "secret" not in found.replace(prefix, "")
    # Nor is it in the files.
    for path in folder.rglob("*"):
        assert path.is_dir() or b"secret" not in path.read_bytes()


def test_what_is_asked_next_is_there_for_enough_users(log, folder):
    model = open_model(folder)
    assert model.also_searched.after("dog on a beach", 5) == ["dog in snow"]
    assert model.also_searched.after("dog in snow", 5) == []


def test_only_what_has_an_answer(log):
    _, figures = build(log, has_answer=lambda query: "snow" in query)
    assert (figures["no_answer"], figures["kept"]) == (1, 1)


def test_meaning_finds_what_no_session_has(log):
    rows = {"dog in snow": [1.0, 0.0], "dog on a beach": [0.9, 0.4]}

    def encode(queries):
        array = np.array([rows[query] for query in queries], np.float32)
        return array / np.linalg.norm(array, axis=1, keepdims=True)

    built, _ = build(log, encode=encode)
    assert (built.arrays["next_ids"][:, 0] >= 0).all()


@pytest.mark.parametrize("num_users", [0, 1])
def test_logs_of_nobody_and_of_one_user(tmp_path, num_users):
    log = EventLog(tmp_path / "few")
    ask(log, many("dog", num_users))
    built, figures = build(log)
    assert figures["kept"] == 0
    save_model(tmp_path / "model", built)
    model = open_model(tmp_path / "model")
    assert model.completer.best("d", 5) == [] and model.also_searched.after("dog", 5) == []


def test_arrays_lie_in_the_file(folder):
    (path,) = folder.glob("v-*/arrays.safetensors")
    from safetensors.numpy import load_file

    mapped = map_tensors(path)
    for name, array in load_file(path).items():
        np.testing.assert_array_equal(mapped[name], array)
        assert not mapped[name].flags.writeable
    for wrong in (b"", b"\xff" * 20, path.read_bytes()[:100], b"\x02" + b"\0" * 7 + b"[]"):
        other = path.with_name("wrong")
        other.write_bytes(wrong)
        with pytest.raises(ValueError):
            map_tensors(other)


def test_damaged_models_are_refused(folder):
    (version,) = folder.glob("v-*")
    for path in sorted(version.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ValueError, match=r"completion=.*the checksum of .*; build it again"):
            open_model(folder)
        path.write_bytes(content)
    open_model(folder)
    manifest = folder / MANIFEST_NAME
    for content in ("", "[]", "{}", '{"format": 2}', '{"format": 1}', "{" * 100):
        manifest.write_text(content)
        with pytest.raises(ValueError, match="build it again"):
            open_model(folder)
    with pytest.raises(ValueError, match="build it again"):
        open_model(folder / "none")


def test_names_in_a_manifest_lead_nowhere(folder):
    manifest = folder / MANIFEST_NAME
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "version": "../v-x"}))
    with pytest.raises(ValueError, match="name of its version"):
        open_model(folder)


def test_a_full_disk_leaves_the_version_before(folder, log, monkeypatch):
    before = open_model(folder).version

    def fail(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("reelseek.recommendation.completion.model_files.write_atomically", fail)
    with pytest.raises(OSError):
        save_model(folder, build(log)[0])
    assert open_model(folder).version == before
    assert len(list(folder.glob("v-*"))) == 1


def test_old_versions_go(folder, log):
    for _ in range(3):
        save_model(folder, build(log)[0])
        time.sleep(0.01)
    assert len(list(folder.glob("v-*"))) == 2


class TestServed:
    @pytest.fixture(autouse=True)
    def at_once(self, monkeypatch):
        monkeypatch.setattr(past_queries, "_LOOK_EVERY_SECONDS", 0.0)

    def suggestions(self, folder, log):
        found = Suggestions(folder, log)
        found._suggester = Suggester(titles={"Badword film": 1, "Dogs": 1}, tags={}, names={})
        found._follow = lambda searcher: None
        return found

    def texts(self, suggestions, prefix):
        return [each.text for each in suggestions.suggest(None, prefix, 8)]

    def test_new_versions_without_a_restart(self, log, tmp_path):
        folder = tmp_path / "model"
        suggestions = self.suggestions(folder, log)
        assert self.texts(suggestions, "dog") == ["Dogs"]
        save_model(folder, build(log)[0])
        assert self.texts(suggestions, "dog")[:2] == ["dog on a beach", "Dogs"]
        ask(log, many("dog at night", 20))
        save_model(folder, build(log)[0])
        assert "dog at night" in self.texts(suggestions, "dog")
        found = [each.text for each in suggestions.after("Dog on a BEACH", 5)]
        assert found == ["dog in snow", "dog at night"]

    def test_titles_are_blocked_too(self, folder, log):
        assert self.texts(self.suggestions(folder, log), "bad") == []
        assert self.texts(self.suggestions(None, None), "bad") == ["Badword film"]

    def test_a_deletion_counts_at_once(self, folder, log):
        suggestions = self.suggestions(folder, log)
        assert "dog in snow" in self.texts(suggestions, "dog in")
        log.delete_user("u3")
        assert self.texts(suggestions, "dog in") == []
        assert "dog on a beach" in self.texts(suggestions, "dog")
        log.delete_user("u2")
        log.delete_user("u1")
        assert self.texts(suggestions, "dog") == ["Dogs"]
        # The next build knows who is left.
        save_model(folder, build(log)[0])
        assert self.texts(suggestions, "dog") == ["Dogs"]

    def test_a_damaged_version_is_not_used(self, folder, log):
        served = ServedCompletion(folder, log)
        before = served.current()
        assert before is not None
        (folder / MANIFEST_NAME).write_text("{}")
        assert served.current().model is before.model

    def test_threads_share_it(self, folder, log):
        served = ServedCompletion(folder, log)
        served.current()
        failures = []

        def complete():
            for _ in range(50):
                try:
                    assert served.current().best("dog", 5)
                except Exception as error:
                    failures.append(error)

        threads = [threading.Thread(target=complete) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            save_model(folder, build(log)[0])
        for thread in threads:
            thread.join()
        assert failures == []


def test_the_command(log, tmp_path):
    blocked = tmp_path / "blocked.txt"
    blocked.write_text("badword\n")
    done = run_in_this_process(
        program, "completion", f"events={tmp_path / 'events'}", f"block_list={blocked}",
        "text_model=null", "trees=false",
    )  # fmt: skip
    assert (done.metrics["kept"], done.metrics["searches"]) == (2, len(ASKED))
    model = open_model(tmp_path / "events" / "completion")
    assert model.version == done.metrics["version"]
    again = run_in_this_process(
        program, "completion", f"events={tmp_path / 'events'}", f"output={tmp_path / 'other'}",
        "text_model=null", "trees=false", "min_users=4",
    )  # fmt: skip
    assert again.metrics["kept"] == 4


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["events=none"], "events=none: no such folder"),
        (["events=.", "block_list=none"], "block_list=none: cannot be read"),
        (["events=.", "min_users=0"], "min_users=0: must be 1 to 255"),
        (["events=.", "output=/dev/null/x"], "output=/dev/null/x"),
    ],
)
def test_mistakes_are_one_line(arguments, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_in_this_process(program, "completion", *arguments)
    assert done.returncode == 2
    assert reason in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert os.listdir(tmp_path) == []
