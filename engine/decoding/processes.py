"""Image files decoded in processes, one per decode thread.

Threads wait for the GIL at every step outside Pillow, and a picture takes dozens of such steps:
more threads soon decode less. With a process, the thread only says which stimuli it wants and hears
when each is done: the process reads the file, compares its SHA-256, decodes it, and writes the
picture where the network's batch lies, in shared memory. It does not import torch, which is slow to
load.
"""

from __future__ import annotations

import mmap
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import IO, BinaryIO

import numpy as np

from ..errors import UserError
from ..preprocessing import Preprocessing
from ..stimuli.catalogue import Catalogue
from ..stimuli.images import UnfitStimulus
from .pictures import picture_of

# Request: its length, then a pickle of the row of the first picture in shared memory, and the
# catalogue of the stimuli. An answer for each: whether the image is at fault and the length of the
# reason, then the reason; the length is 0 if the picture is there.
_REQUEST, _ANSWER = struct.Struct("<I"), struct.Struct("<?I")
# Keeps libraries from starting threads that would never be used, and the C library from giving the
# memory of a picture of up to 32 MiB back after each: the next one needs it again, page by page.
_SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": f"{2**25}",
    "MALLOC_TRIM_THRESHOLD_": f"{2**26}",
}
_MODULE = "fusiform.engine.decoding.processes"
# Seconds for a killed process to end: one that waits for a hung file system does not.
_PATIENCE = 10.0


class Decoders:
    """A pool of decoding processes, which write to ``memory``, a descriptor of a file of pictures.

    Raises
    ------
    UserError : the system cannot start so many
    """

    def __init__(self, preprocessing: Preprocessing, number: int, memory: int) -> None:
        self._all: list[_Decoder] = []
        self._idle: SimpleQueue[_Decoder | None] = SimpleQueue()
        for _ in range(number):
            try:
                decoder = _Decoder(preprocessing, memory)
            except OSError as error:
                self.stop()
                raise UserError(
                    "for a GPU every decode worker is a process; the system started "
                    f"{len(self._all)} of {number} ({error.strerror or error}): "
                    "use fewer `decode_workers`"
                ) from error
            self._all.append(decoder)
            self._idle.put(decoder)

    def fill(self, first: int, part: Catalogue) -> Iterator[str]:
        """Write the pictures of stimuli to rows of the memory, from row ``first`` on.

        Yields for each, when it is done, why it cannot be shown, or "".

        Raises
        ------
        UserError : the process failed or was killed
        """
        decoder = self._idle.get()
        try:
            if decoder is None:
                path = part.path(0)
                raise UserError(f"images are decoded during a scan; {path} came after its end")
            yield from decoder.fill(first, part)
        finally:
            self._idle.put(decoder)

    def wait(self) -> None:
        """Wait until all processes have started; measurements leave the start out."""
        for decoder in self._all:
            decoder.wait()

    def stop(self) -> None:
        """Kill the processes; threads that wait for one get an error.

        A process that does not end is abandoned, and so is the thread that waits for it.
        """
        for decoder in self._all:
            decoder.kill()
        with suppress(Empty):
            for _ in self._all:  # closed only after its last user has returned it
                idle = self._idle.get(timeout=_PATIENCE)
                assert idle
                idle.close()
        self._idle.put(None)


@contextmanager
def decoders(preprocessing: Preprocessing, number: int, memory: int) -> Iterator[Decoders]:
    """Start ``number`` decoders, and stop them when the context ends."""
    started = Decoders(preprocessing, number, memory)
    try:
        yield started
    finally:
        started.stop()


class _Decoder:
    """One process. It ends by itself when its parent ends, however that happens."""

    def __init__(self, preprocessing: Preprocessing, memory: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=(memory,),
            env=os.environ | _SETTINGS,
            process_group=0 if os.name == "posix" else None,  # not reached by Ctrl-C
        )
        assert self._process.stdin
        assert self._process.stdout
        self._requests, self._answers = self._process.stdin, self._process.stdout
        with suppress(OSError):  # if it has died, the first request raises
            _write(self._requests.write, pickle.dumps((preprocessing, memory)))

    def fill(self, first: int, part: Catalogue) -> Iterator[str]:
        done = 0
        try:
            self._ask((first, part))
            while done < len(part):
                unfit, length = _ANSWER.unpack(_read(self._answers, _ANSWER.size))
                reason = _read(self._answers, length).decode()
                if length and not unfit:
                    raise UserError(f"decoding {part.path(done)} failed: {reason}")
                yield reason
                done += 1
        except (OSError, EOFError):
            raise UserError(
                f"decoding processes run until the scan ends; one {self._end()} at "
                f"{part.path(done)}: the system may have killed it for lack of memory"
            ) from None

    def _end(self) -> str:
        """Wait for its end, and say how it came."""
        try:
            code = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            return "hangs"
        return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"

    def wait(self) -> None:
        """Wait until it has started."""
        self._ask(None)
        _read(self._answers, _ANSWER.size)

    def _ask(self, request: tuple[int, Catalogue] | None) -> None:
        content = pickle.dumps(request, pickle.HIGHEST_PROTOCOL)
        _write(self._requests.write, _REQUEST.pack(len(content)) + content)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._end()
        self._requests.close()
        self._answers.close()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Main function of the process: answer requests until there are no more."""
    preprocessing, memory = pickle.load(requests)  # from the parent process
    side = preprocessing.crop
    rows = np.frombuffer(mmap.mmap(memory, 0), np.uint8).reshape(-1, side, side, 3)
    while len(head := requests.read(_REQUEST.size)) == _REQUEST.size:
        (length,) = _REQUEST.unpack(head)
        content = requests.read(length)
        if len(content) != length:
            return  # the parent has ended
        if (request := pickle.loads(content)) is None:
            _write(answers.write, _ANSWER.pack(False, 0))
            continue
        first, part = request
        for stimulus in range(len(part)):
            try:
                content = part.read(stimulus)
                part.require_unchanged(stimulus, content)
                path = part.path(stimulus)
                rows[first + stimulus] = picture_of(path, content, preprocessing)
            except UnfitStimulus as unfit:
                _write(answers.write, _refusal(unfit.reason, unfit=True))
            except Exception as error:
                _write(answers.write, _refusal(f"{type(error).__name__}: {error}", unfit=False))
                break  # the scan ends
            else:
                _write(answers.write, _ANSWER.pack(False, 0))


def _refusal(reason: str, *, unfit: bool) -> bytes:
    text = reason.encode(errors="replace")
    return _ANSWER.pack(unfit, len(text)) + text


def _write(write: Callable[[memoryview], int | None], content: bytes | memoryview) -> None:
    left = memoryview(content)
    while left:
        left = left[write(left) or 0 :]


def _read(pipe: IO[bytes], length: int) -> bytes:
    content = b""
    while missing := length - len(content):
        read = pipe.read(missing)
        if not read:
            raise EOFError
        content += read
    return content


if __name__ == "__main__":
    # Output of libraries goes to stderr, so that it does not mix with answers.
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, answers)
