"""Build a release from the last commit and try it; publish nothing unless asked.

    python3.11 .ci/release.py             build into dist/ and try
    python3.11 .ci/release.py --publish   then upload; HEAD must be tagged

Standard library, git and pip alone: build and twine are installed into a scratch environment.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LARGEST = 1 << 20  # bytes of a file
TRIAL = (
    ("stimuli", "make", "stimuli", "--per-category", "4"),
    ("scan", "resnet18", "stimuli", "--weights", "none", "--layers", "avgpool", "-o", "r18.zarr"),
    ("check", "r18.zarr"),
)


def main() -> None:
    """Check, build, try; print or run what publishes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the archives")
    parser.add_argument("--publish", action="store_true", help="upload with twine")
    given = parser.parse_args()
    version = agreed_version(ROOT)
    if git("status", "--porcelain"):
        sys.exit("the working tree must be clean: commit or stash its changes")
    if given.publish:
        check_published_state(version)
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        twine = build(scratch, given.out)
        archives = [
            given.out / f"fusiform-{version}.tar.gz",
            given.out / f"fusiform-{version}-py3-none-any.whl",
        ]
        run(*twine, "check", "--strict", *archives)
        check_contents(*archives)
        try_wheel(archives[1], scratch, version)
        publishing = ["upload", *map(str, archives)]
        if given.publish:
            run(*twine, *publishing)
        else:
            print(
                f"\nnot published. To publish: date the heading of {version} in CHANGELOG.md, then"
            )
            print(f"  git tag -a v{version} -m 'fusiform {version}' && git push origin v{version}")
            print("  python3.11 .ci/release.py --publish")


def agreed_version(root: Path) -> str:
    """The version, which pyproject.toml, CITATION.cff and the recipe give and CHANGELOG.md has."""
    version = str(project(root)["version"])
    for file, pattern in (
        ("CITATION.cff", r"^version: (.*)$"),
        (".ci/conda/recipe.yaml", r'^  version: "(.*)"$'),
        ("CHANGELOG.md", rf"^## ({re.escape(version)}) \("),
    ):
        if re.findall(pattern, (root / file).read_text(), re.MULTILINE) != [version]:
            sys.exit(f"pyproject.toml has version {version}; {file} must have it too, once")
    return version


def check_published_state(version: str) -> None:
    """Exit unless HEAD is tagged and the changelog gives the version a date."""
    if f"v{version}" not in git("tag", "--points-at", "HEAD").split():
        sys.exit(f"HEAD must be tagged: git tag -a v{version} -m 'fusiform {version}'")
    dated = rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$"
    if not re.search(dated, (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE):
        sys.exit(f"CHANGELOG.md must have the heading: ## {version} (YEAR-MONTH-DAY)")


def build(scratch: Path, out: Path) -> tuple[str, ...]:
    """Build the committed files into ``out``; returns the command that calls twine."""
    tree = scratch / "fusiform"
    tree.mkdir()
    run("git", "-C", ROOT, "archive", "--output", scratch / "tree.tar", "HEAD")
    with tarfile.open(scratch / "tree.tar") as archive:
        archive.extractall(tree, filter="data")
    source = project(tree).get("urls", {}).get("Source")
    readme = tree / "README.md"
    readme.write_text(for_index(readme.read_text(), source, project(tree)["version"]))
    python = environment(scratch / "tools", "build", "twine")
    run(python, "-m", "build", "--outdir", out, tree, quiet=True)
    return str(python), "-m", "twine"


def for_index(readme: str, source: str | None, version: str) -> str:
    """The README as a package index can show it, without files beside it.

    Links and pictures lead to the tag at ``source``, the repository's address. Without one, links
    become text and pictures are left out.
    """
    page, raw = (f"{source}/{kind}/v{version}/" for kind in ("blob", "raw"))
    link = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)\s]+)\)")
    picture = re.compile(r'<img src="(?!https?:)([^"]+)"([^>]*)>\n*')
    if source is None:
        return picture.sub("", link.sub(r"\1", readme))
    return picture.sub(rf'<img src="{raw}\1"\2>\n\n', link.sub(rf"[\1]({page}\2)", readme))


def check_contents(sdist: Path, wheel: Path) -> None:
    """Exit unless the sdist holds the committed files and the wheel the package alone."""
    committed = set(git("ls-files", "-z").strip("\0").split("\0"))
    with tarfile.open(sdist) as archive:
        members = {one.name.partition("/")[2]: one for one in archive if one.isfile()}
    made = {name for name in members if name.startswith("fusiform.egg-info/")}
    shipped = set(members) - made - {"PKG-INFO", "setup.cfg"}
    if shipped != committed:
        sys.exit(f"{sdist.name} differs from the commit: {sorted(shipped ^ committed)}")
    large = [name for name, one in members.items() if one.size > LARGEST]
    if large:
        sys.exit(f"{sdist.name} holds files above {LARGEST:,} bytes: {large}")
    with zipfile.ZipFile(wheel) as archive:
        names = {one.removeprefix("fusiform/") for one in archive.namelist()}
    names = {name for name in names if ".dist-info/" not in name}
    extra = names - committed | {name for name in names if name.startswith("tests/")}
    if extra:
        sys.exit(f"{wheel.name} holds more than the package: {sorted(extra)}")
    for path, count in ((sdist, len(members)), (wheel, len(names))):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {count} files")


def try_wheel(wheel: Path, scratch: Path, version: str) -> None:
    """Install the wheel into a fresh environment and scan there, away from the clone."""
    fusiform = environment(scratch / "trial", str(wheel)).parent / "fusiform"
    for arguments in TRIAL:
        run(fusiform, *arguments, cwd=scratch / "trial")
    installed = subprocess.run([fusiform, "--version"], capture_output=True, text=True, check=True)
    if installed.stdout.strip() != version:
        sys.exit(f"the wheel of {version} says it is {installed.stdout.strip()}")


def environment(folder: Path, *packages: str) -> Path:
    """The interpreter of a new virtual environment with ``packages``."""
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    return python


def project(root: Path) -> dict[str, Any]:
    """The table ``project`` of pyproject.toml."""
    return dict(tomllib.loads((root / "pyproject.toml").read_text())["project"])


def git(*arguments: str) -> str:
    """What git prints."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def run(*command: str | Path, cwd: Path | None = None, quiet: bool = False) -> None:
    """Run a command; its failure ends the program."""
    print("$", Path(command[0]).name, *command[1:], flush=True)
    output = subprocess.DEVNULL if quiet else None
    if subprocess.run(command, check=False, cwd=cwd, stdout=output).returncode:
        sys.exit("failed: " + " ".join(map(str, command)))


if __name__ == "__main__":
    main()
