"""The simulated power loss: it sees every write, and it loses what may be lost and only that."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.command_lines import PROJECT
from tests.indexing.power_loss import (
    Operation,
    build_shim,
    crash_state,
    differences,
    mark,
    marks,
    read_trace,
    trace,
)

PYTHON_WRITES = """
import os, shutil, subprocess, sys, threading
from pathlib import Path
with open("text", "w") as file:
    for number in range(3000):
        file.write(f"{number}\\n")
with open("text", "r+b") as file:
    file.seek(5000)
    file.write(b"middle")
    file.truncate(9000)
with open("text", "a") as file:
    file.write("end")
with open("before", "w") as file:
    file.write("shorter")
os.unlink("gone")
descriptor = os.open("numbers", os.O_RDWR | os.O_CREAT)
os.pwrite(descriptor, b"sparse", 100_000)
os.writev(descriptor, [b"one", b"", b"two"])
os.pwritev(descriptor, [b"three", b"four"], 50)
os.posix_fallocate(descriptor, 0, 200_000)
copy = os.dup(descriptor)
os.close(descriptor)
os.write(copy, b"through a duplicate")
os.close(copy)
os.truncate("numbers", 150_000)
shutil.copyfile("text", "sent")
with open("text", "rb") as source, open("ranged", "wb") as copy:
    os.copy_file_range(source.fileno(), copy.fileno(), 4000, 10)
Path("a/b").mkdir(parents=True)
Path("a/b/file").write_bytes(b"deep")
os.replace("a/b", "moved")
os.rename("moved/file", "moved/other")
os.rmdir("a")
os.link("text", "linked")
here = os.open(".", os.O_RDONLY)
os.open("relative", os.O_WRONLY | os.O_CREAT, dir_fd=here)
os.replace("relative", "renamed", src_dir_fd=here, dst_dir_fd=here)
def write(name):
    with open(name, "wb", buffering=0) as file:
        for number in range(200):
            file.write(bytes([number]) * number)
threads = [threading.Thread(target=write, args=[f"thread{i}"]) for i in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
if os.fork() == 0:
    write("forked")
    os._exit(0)
os.wait()
subprocess.run([sys.executable, "-c", "open('child', 'w').write('started')"], check=True)
"""

LIBRARY_WRITES = """
import sqlite3
import faiss, filelock
import numpy as np
rows = np.random.default_rng(0).random((3000, 16), dtype=np.float32)
with filelock.FileLock("lock"):
    np.save("saved.npy", rows)
    with open("appended.npy", "wb") as file:
        file.write(b"before")
        np.save(file, rows)
        file.write(b"after")
    np.savez("saved.npz", rows=rows)
    rows.tofile("raw")
    with open("text", "w") as file:
        rows[:9].tofile(file, sep=" ")
    index = faiss.index_factory(16, "IVF8,Flat")
    index.train(rows)
    index.add(rows)
    faiss.write_index(index, "index.faiss")
    for mode in ["wal", "delete", "truncate"]:
        database = sqlite3.connect(f"{mode}.sqlite", isolation_level=None)
        database.execute(f"PRAGMA journal_mode = {mode}")
        database.execute("PRAGMA wal_autocheckpoint = 5")
        database.execute("CREATE TABLE numbers (number, filling)")
        for number in range(20):
            database.execute("INSERT INTO numbers VALUES (?, zeroblob(3000))", (number,))
        database.execute("DELETE FROM numbers WHERE number < 9")
        database.execute("VACUUM")
        if mode == "wal":
            other = sqlite3.connect("wal.sqlite")  # leaves the -wal and the -shm there
            other.execute("BEGIN").execute("SELECT count(*) FROM numbers")
            database.execute("INSERT INTO numbers VALUES (1, 1)")
import os
os._exit(0)
"""

COMMITS = """
import sqlite3, sys
from tests.indexing.power_loss import mark
mode, synchronous = sys.argv[1:]
database = sqlite3.connect("rows.sqlite", isolation_level=None)
database.execute(f"PRAGMA journal_mode = {mode}")
database.execute(f"PRAGMA synchronous = {synchronous}")
database.execute("PRAGMA wal_autocheckpoint = 8")
database.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY, filling)")
for number in range(25):
    database.execute("INSERT INTO numbers VALUES (?, zeroblob(?))", (number, 700 * (number % 7)))
    mark(str(number))
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def run(shim, tmp_path):
    """Runs Python code in a traced folder and gives what it did there."""

    def run(code, *arguments, returncode=0):
        folder, trace_path = tmp_path / "folder", tmp_path / "trace"
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", f"import os; os.chdir({str(folder)!r})\n{code}"]
        env = {"PYTHONPATH": str(PROJECT)}
        process = trace([*command, *arguments], folder, trace_path=trace_path, shim=shim, env=env)
        assert process.returncode == returncode, process.stderr
        return read_trace(trace_path)

    return run


def contents(folder):
    """The content of each file by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def states(operations, folder, *, num_states, upto=None, **options):
    """What different disks hold, by default at a random moment."""
    random = np.random.default_rng(0)
    for number in range(num_states):
        last = int(random.integers(len(operations))) if upto is None else upto
        crash_state(operations, last, folder / str(number), random, **options)
        yield last, folder / str(number)


def held(operations, folder, **options):
    """The different contents that a disk can hold after all of these operations."""
    last = len(operations) - 1
    made = states(operations, folder, num_states=300, upto=last, **options)
    return [contents(state) for _, state in made]


def written(path, inode, data, *, offset=0):
    return Operation("write", path, inode, offset, offset + len(data), data)


ROOT = Operation("folder", "", 1)
SYNCED_ROOT = Operation("fsync", "", 1)


@pytest.mark.parametrize("code", [PYTHON_WRITES, LIBRARY_WRITES], ids=["python", "libraries"])
def test_replaying_a_trace_gives_the_folder(run, tmp_path, code):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "before").write_bytes(b"longer than what follows")
    (folder / "gone").write_bytes(b"")
    (folder / "empty").mkdir()
    operations = run(code)
    assert len(contents(folder)) > 10
    assert differences(operations, folder) == []
    mapped = {each.path for each in operations if each.kind == "mmap"}
    assert all(path.endswith("-shm") for path in mapped)


def test_trace_goes_on_with_the_next_process(run, tmp_path):
    run("open('first', 'w').write('1')")
    operations = run("open('second', 'w').write('2'); os.replace('first', 'third')")
    assert differences(operations, tmp_path / "folder") == []
    assert {each.kind for each in operations} == {"folder", "create", "write", "rename"}


def test_killed_process_leaves_its_whole_trace(run, tmp_path):
    code = "file = open('file', 'wb', buffering=0)\nfor i in range(500): file.write(b'line')\n"
    operations = run(f"{code}os.kill(os.getpid(), 9)", returncode=-9)
    assert differences(operations, tmp_path / "folder") == []
    assert sum(len(each.data) for each in operations) == 2000


def test_difference_is_told(run, tmp_path):
    operations = run("open('file', 'w').write('1')")
    (tmp_path / "folder" / "file").write_text("2")
    (tmp_path / "folder" / "other").write_text("3")
    assert differences(operations, tmp_path / "folder") == ["file", "other"]


def test_file_from_elsewhere_is_refused(run, tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"content that the trace does not show")
    with pytest.raises(ValueError, match="elsewhere"):
        run("os.rename('../elsewhere', 'here')")


def test_trace_within_the_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="put it elsewhere"):
        trace(["true"], tmp_path, trace_path=tmp_path / "trace", shim=tmp_path / "shim")


def test_mark_does_nothing_where_nothing_is_traced():
    mark("not traced")


def test_write_without_a_sync_is_lost_or_kept(run, tmp_path):
    code = "file = open('file', 'wb', buffering=0); file.write(b'new')\n"
    operations = run(f"{code}os.fsync(os.open('.', os.O_RDONLY))")
    assert held(operations, tmp_path / "drop", mode="drop")[0] == {"file": b""}
    assert held(operations, tmp_path / "keep", mode="keep")[0] == {"file": b"new"}
    found = {state["file"] for state in held(operations, tmp_path / "random")}
    assert found == {b"", b"new", b"\0\0\0"}


def test_synced_write_is_never_lost(run, tmp_path):
    code = "file = open('file', 'wb', buffering=0); file.write(b'new'); os.fsync(file.fileno())\n"
    operations = run(f"{code}os.fsync(os.open('.', os.O_RDONLY)); file.write(b'er')")
    for state in held(operations, tmp_path / "states"):
        assert state["file"].startswith(b"new")


def test_published_file_is_there_whole_once_the_folder_is_synced(run, tmp_path):
    operations = run(
        "from tests.indexing.power_loss import mark\n"
        "folder = os.open('.', os.O_RDONLY)\n"
        "for content in [b'old' * 5000, b'new' * 9000]:\n"
        "    with open('file.tmp', 'wb', buffering=0) as file:\n"
        "        file.write(content)\n"
        "        os.fsync(file.fileno())\n"
        "    os.replace('file.tmp', 'file')\n"
        "    os.fsync(folder)\n"
        "    mark(content[:3].decode())\n"
    )
    wholes, seen = {"none": None, "old": b"old" * 5000, "new": b"new" * 9000}, set()
    for last, state in states(operations, tmp_path / "states", num_states=150):
        reported = ["none", *(text for number, text in marks(operations) if number <= last)][-1]
        content = contents(state).get("file")
        possible = list(wholes.values())[list(wholes).index(reported) :]
        assert content in possible
        seen.add((reported, content))
    assert {("none", None), ("old", wholes["old"]), ("old", wholes["new"])} <= seen


def test_rename_without_a_sync_of_the_folder_may_be_lost(run, tmp_path):
    code = "file = open('new', 'wb', buffering=0); file.write(b'1'); os.fsync(file.fileno())\n"
    sync = "os.fsync(os.open('.', os.O_RDONLY)); "
    operations = run(f"{code}{sync}os.replace('new', 'old'); os.unlink('old')")
    found = held(operations[:-1], tmp_path / "renamed")
    assert {name for state in found for name in state} == {"new", "old"}
    assert all(len(state) == 1 for state in found)
    assert {} in held(operations, tmp_path / "deleted")


def test_changes_of_a_folder_are_kept_in_order(tmp_path):
    operations = [ROOT, *(Operation("create", name, 2 + i) for i, name in enumerate("abcd"))]
    found = {"".join(sorted(state)) for state in held(operations, tmp_path)}
    assert found == {"", "a", "ab", "abc", "abcd"}


def test_sync_of_a_file_keeps_its_name_only_where_that_is_lenient(tmp_path):
    created = [Operation("create", name, 2 + i) for i, name in enumerate(["first", "a", "last"])]
    operations = [ROOT, *created, written("a", 3, b"1"), Operation("fsync", "a", 3)]
    assert {} in held(operations, tmp_path / "strict")
    found = held(operations, tmp_path / "lenient", lenient_create=True)
    assert {len(state) for state in found} == {2, 3}
    assert all(state["first"] == b"" and state["a"] == b"1" for state in found)


def test_files_of_a_folder_are_lost_with_its_name(tmp_path):
    content = [Operation("create", "a/b", 3), written("a/b", 3, b"1"), Operation("fsync", "a/b", 3)]
    operations = [ROOT, Operation("mkdir", "a", 2), *content, Operation("fsync", "a", 2)]
    assert {} in held(operations, tmp_path / "not synced")
    found = held([*operations, SYNCED_ROOT], tmp_path / "synced")
    assert all(state == {"a/b": b"1"} for state in found)


def test_blocks_of_a_write_reach_the_disk_one_by_one(tmp_path):
    operations = [ROOT, Operation("present", "a", 2, data=b"o" * 8192)]
    operations += [written("a", 2, b"n" * 8192, offset=4096)]
    found = [state["a"] for state in held(operations, tmp_path)]
    assert {len(content) for content in found} == {8192, 12288}
    blocks = {content[i : i + 512] for content in found for i in range(0, len(content), 512)}
    assert blocks == {b"o" * 512, b"n" * 512, b"\0" * 512}
    assert all(content[:4096] == b"o" * 4096 for content in found)
    assert (b"o" * 8192 + b"n" * 4096) in found
    assert any(len(content) == 8192 and b"n" in content for content in found)


def test_truncated_file_has_its_old_size_or_its_new_one(tmp_path):
    operations = [ROOT, Operation("present", "a", 2, data=b"o" * 3000)]
    operations += [Operation("truncate", "a", 2, size=1000)]
    found = {state["a"] for state in held(operations, tmp_path)}
    assert {b"o" * 3000, b"o" * 1000} <= found
    assert all(content[:1000] == b"o" * 1000 for content in found)


def test_what_was_there_before_is_safe(tmp_path):
    operations = [ROOT, Operation("present", "a", 2, data=b"1"), Operation("create", "b", 3)]
    crash_state(operations, -1, tmp_path, np.random.default_rng(0))
    assert contents(tmp_path) == {"a": b"1"}


def test_state_is_written_into_an_empty_folder_only(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is not empty"):
        crash_state([ROOT], 0, tmp_path, np.random.default_rng(0))
    with pytest.raises(ValueError, match="mode='some'"):
        crash_state([ROOT], 0, tmp_path / "new", np.random.default_rng(0), mode="some")


def recovered_rows(folder: Path) -> set[str] | None:
    """The rows that SQLite finds after the crash, or None where the file is damaged."""
    if not (folder / "rows.sqlite").exists():
        return set()
    with closing(sqlite3.connect(folder / "rows.sqlite")) as database:
        try:
            database.execute("PRAGMA synchronous = OFF")
            if database.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                return None
            return {str(number) for (number,) in database.execute("SELECT number FROM numbers")}
        except sqlite3.OperationalError as error:
            return set() if "no such table" in str(error) else None
        except sqlite3.DatabaseError:
            return None


@pytest.mark.parametrize(
    ("mode", "synchronous", "max_num_lost"),
    [
        ("wal", "FULL", 0),
        ("delete", "EXTRA", 0),
        # The journal comes back with its name: https://sqlite.org/pragma.html#pragma_synchronous
        ("delete", "FULL", 1),
        ("wal", "NORMAL", 25),
        ("wal", "OFF", None),
        ("delete", "OFF", None),
    ],
)
def test_sqlite_keeps_what_it_promises(run, tmp_path, mode, synchronous, max_num_lost):
    """Against SQLite's documentation: what is lost at most, and None where it may be damaged."""
    operations = run(COMMITS, mode, synchronous)
    assert differences(operations, tmp_path / "folder") == []
    assert len(marks(operations)) == 25
    lost = []
    for last, state in states(operations, tmp_path / "states", num_states=100):
        reported = {text for number, text in marks(operations) if number <= last}
        rows = recovered_rows(state)
        lost.append(None if rows is None else len(reported - rows))
    if max_num_lost is None:
        assert any(number != 0 for number in lost)
    else:
        assert None not in lost
        assert max(lost) <= max_num_lost
        assert (max(lost) > 0) == (max_num_lost > 0)


def test_sqlite_syncs_the_folder_after_it_made_or_deleted_a_journal(run):
    """What the simulation may ask of a process, since SQLite does it."""
    operations = run(COMMITS, "delete", "EXTRA")
    kinds = [
        {"": "folder ", "rows.sqlite": "database "}.get(each.path, "journal ") + each.kind
        for each in operations
        if each.kind not in ("mark", "truncate")
    ]
    commits = "|".join(kinds).split("journal create")[2:]
    assert len(commits) == 25
    for commit in commits:
        journal, database = commit.split("|database write", 1)
        assert "journal fsync|folder fsync" in journal
        assert "database fsync|journal unlink|folder fsync" in database
