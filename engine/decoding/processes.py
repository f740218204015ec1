"""Image files decoded in processes of their own, one for each thread that asks for pictures.

Threads of one Python wait for each other at every step that is not inside of Pillow, and a picture
takes dozens of such steps: more threads soon decode less. A process takes them all, and leaves to
the thread one request and one answer. It knows nothing of torch, which takes long to load.
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

# A request: lengths of the file's name and content, which follow. An answer: why there is no
# picture, in so many bytes, and whether that is the image's fault; or a picture, of no reason.
_REQUEST, _ANSWER = struct.Struct("<IQ"), struct.Struct("<?I")
# A whole picture of 224 pixels goes through a pipe at once, where the system lets it have that.
_PIPE_BYTES = 2**20
# What libraries would start of threads in each, and never use.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_MODULE = "fusiform.engine.decoding.processes"


class Decoders:
    """Processes that decode, as many at a time as there are.

    Raises
    ------
    UserError : the system does not give so many
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
                    "on a GPU each decode worker has a process; of "
                    f"{number} the system began {len(self._all)} ({error.strerror or error}): "
                    "ask for fewer --decode-workers"
                ) from error
            self._all.append(decoder)
            self._idle.put(decoder)

    def fill(self, row: NDArray[np.uint8], path: Path, content: bytes) -> None:
        """Fill ``row [crop, crop, 3]`` with the picture of an image file.

        Raises
        ------
        UnfitStimulus : see :func:`.pictures.picture_of`
        UserError : the process failed, or was killed
        """
        decoder = self._idle.get()
        try:
            if decoder is None:
                raise UserError(f"an image is decoded while a scan lasts; {path} came later")
            decoder.fill(row, path, content)
        finally:
            self._idle.put(decoder)

    def wait(self) -> None:
        """Until they have begun: a scan goes on meanwhile, and who measures them waits."""
        for decoder in self._all:
            with suppress(UnfitStimulus):  # no image is in nothing
                decoder.fill(np.empty(0, np.uint8), Path(), b"")

    def stop(self) -> None:
        """End the processes, whatever they are at; who waits for one is told."""
        for decoder in self._all:
            decoder.kill()
        for _ in self._all:  # one by one, when nobody reads of it any more
            idle = self._idle.get()
            assert idle
            idle.close()
        self._idle.put(None)


@contextmanager
def decoders(preprocessing: Preprocessing, number: int) -> Iterator[Decoders]:
    """Give so many decoders, which are gone when the context ends."""
    started = Decoders(preprocessing, number)
    try:
        yield started
    finally:
        started.stop()


class _Decoder:
    """One process. It ends by itself when the program that began it does, however that ends."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=os.environ | _ONE_THREAD,
            process_group=0 if os.name == "posix" else None,  # Ctrl-C is not for it
        )
        assert self._process.stdin
        assert self._process.stdout
        self._requests, self._answers = self._process.stdin, self._process.stdout
        for pipe in (self._requests, self._answers):
            _widen(pipe)
        with suppress(OSError):  # it is gone, which the first request finds out
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
                f"images are decoded in processes that last as long as the scan; one {how} at "
                f"{path}: it may have been killed for the memory that it took"
            ) from None
        if unfit:
            raise UnfitStimulus(path, reason)
        raise UserError(f"an image is decoded or refused; at {path} decoding failed: {reason}")

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.wait()
        self._requests.close()
        self._answers.close()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more: what such a process does."""
    preprocessing = pickle.load(requests)  # from the program that began this one
    while len(head := requests.read(_REQUEST.size)) == _REQUEST.size:
        lengths = _REQUEST.unpack(head)
        name, content = map(requests.read, lengths)
        if (len(name), len(content)) != lengths:
            return  # who asked is gone
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
    with suppress(ImportError, AttributeError, OSError):  # Linux, and within what a user may have
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # type: ignore[call-overload]


if __name__ == "__main__":
    # What a library prints is no answer.
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, answers)
