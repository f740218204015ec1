"""Image files decoded in processes, one per decode thread.

Threads wait for the GIL at every step outside Pillow, and a picture takes dozens of such steps:
more threads soon decode less. With a process, the thread only sends a request and reads an answer.
The process does not import torch, which is slow to load.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..preprocessing import Preprocessing
from ..stimuli.images import UnfitStimulus
from .pictures import picture_of

# Request: lengths of the file's name and content, then both. Answer: whether the image is at fault
# and the length of the reason, then the reason; or the picture, if that length is 0.
_REQUEST, _ANSWER = struct.Struct("<IQ"), struct.Struct("<?I")
# Pipe size for a whole picture of 224 pixels at once, if the system allows it.
_PIPE_BYTES = 2**20
# Keeps libraries from starting threads that would never be used.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_MODULE = "fusiform.engine.decoding.processes"


class Decoders:
    """A pool of decoding processes.

    Raises
    ------
    UserError : the system cannot start so many
    """

    def __init__(self, preprocessing: Preprocessing, number: int) -> None:
        self._all: list[_Decoder] = []
        self._idle: SimpleQueue[_Decoder | None] = SimpleQueue()
        for _ in range(number):
            try:
                decoder = _Decoder(preprocessing)
            except OSError as error:
                self.stop()
                raise UserError(
                    "for a GPU every decode worker is a process; the system started "
                    f"{len(self._all)} of {number} ({error.strerror or error}): "
                    "use fewer `decode_workers`"
                ) from error
            self._all.append(decoder)
            self._idle.put(decoder)

    def fill(self, row: NDArray[np.uint8], path: Path, content: bytes) -> None:
        """Write the picture of an image file to ``row [crop, crop, 3]``.

        Raises
        ------
        UnfitStimulus : see :func:`.pictures.picture_of`
        UserError : the process failed or was killed
        """
        decoder = self._idle.get()
        try:
            if decoder is None:
                raise UserError(f"images are decoded during a scan; {path} came after its end")
            decoder.fill(row, path, content)
        finally:
            self._idle.put(decoder)

    def wait(self) -> None:
        """Wait until all processes have started; only benchmarks need this."""
        for decoder in self._all:
            with suppress(UnfitStimulus):  # an empty file is not an image
                decoder.fill(np.empty(0, np.uint8), Path(), b"")

    def stop(self) -> None:
        """Kill the processes; threads that wait for one get an error."""
        for decoder in self._all:
            decoder.kill()
        for _ in self._all:  # closed only after its last user has returned it
            idle = self._idle.get()
            assert idle
            idle.close()
        self._idle.put(None)


@contextmanager
def decoders(preprocessing: Preprocessing, number: int) -> Iterator[Decoders]:
    """Start ``number`` decoders, and stop them when the context ends."""
    started = Decoders(preprocessing, number)
    try:
        yield started
    finally:
        started.stop()


class _Decoder:
    """One process. It ends by itself when its parent ends, however that happens."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=os.environ | _ONE_THREAD,
            process_group=0 if os.name == "posix" else None,  # not reached by Ctrl-C
        )
        assert self._process.stdin
        assert self._process.stdout
        self._requests, self._answers = self._process.stdin, self._process.stdout
        for pipe in (self._requests, self._answers):
            _widen(pipe)
        with suppress(OSError):  # if it has died, the first request raises
            _write(self._requests.write, pickle.dumps(preprocessing))

    def fill(self, row: NDArray[np.uint8], path: Path, content: bytes) -> None:
        name = os.fsencode(path)
        try:
            _write(self._requests.write, _REQUEST.pack(len(name), len(content)) + name + content)
            unfit, length = _ANSWER.unpack(_read(self._answers, _ANSWER.size))
            if not length:
                _read_into(self._answers, row.data.cast("B"))
                return
            reason = _read(self._answers, length).decode()
        except (OSError, EOFError):
            code = self._process.wait()
            how = f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
            raise UserError(
                f"decoding processes run until the scan ends; one {how} at {path}: the system may "
                "have killed it for lack of memory"
            ) from None
        if unfit:
            raise UnfitStimulus(path, reason)
        raise UserError(f"decoding {path} failed: {reason}")

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.wait()
        self._requests.close()
        self._answers.close()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Main function of the process: answer requests until there are no more."""
    preprocessing = pickle.load(requests)  # from the parent process
    while len(head := requests.read(_REQUEST.size)) == _REQUEST.size:
        lengths = _REQUEST.unpack(head)
        name, content = map(requests.read, lengths)
        if (len(name), len(content)) != lengths:
            return  # the parent has ended
        try:
            picture = picture_of(Path(os.fsdecode(name)), content, preprocessing)
        except UnfitStimulus as unfit:
            _write(answers.write, _refusal(unfit.reason, unfit=True))
        except Exception as error:
            _write(answers.write, _refusal(f"{type(error).__name__}: {error}", unfit=False))
        else:
            _write(answers.write, _ANSWER.pack(False, 0))
            _write(answers.write, picture.data.cast("B"))


def _refusal(reason: str, *, unfit: bool) -> bytes:
    text = reason.encode(errors="replace")
    return _ANSWER.pack(unfit, len(text)) + text


def _write(write: Callable[[memoryview], int | None], content: bytes | memoryview) -> None:
    left = memoryview(content)
    while left:
        left = left[write(left) or 0 :]


def _read(pipe: IO[bytes], length: int) -> bytes:
    content = bytearray(length)
    _read_into(pipe, memoryview(content))
    return bytes(content)


def _read_into(pipe: IO[bytes], left: memoryview) -> None:
    while left:
        read = pipe.readinto(left)  # type: ignore[attr-defined]
        if not read:
            raise EOFError
        left = left[read:]


def _widen(pipe: object) -> None:
    with suppress(ImportError, AttributeError, OSError):  # only on Linux, and within its limits
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # type: ignore[call-overload]


if __name__ == "__main__":
    # Output of libraries goes to stderr, so that it does not mix with answers.
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, answers)
