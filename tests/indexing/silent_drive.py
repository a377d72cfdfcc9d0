"""A network drive that goes away: a file system of FUSE's that shows a folder's files, and from a
moment on answers nothing any more, so that whoever asks it waits in the kernel.

    python -m tests.indexing.silent_drive FOLDER MOUNT_POINT

prints a line when it is mounted. A file whose name begins with `silent` is listed, but not opened;
once there is a file `.away` in FOLDER, no question is answered. Needs root and /dev/fuse.
"""

import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.command_lines import PROJECT

_IN, _OUT = struct.Struct("<IIQQIIIHH"), struct.Struct("<IiQ")
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _STATFS = 1, 2, 3, 14, 15, 17
_RELEASE, _FLUSH, _INIT, _OPENDIR, _READDIR, _RELEASEDIR = 18, 25, 26, 27, 28, 29
_INTERRUPT, _BATCH_FORGET = 36, 42
_WITHOUT_ANSWER = {_FORGET, _INTERRUPT, _BATCH_FORGET}
_ROOT = 1


@contextmanager
def silent_drive(folder: Path, mount_point: Path) -> Iterator[Path]:
    """Mounts it; skips the test where that cannot be done. What waits for it is let go at the
    end."""
    mount_point.mkdir(exist_ok=True)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid():
        pytest.skip("needs root and /dev/fuse")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.indexing.silent_drive", str(folder), str(mount_point)],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if process.stdout.readline() != "mounted\n":
            pytest.skip("no file system can be mounted here")
        yield mount_point
    finally:
        process.kill()
        process.communicate()
        subprocess.run(["umount", "-l", str(mount_point)], check=False, stderr=subprocess.DEVNULL)


class _Drive:
    def __init__(self, folder: Path, device: int) -> None:
        self._folder = folder
        self._device = device
        self._names = sorted(path.name for path in folder.iterdir())

    def serve(self) -> None:
        while True:
            message = os.read(self._device, 1 << 18)
            _, opcode, unique, node, *_ = _IN.unpack_from(message)
            if opcode in _WITHOUT_ANSWER or (self._folder / ".away").exists():
                continue
            try:
                body = self._answer(opcode, node, message[_IN.size :])
                error = 0
            except OSError as failure:
                body, error = b"", failure.errno or errno.EIO
            if body is not None:
                os.write(self._device, _OUT.pack(_OUT.size + len(body), -error, unique) + body)

    def _answer(self, opcode: int, node: int, data: bytes) -> bytes | None:
        """None where there is to be none."""
        if opcode == _INIT:
            return struct.pack("<IIIIHHIIHH32x", 7, 31, 0, 0, 16, 12, 1 << 17, 1, 0, 0)
        if opcode == _LOOKUP:
            name = os.fsdecode(data.rstrip(b"\0"))
            if name not in self._names:
                raise FileNotFoundError(errno.ENOENT, name)
            child = self._names.index(name) + 2
            return struct.pack("<QQQQII", child, 0, 0, 0, 0, 0) + self._attributes(child)
        if opcode == _GETATTR:
            return struct.pack("<QII", 0, 0, 0) + self._attributes(node)
        if opcode in (_OPEN, _OPENDIR):
            if node != _ROOT and self._path(node).name.startswith("silent"):
                return None
            return struct.pack("<QII", 0, 0, 0)
        if opcode in (_READ, _READDIR):
            _, offset, size = struct.unpack_from("<QQI", data)
            if opcode == _READDIR:
                return self._entries()[offset] if offset < len(self._names) else b""
            with self._path(node).open("rb") as file:
                file.seek(offset)
                return file.read(size)
        if opcode == _STATFS:
            return struct.pack("<QQQQQIIII24x", 1, 0, 0, 1, 0, 4096, 255, 4096, 0)
        if opcode in (_FLUSH, _RELEASE, _RELEASEDIR):
            return b""
        raise OSError(errno.ENOSYS, "not known here")

    def _entries(self) -> list[bytes]:
        entries = []
        for position, name in enumerate(self._names):
            raw = os.fsencode(name)
            head = struct.pack("<QQII", position + 2, position + 1, len(raw), stat.S_IFREG >> 12)
            entries.append(head + raw + bytes(-len(raw) % 8))
        return entries

    def _path(self, node: int) -> Path:
        return self._folder if node == _ROOT else self._folder / self._names[node - 2]

    def _attributes(self, node: int) -> bytes:
        status = os.stat(self._path(node))
        seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
        times = struct.pack("<QQQIII", *[seconds] * 3, *[nanoseconds] * 3)
        rest = struct.pack("<IIIIIII", status.st_mode, 1, 0, 0, 0, 4096, 0)
        return struct.pack("<QQQ", node, status.st_size, 1) + times + rest


def main() -> None:
    folder, mount_point = Path(sys.argv[1]), sys.argv[2]
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"silent", os.fsencode(mount_point), b"fuse", 0, options.encode()):
        sys.exit(os.strerror(ctypes.get_errno()))
    print("mounted", flush=True)
    _Drive(folder, device).serve()


if __name__ == "__main__":
    main()
