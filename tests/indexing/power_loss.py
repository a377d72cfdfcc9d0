"""A simulated power loss: what a disk could hold of the files that a process wrote.

`trace` runs a command beneath a shim, power_loss.c, that logs every change of a folder's files.
`crash_state` then makes a folder as the disk could hold it if the power had failed right after one
of these operations. This is the method of ALICE (Pillai et al., "All File Systems Are Not Created
Equal", OSDI 2014). What is promised, and all that is:

- The data and the size of a file are safe once `fsync` or `fdatasync` of it returned. Of what came
  later the disk may hold nothing, all, the first few operations, or any mixture: each block of 512
  or 4096 bytes as it was after any of these operations, and the size likewise; a block that the
  size reaches and no data did is zero. Blocks are not torn, and others are not damaged.
- The entries of a folder (creation, rename, deletion) are safe once the folder was synced. Of the
  later ones the disk holds the first few, in order. A rename within a folder is atomic; one across
  folders is an addition to one and, independently, a removal from the other.
- Syncing a file does not make its own entry safe, unless `lenient_create`: then it makes safe its
  folder's changes up to the latest of that file's name, as the journals of ext4, XFS and Btrfs do.

SQLite asks for no more (https://sqlite.org/atomiccommit.html, section 2, with powersafe overwrite):
it syncs the folder after it made a journal. After deleting one it does so in synchronous=EXTRA
only, so that with FULL and a rollback journal the last commit can be undone by a power loss.

What was there before is safe. Writes through mappings are not seen: of SQLite's files that is
the `-shm` alone, which is made anew after a crash.
"""

import functools
import os
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

_FOLDER_VARIABLE, _TRACE_VARIABLE = "POWER_LOSS_FOLDER", "POWER_LOSS_TRACE"
_HEADER = struct.Struct("=IIQqqIIQ")
_MAGIC = 0x504F5752
_KINDS = {"C": "create", "D": "mkdir", "W": "write", "T": "truncate", "F": "fsync", "R": "rename"}
_KINDS |= {"U": "unlink", "L": "link", "M": "mmap", "K": "mark", "P": "present", "Q": "folder"}


@dataclass(frozen=True)
class Operation:
    """One record of a trace.

    Attributes:
        kind: `create`, `mkdir`, `write`, `truncate` (any change of size), `fsync` (of a file or a
            folder), `rename`, `unlink` (or rmdir), `link`, `mmap`, `mark`; and for what was there
            at the start `present` (a file) and `folder`.
        path: relative to the traced folder, which itself is "".
        inode: what a `write`, `truncate` or `fsync` applies to, whatever its name is by then.
        offset: where the data were written, in bytes.
        size: the size of the file after the operation, in bytes.
        data: what was written, or the text of a mark.
        target: the new path of a `rename` or `link`.
    """

    kind: str
    path: str
    inode: int = 0
    offset: int = 0
    size: int = 0
    data: bytes = field(default=b"", repr=False)
    target: str = ""


def build_shim(folder: Path) -> Path:
    """Compiles the shim into this folder, or skips the test where that is not possible."""
    compiler = shutil.which("cc")
    if platform.libc_ver()[0] != "glibc" or sys.maxsize < 2**32 or compiler is None:
        pytest.skip("tracing needs 64-bit Linux with glibc and a C compiler")
    shim = folder / "power_loss.so"
    flags = ["-O1", "-Wall", "-U_FORTIFY_SOURCE", "-shared", "-fPIC", "-pthread"]
    subprocess.run(
        [compiler, *flags, "-o", shim, Path(__file__).with_suffix(".c"), "-ldl"], check=True
    )
    probe, trace_path = folder / "probe", folder / "probe.trace"
    probe.mkdir()
    script = f"open({str(probe / 'file')!r}, 'w').close()"
    trace([sys.executable, "-c", script], probe, trace_path=trace_path, shim=shim)
    if "create" not in [operation.kind for operation in read_trace(trace_path)]:
        pytest.skip("LD_PRELOAD is ignored here")
    return shim


def trace(
    command: Sequence[str],
    folder: Path,
    *,
    trace_path: Path,
    shim: Path,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command and logs what it, and what it starts, changes beneath a folder.

    Args:
        trace_path: outside of the folder. Where it exists the trace goes on; nothing else may have
            changed the folder in between.
        env: variables in addition to those of this process.
    """
    folder = folder.resolve()
    if trace_path.resolve().is_relative_to(folder):
        raise ValueError(f"trace_path={trace_path} lies in the traced {folder}; put it elsewhere")
    if not trace_path.exists():
        trace_path.write_bytes(b"".join(map(_pack, _present(folder))))
    variables = {**os.environ, **(env or {}), "LD_PRELOAD": str(shim.resolve())}
    variables |= {_FOLDER_VARIABLE: str(folder), _TRACE_VARIABLE: str(trace_path.resolve())}
    return subprocess.run(command, env=variables, capture_output=True, text=True)


def mark(text: str) -> None:
    """Notes in the trace of the process that calls this what it has reported by now."""
    path = os.environ.get(_TRACE_VARIABLE)
    if path is not None:
        with open(path, "ab", buffering=0) as file:
            file.write(_pack(Operation("mark", "", data=text.encode())))


def marks(operations: Sequence[Operation]) -> list[tuple[int, str]]:
    """The number of the operation and the text of each mark."""
    return [(i, each.data.decode()) for i, each in enumerate(operations) if each.kind == "mark"]


def read_trace(path: Path) -> list[Operation]:
    """Reads a trace, except a last record that a kill cut off.

    Raises:
        ValueError: the process did something that cannot be replayed.
    """
    operations = []
    with path.open("rb") as file:
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            magic, kind, inode, offset, size, *lengths = _HEADER.unpack(header)
            assert magic == _MAGIC, f"{path} is damaged before byte {file.tell()}"
            name, target, data = map(file.read, lengths)
            if len(name + target + data) < sum(lengths):
                break
            if chr(kind) not in _KINDS:
                raise ValueError(f"no replay of what changed {name!r} or {target!r}")
            paths = os.fsdecode(name), os.fsdecode(target)
            operations.append(
                Operation(_KINDS[chr(kind)], paths[0], inode, offset, size, data, paths[1])
            )
    return operations


def crash_state(
    operations: Sequence[Operation],
    upto: int,
    folder: Path,
    random: np.random.Generator,
    *,
    mode: str = "random",
    lenient_create: bool = False,
) -> None:
    """Writes into an empty folder what a disk could hold.

    Args:
        upto: the power failed right after the operation of this number.
        mode: `drop` everything that was not synced, `keep` all of it (as if the process was only
            killed), or, for each file and each folder by itself, at `random`.
        lenient_create: syncing a file makes its name safe too.
    """
    if mode not in ("drop", "keep", "random"):
        raise ValueError(f"mode={mode!r} is not one of drop, keep, random")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"folder={folder} is not empty; name another")
    num_before = sum(each.kind in ("present", "folder") for each in operations)
    disk = _Disk(operations[: max(num_before, upto + 1)], lenient_create=lenient_create)

    surviving_state = functools.cache(lambda node: _surviving_state(node, mode, random))

    def write(node: _Node, path: Path) -> None:
        state = surviving_state(node)
        if isinstance(state, bytearray):
            path.write_bytes(state)
        else:
            path.mkdir(exist_ok=True)
            for name, entry in state.items():
                write(entry, path / name)

    write(disk.root, folder)


def differences(operations: Sequence[Operation], folder: Path) -> list[str]:
    """Paths at which the folder is not what the whole trace leads to: none if all was seen."""
    with TemporaryDirectory() as replayed:
        draws = np.random.default_rng(0)
        crash_state(operations, len(operations), Path(replayed), draws, mode="keep")
        expected, actual = (
            {(each.path, each.kind, each.data) for each in _present(position)}
            for position in (Path(replayed), folder)
        )
    return sorted({path for path, _, _ in expected ^ actual if not path.endswith("-shm")})


class _Node:
    """A file or a folder: what of it is safe, and the changes since.

    The state of a file is a bytearray, changed by a `write` or `truncate`. That of a folder is a
    dictionary of nodes by name, changed by another one, with None for a name that goes.
    """

    def __init__(self, state: bytearray | dict) -> None:
        self.safe = state
        self.pending: list[Operation | dict] = []

    def after(self, num_changes: int | None = None) -> bytearray | dict:
        """The state if only these first changes (None: all) had reached the disk."""
        state = self.safe.copy()
        for change in self.pending[:num_changes]:
            _apply(change, state)
        return state

    def sync(self, num_changes: int | None = None) -> None:
        for change in self.pending[:num_changes]:
            _apply(change, self.safe)
        del self.pending[:num_changes]


def _apply(change: Operation | dict, state: bytearray | dict) -> None:
    if isinstance(change, dict):
        for name, node in change.items():
            state.pop(name, None)
            state.update({name: node} if node else {})
    elif change.kind == "truncate":
        del state[change.size :]
        state.extend(bytes(change.size - len(state)))
    else:
        state.extend(bytes(max(change.offset - len(state), 0)))
        state[change.offset : change.offset + len(change.data)] = change.data


class _Disk:
    """The nodes that a trace leads to, by inode."""

    def __init__(self, operations: Sequence[Operation], *, lenient_create: bool) -> None:
        self.root = _Node({})
        self._nodes: dict[int, _Node] = {}
        for operation in operations:
            if operation.kind in ("write", "truncate"):
                self._node(operation).pending.append(operation)
            elif operation.kind == "fsync":
                self._node(operation).sync()
                if lenient_create:
                    self._sync_names_of(self._node(operation))
            elif operation.kind not in ("mark", "mmap"):
                self._change_names(operation)

    def _change_names(self, operation: Operation) -> None:
        folder, name = self._locate(operation.path)
        if operation.kind == "unlink":
            folder.pending.append({name: None})
        elif operation.kind in ("rename", "link"):
            node = folder.after()[name]
            target_folder, target_name = self._locate(operation.target)
            removal = {name: None} if operation.kind == "rename" else {}
            if target_folder is folder:
                folder.pending.append({**removal, target_name: node})
            else:
                target_folder.pending.append({target_name: node})
                folder.pending.append(removal)
        elif operation.path == "":
            self._nodes[operation.inode] = self.root
        else:
            state = {} if operation.kind in ("mkdir", "folder") else bytearray(operation.data)
            node = self._nodes[operation.inode] = _Node(state)
            folder.pending.append({name: node})
            if operation.kind in ("folder", "present"):
                folder.sync()

    def _node(self, operation: Operation) -> _Node:
        if operation.inode not in self._nodes:
            raise ValueError(f"the trace does not show how {operation.path!r} came to be")
        return self._nodes[operation.inode]

    def _locate(self, path: str) -> tuple[_Node, str]:
        *parents, name = path.split("/")
        folder = self.root
        for parent in parents:
            folder = folder.after()[parent]
        return folder, name

    def _sync_names_of(self, node: _Node) -> None:
        for folder in [self.root, *self._nodes.values()]:
            changes = enumerate(folder.pending, start=1) if isinstance(folder.safe, dict) else ()
            folder.sync(max((i for i, change in changes if node in change.values()), default=0))


def _surviving_state(node: _Node, mode: str, random: np.random.Generator) -> bytearray | dict:
    if mode == "random":
        torn = ["torn"] if isinstance(node.safe, bytearray) else []
        mode = random.choice(["drop", "keep", "first few", *torn])
    if mode == "torn":
        return _torn(node, random)
    num_pending = len(node.pending)
    num_first = int(random.integers(num_pending + 1)) if mode == "first few" else num_pending
    return node.after(0 if mode == "drop" else num_first)


def _torn(file: _Node, random: np.random.Generator) -> bytearray:
    """Each block, and the size, as it was after some number of the changes."""
    sizes = [len(file.safe)]
    for change in file.pending:
        end = change.offset + len(change.data)
        sizes.append(change.size if change.kind == "truncate" else max(sizes[-1], end))
    content = file.safe.ljust(max(sizes), b"\0")
    block_bytes = int(random.choice([512, 4096]))
    num_blocks = -(-len(content) // block_bytes)
    num_seen = random.integers(len(sizes), size=num_blocks)
    num_seen[random.random(num_blocks) < random.random()] = len(file.pending)
    for number, change in enumerate(file.pending, start=1):
        start, data = change.offset, change.data
        if change.kind == "truncate":
            start, data = change.size, bytes(len(content) - change.size)
        end = start + len(data)
        for block in range(start // block_bytes, -(-end // block_bytes)):
            low, high = max(start, block * block_bytes), min(end, (block + 1) * block_bytes)
            if num_seen[block] >= number:
                content[low:high] = data[low - start : high - start]
    del content[random.choice(sizes) :]
    return content


def _present(folder: Path) -> list[Operation]:
    """The folder itself and all that is beneath it."""
    operations = []
    for path in [folder, *sorted(folder.rglob("*"))]:
        name = "" if path == folder else path.relative_to(folder).as_posix()
        kind, data = ("folder", b"") if path.is_dir() else ("present", path.read_bytes())
        operations.append(Operation(kind, name, path.stat().st_ino, data=data))
    return operations


def _pack(operation: Operation) -> bytes:
    code = next(code for code, kind in _KINDS.items() if kind == operation.kind)
    path, data = os.fsencode(operation.path), operation.data
    header = (_MAGIC, ord(code), operation.inode, 0, 0, len(path), 0, len(data))
    return _HEADER.pack(*header) + path + data
