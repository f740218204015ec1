"""Untrusted files read in a separate process, because the libraries for them are written in C.

A malicious file can expand without bound, keep a library busy forever, or crash it. It then ends
only that process, whose memory and time are limited.

Modules that read files so have a function ``serve(asked, answers)``, the main function of the
process; ``asked`` is what :func:`answers_of` was given.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ..errors import UserError

# Limits of the process: bytes beyond those of its libraries (on Linux), and CPU seconds.
MEMORY, SECONDS = 2**30, 60
# One thread, and no memory allocated in advance.
SPARING = {"OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}


def answers_of(
    module: str, asked: Sequence[Any], refused: Callable[[str], UserError]
) -> Iterator[Any]:
    """Answers of the process of a module, until the last, which is null.

    Parameters
    ----------
    asked : for its ``serve``, in JSON
    refused : makes an error of the reason why the process ended without a last answer

    Raises
    ------
    UserError : the process refuses the file, or ended early
    """
    with reader(module, asked) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                answer = json.loads(line)
                if answer is None:
                    return
                if isinstance(answer, dict) and "refused" in answer:
                    raise UserError(answer["refused"])
                yield answer
        finally:
            process.kill()
    code = process.returncode
    how = (
        f"reading it ended by signal {-code}" if code < 0 else f"reading it ended with code {code}"
    )
    if code in (-signal.SIGKILL, -getattr(signal, "SIGXCPU", 0)):
        how = "reading it takes more memory or time than a table needs"
    raise refused(how)


def reader(module: str, asked: Sequence[Any]) -> subprocess.Popen[bytes]:
    """Start the process of a module."""
    # The same import path as in this process.
    folders = (Path(__file__).parents[3], *map(Path, sys.path))
    path = os.pathsep.join(str(folder.absolute()) for folder in folders)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, json.dumps(asked)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **SPARING, "PYTHONPATH": path},
        process_group=0 if os.name == "posix" else None,  # not reached by Ctrl-C
    )


def tell(answer: Any, answers: IO[str]) -> None:
    """Write an answer."""
    print(json.dumps(answer), file=answers, flush=True)


def bound(seconds: int = SECONDS, mapped: int = 0) -> None:
    """Limit this process's CPU time and memory, not counting files that are ``mapped``."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY + mapped
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def run(serve: Callable[[Any, IO[str]], None]) -> None:
    """Main function of a module that is run as the process."""
    # Output of libraries goes to stderr, so that it does not mix with answers.
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        serve(json.loads(sys.argv[1]), answers)
