"""``python -m benchmarks NAME`` runs a benchmark, a theme, or ``all``; without NAME it lists them.

A benchmark is named ``THEME.RESULT`` and writes ``results/RESULT.md``; options after its name are
its own (``--help`` shows them). Some need ``FUSIFORM_TESTDATA``, the folder that holds
``stimuli/floc`` and ``weights``.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-m", "benchmarks"]


def benchmarks() -> dict[str, str]:
    """Names of all benchmarks, each with the first line of its docstring."""
    found = {}
    for path in sorted(HERE.glob("*/*.py")):
        module = ast.parse(path.read_text())
        if any(isinstance(part, ast.FunctionDef) and part.name == "main" for part in module.body):
            said = ast.get_docstring(module) or ""
            found[f"{path.parent.name}.{path.stem}"] = said.partition("\n")[0]
    return found


def main() -> None:
    """List benchmarks, or run those that are named."""
    name, *options = sys.argv[1:] or ["--help"]
    known = benchmarks()
    chosen = [one for one in known if name in (one, one.partition(".")[0], "all")]
    if not chosen:
        print(__doc__, *(f"  {one:<24} {said}" for one, said in known.items()), sep="\n")
        sys.exit(0 if name in ("-h", "--help") else f"no benchmark is named {name}")
    # Children find this package from any folder.
    places = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    if len(chosen) == 1:
        module = import_module(f"benchmarks.{chosen[0]}")
        name = f"python -m benchmarks {chosen[0]}"
        parser = ArgumentParser(
            name, description=module.__doc__, formatter_class=RawDescriptionHelpFormatter
        )
        if hasattr(module, "options"):
            module.options(parser)
            module.main(parser.parse_args(options))
        else:
            parser.parse_args(options)
            module.main()
        return
    failed = [one for one in chosen if subprocess.call([*COMMAND, one, *options])]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
