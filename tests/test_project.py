"""A release: one version, a recipe with the same bounds, whole archives, a page for an index."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()
RECIPE = (ROOT / ".ci" / "conda" / "recipe.yaml").read_text()
# Names on conda-forge that differ from those of a package index.
CONDA = {"dask[array]": "dask-core", "open_clip_torch": "open-clip-torch", "torch": "pytorch"}


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_version_is_the_same_everywhere(release: ModuleType) -> None:
    assert release.agreed_version(ROOT) == PROJECT["version"]


@pytest.mark.parametrize("file", ["CITATION.cff", "CHANGELOG.md", ".ci/conda/recipe.yaml"])
def test_a_file_with_another_version_is_named(
    tmp_path: Path, release: ModuleType, file: str
) -> None:
    for name in ("pyproject.toml", "CITATION.cff", "CHANGELOG.md", ".ci/conda/recipe.yaml"):
        text = (ROOT / name).read_text()
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(
            text.replace(PROJECT["version"], "9.9.9") if name == file else text
        )
    with pytest.raises(SystemExit, match=re.escape(file)):
        release.agreed_version(tmp_path)


def test_the_recipe_has_the_dependencies_of_the_package() -> None:
    run = RECIPE.partition("  run:\n")[2].partition("\n\n")[0]
    listed = sorted(re.findall(r"- (.*)", run))
    bounds = [re.fullmatch(r"(.+)(>=.+)", one) for one in PROJECT["dependencies"]]
    wanted = [f"{CONDA.get(one[1], one[1])} {one[2]}" for one in bounds if one]
    assert len(wanted) == len(PROJECT["dependencies"])
    assert listed == sorted([*wanted, "python >=${{ python_min }}"])
    assert f'python_min: "{PROJECT["requires-python"].removeprefix(">=")}"' in RECIPE
    assert f"summary: {PROJECT['description']}\n" in RECIPE
    assert f"license: {PROJECT['license']}\n" in RECIPE
    assert [f"fusiform = {PROJECT['scripts']['fusiform']}"] == re.findall(
        r"- (fusiform = .*)", RECIPE
    )


def test_an_index_shows_the_readme_without_relative_links(release: ModuleType) -> None:
    alone = release.for_index(README, None, "1.0")
    assert "](docs" not in alone
    assert "<img" not in alone
    assert "\n| Tutorial | " in alone
    linked = release.for_index(README, "https://example.org/f", "1.0")
    assert 'src="https://example.org/f/raw/v1.0/docs/pictures/demo.png"' in linked
    assert "[Tutorial](https://example.org/f/blob/v1.0/docs/tutorial.md)" in linked
    targets = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", linked)
    assert targets
    assert all("".join(target).startswith("https://") for target in targets)


def test_the_source_distribution_names_every_committed_file() -> None:
    """The folders and files of MANIFEST.in, beside those that setuptools adds."""
    git = ["git", "-C", str(ROOT), "ls-files"]
    listed = subprocess.run(git, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a clone")
    manifest = (ROOT / "MANIFEST.in").read_text()
    grafted = tuple(f"{name}/" for name in re.findall(r"^graft (.*)$", manifest, re.MULTILINE))
    named = re.findall(r"^include (.*)$", manifest, re.MULTILINE)[0].split()
    packages = ("commands/", "engine/", "kernels/")
    own = {"LICENSE", "README.md", "pyproject.toml", "py.typed"}
    for file in map(Path, listed.stdout.splitlines()):
        inside = str(file).startswith((*grafted, *packages))
        module = file.parent == Path() and file.suffix == ".py"
        assert inside or module or str(file) in own or any(file.match(one) for one in named), file


COMMITTED = ("README.md", "engine/spec.py", "tests/test_spec.py")


def archives(folder: Path, sdist: dict[str, int], wheel: tuple[str, ...]) -> tuple[Path, Path]:
    """A source distribution of files with sizes, and a wheel of files."""
    (folder / "f").write_bytes(bytes(max(sdist.values())))
    with tarfile.open(folder / "f.tar.gz", "w:gz") as archive:
        for name, size in sdist.items():
            (folder / "f").write_bytes(bytes(size))
            archive.add(folder / "f", f"fusiform-1/{name}")
    with zipfile.ZipFile(folder / "f.whl", "w") as made:
        for name in ("fusiform-1.dist-info/METADATA", *wheel):
            made.writestr(name, "")
    return folder / "f.tar.gz", folder / "f.whl"


@pytest.mark.parametrize(
    ("more", "missing", "wheel", "said"),
    [
        ({}, "", (), ""),
        ({"secrets.txt": 1}, "", (), "f.tar.gz differs from the commit: ['secrets.txt']"),
        ({}, "tests/test_spec.py", (), "differs from the commit: ['tests/test_spec.py']"),
        ({"README.md": 2**20 + 1}, "", (), "files above 1,048,576 bytes: ['README.md']"),
        ({}, "", ("fusiform/notes.txt",), "f.whl holds more than the package: ['notes.txt']"),
        ({}, "", ("fusiform/tests/test_spec.py",), "more than the package: ['tests/test_spec.py']"),
        ({}, "", ("other/spec.py",), "more than the package: ['other/spec.py']"),
    ],
)
def test_a_release_holds_the_commit_and_nothing_else(
    tmp_path: Path,
    release: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, int],
    missing: str,
    wheel: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.setattr(release, "git", lambda *_: "\0".join((*COMMITTED, "")))
    sizes = dict.fromkeys((*COMMITTED, "PKG-INFO", "fusiform.egg-info/SOURCES.txt"), 1) | more
    sizes.pop(missing, None)
    made = archives(tmp_path, sizes, ("fusiform/engine/spec.py", *wheel))
    if said:
        with pytest.raises(SystemExit, match=re.escape(said)):
            release.check_contents(*made)
    else:
        release.check_contents(*made)


def test_only_a_clean_tree_is_built(release: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "git", lambda *_: " M README.md")
    monkeypatch.setattr("sys.argv", ["release.py"])
    with pytest.raises(SystemExit, match="the working tree must be clean"):
        release.main()


@pytest.mark.parametrize(
    ("tags", "heading", "said"),
    [
        ("v1.0\nstable", "2026-01-31", ""),
        ("v0.9", "2026-01-31", "HEAD must be tagged: git tag -a v1.0"),
        ("v1.0", "unreleased", "must have the heading: ## 1.0 (YEAR-MONTH-DAY)"),
    ],
)
def test_only_a_tagged_and_dated_version_is_published(
    tmp_path: Path,
    release: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tags: str,
    heading: str,
    said: str,
) -> None:
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## 1.0 ({heading})\n")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    monkeypatch.setattr(release, "git", lambda *_: tags)
    if said:
        with pytest.raises(SystemExit, match=re.escape(said)):
            release.check_published_state("1.0")
    else:
        release.check_published_state("1.0")
