"""Findings of ``fusiform doctor`` about made-up machines and this one; advice of ``plan``."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fusiform import cli
from fusiform.engine import machine
from fusiform.engine.doctor import checks, pace
from fusiform.engine.doctor.checks import Finding
from fusiform.engine.doctor.diagnose import guarded
from fusiform.engine.machine import Limits, Memory, control_group_limits
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.scanning.timing import Decoding, measure_decoding
from fusiform.kernels import jit

NO_LIMITS = Limits(None, None, 0)
GIB = 2**30


def files(root: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


# Control groups


def test_cgroup_v2_limits_are_the_tightest_up_to_the_root(tmp_path: Path) -> None:
    mount = files(
        tmp_path,
        {
            "job/cpu.max": "400000 100000",
            "job/step/cpu.max": "max 100000",
            "job/memory.max": str(8 * GIB),
            "job/memory.current": str(3 * GIB),
            "job/memory.stat": f"anon 5\ninactive_file {GIB}\nactive_file 7",
            "job/step/memory.max": "max",
            "job/step/memory.current": "12",
        },
    )
    assert control_group_limits(mount, "0::/job/step\n") == Limits(4.0, 8 * GIB, 2 * GIB)


def test_cgroup_v1_limits_are_read_per_controller(tmp_path: Path) -> None:
    mount = files(
        tmp_path,
        {
            "cpu,cpuacct/docker/cpu.cfs_quota_us": "150000",
            "cpu,cpuacct/docker/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/cpu.cfs_quota_us": "-1",
            "cpu,cpuacct/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": str(2 * GIB),
            "memory/memory.usage_in_bytes": str(GIB),
            "memory/memory.stat": f"total_inactive_file {GIB // 2}",
            "memory/elsewhere/memory.limit_in_bytes": "9223372036854771712",
            "memory/elsewhere/memory.usage_in_bytes": "0",
        },
    )
    membership = "4:memory:/elsewhere\n2:cpu,cpuacct:/docker\n1:name=systemd:/x\n"
    assert control_group_limits(mount, membership) == Limits(1.5, 2 * GIB, GIB // 2)


@pytest.mark.parametrize(
    ("maximum", "cores"),
    [("max 100000", None), ("200000 100000", 2.0), ("50000 100000", 0.5), ("1", None),
     ("0 0", None), ("-1 100000", None), ("rubbish", None), ("", None)],
)  # fmt: skip
def test_cpu_quotas_are_parsed(tmp_path: Path, maximum: str, cores: float | None) -> None:
    assert control_group_limits(files(tmp_path, {"cpu.max": maximum}), "0::/").cores == cores


def test_a_cgroup_outside_the_mounts_is_ignored(tmp_path: Path) -> None:
    mount = files(tmp_path / "mount", {"cpu.max": "100000 100000"})
    files(tmp_path, {"cpu.max": "1000 100000"})
    assert control_group_limits(mount, "0::/..\n0::/../../x\n").cores == 1.0
    assert control_group_limits(tmp_path / "nowhere", "rubbish\n") == NO_LIMITS


def test_cores_are_limited_by_affinity_and_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 9}, raising=False)
    assert machine.usable_cores(NO_LIMITS) == 3
    assert machine.usable_cores(Limits(1.5, None, 0)) == 1.5
    assert machine.usable_cores(Limits(64.0, None, 0)) == 3


# Memory


def test_available_memory_is_limited_by_the_cgroup() -> None:
    information = "MemTotal:  16777216 kB\nMemFree: 1 kB\nMemAvailable:  8388608 kB\nHugePages: 0"
    assert machine.memory(NO_LIMITS, information) == Memory(16 * GIB, 8 * GIB, None)
    assert machine.memory(Limits(None, 4 * GIB, GIB), information) == Memory(
        16 * GIB, 3 * GIB, 4 * GIB
    )
    assert machine.memory(Limits(None, GIB, 2 * GIB), information) == Memory(16 * GIB, 0, GIB)
    assert machine.memory(NO_LIMITS, "no such thing") is None


def test_little_memory_is_warned_of() -> None:
    assert checks.judge_memory(Memory(16 * GIB, 8 * GIB, None), {}).severity == "ok"
    little = checks.judge_memory(Memory(16 * GIB, GIB, 4 * GIB), {"MALLOC_ARENA_MAX": "2"})
    assert "limited to 4.00 GiB" in little.found
    assert "smaller batches" in little.advice
    assert "MALLOC_ARENA_MAX" in little.advice
    assert checks.judge_memory(None, {"MALLOC_ARENA_MAX": "2"}).severity == "unknown"


def test_environment_variables_of_the_allocator_are_named() -> None:
    known = Memory(16 * GIB, 8 * GIB, None)
    assert checks.judge_memory(known, {"HOME": "/", "NO_MALLOC_": "1"}).severity == "ok"
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        finding = checks.judge_memory(known, {name: "2"})
        assert finding.severity == "advice"
        assert name in finding.advice
        assert name in checks.judge_memory(None, {name: "2"}).advice
        assert f"unset {name}" in finding.advice


# Threads


@pytest.mark.parametrize(
    ("cores", "of_torch", "of_numba", "advice"),
    [
        (8, 8, 8, ""),
        (8, 4, 8, ""),  # one per core, not per hyperthread
        (1.5, 2, 2, ""),
        (2, 64, 64, "set OMP_NUM_THREADS=2 NUMBA_NUM_THREADS=2"),
        (2, 2, 64, "more threads than cores"),
        (0.5, 4, 4, "OMP_NUM_THREADS=1"),
        (16, 1, 16, "cores are left idle"),
        (8, 8, 2, "NUMBA_NUM_THREADS=8"),
    ],
)
def test_threads_fit_the_cores(cores: float, of_torch: int, of_numba: int, advice: str) -> None:
    finding = checks.judge_threads(cores, of_torch, of_numba, {})
    assert (finding.severity == "advice") == bool(advice)
    assert advice in finding.advice


_MAPS = """\
7f00-7f01 r-xp 00000000 fe:00 1  /site/torch/lib/libgomp.so.1
7f01-7f02 r--p 00000000 fe:00 1  /site/torch/lib/libgomp.so.1
7f02-7f03 r-xp 00000000 fe:00 2  /usr/lib/libgomp-a34b.so.1.0.0
7f03-7f04 r-xp 00000000 fe:00 3  /site/mine/libcompost.so
7f04-7f05 rw-p 00000000 00:00 0
"""


def test_openmp_runtimes_are_counted_once() -> None:
    assert checks.openmp_runtimes(_MAPS) == ["libgomp-a34b.so.1.0.0", "libgomp.so.1"]
    intel = _MAPS + "1-2 r-xp 0 0:0 4 /opt/my env/lib/libiomp5.so\n1-2 r 0 0:0 5 /x/libomp.dylib\n"
    assert len(checks.openmp_runtimes(intel)) == 4
    assert checks.openmp_runtimes("") == []


def test_openmp_runtimes_are_warned_of_only_where_they_cost_time() -> None:
    assert checks.judge_runtimes(_MAPS, "omp", {}).severity == "ok"
    assert checks.judge_runtimes(_MAPS, "tbb", {}).severity == "ok"


def test_a_slow_threading_layer_is_named_with_the_way_to_a_faster_one() -> None:
    missing = checks.judge_runtimes("", "workqueue", {})
    assert missing.found == "numba's layer workqueue, OpenMP: none found"
    assert "libgomp1" in missing.advice
    chosen = checks.judge_runtimes(_MAPS, "workqueue", {"NUMBA_THREADING_LAYER": "workqueue"})
    assert chosen.advice.endswith("unset NUMBA_THREADING_LAYER")


def test_thread_variables_are_reported() -> None:
    set_up = {"OMP_NUM_THREADS": "3", "HOME": "/", "MKL_NUM_THREADS": ""}
    assert checks.judge_threads(3, 3, 3, set_up).found.endswith(", numba 3, OMP_NUM_THREADS=3")
    assert checks.judge_threads(2.5, 2, 3, {}).found == "2.5 cores, torch 2, numba 3"


# Versions


def test_old_and_missing_libraries_are_faults() -> None:
    required = [
        "numpy>=2",
        "torch>=2.6",
        "zarr>=3.1",
        "obstore>=0.6; extra == 'cloud'",
        "python>=3.11",
    ]
    installed = {"numpy": "2.10.1", "torch": "2.10.0a0+cu128", "zarr": "3.1", "python": "3.11.0"}
    found = list(checks.judge_versions(required, installed))
    assert {f.severity for f in found} == {"ok"}
    assert any("torch 2.10.0a0+cu128" in f.found for f in found)
    for wrong, topic in (({"numpy": "1.26"}, "numpy"), ({"python": "3.10"}, "python")):
        *_, last = checks.judge_versions(required, {**installed, **wrong})
        assert (last.topic, last.severity) == (topic, "fault")
        assert next(iter(wrong.values())) in last.found
    *_, last = checks.judge_versions(["timm>=1.0.15"], {})
    assert last.found.startswith("missing")
    assert "pip install --upgrade 'timm>=1.0.15'" in last.advice


def test_this_installation_meets_every_requirement() -> None:
    assert {finding.severity for finding in checks.check_versions()} == {"ok"}


def test_a_library_that_does_not_load_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr(checks, "import_module", broken)
    (fault,) = [f for f in checks.check_versions() if f.severity == "fault"]
    assert fault.topic == "torchvision"
    assert fault.found.endswith("operator torchvision::nms does not exist")


# Devices


def test_devices_are_listed() -> None:
    assert checks.judge_processor("CPU", "AVX2").severity == "ok"
    assert checks.judge_no_gpu(False, None, "").severity == "ok"
    assert "built without" in checks.judge_no_gpu(True, None, "").found
    unfit = checks.judge_no_gpu(True, "12.8", "driver too old (found 11040)")
    assert unfit.advice.endswith("(CUDA 12.8) match: driver too old (found 11040)")
    assert checks.judge_gpu("GPU 0", "H100", True, (9, 0)).severity == "ok"
    assert "7.5" in checks.judge_gpu("GPU 0", "T4", False, (7, 5)).advice
    assert "install triton" in checks.judge_gpu("GPU 0", "H100", False, (9, 0)).advice


def test_a_device_that_cannot_be_used_is_a_fault() -> None:
    *_, last = checks.check_devices("mps:7")
    assert last.severity == "fault"
    assert "must be available" in last.advice


def test_processors_have_names() -> None:
    assert (
        machine.processor("processor: 0\nmodel name\t:  Some  CPU @ 2 GHz\n") == "Some CPU @ 2 GHz"
    )
    assert machine.processor("")


# Pace


def test_a_network_is_slow_where_ten_thousand_images_take_over_ten_minutes() -> None:
    assert pace.judge_network(17, "cpu") == Finding(
        "network", "ResNet-18 on cpu: 17 images/s", "", "ok"
    )
    slow = pace.judge_network(10_000 / 1200, "cpu")
    assert slow.severity == "advice"
    assert slow.advice.startswith("10,000 images take a ResNet-18 20 min here")


def test_decoding_is_slow_where_a_network_waits_for_it() -> None:
    assert pace.judge_decoding(95, 4, 100, 4).severity == "ok"  # the rest is noise
    slow = pace.judge_decoding(85, 4, 100, 4)
    assert slow.found == "85 JPEG images/s of 256 x 256 pixels by 4 threads"
    assert slow.advice.endswith("decode each set once with 'fusiform stimuli pack'")
    assert "more threads" not in slow.advice
    assert "more threads (`decode_workers=8`)" in pace.judge_decoding(85, 4, 100, 8).advice


def test_network_and_decoding_are_timed() -> None:
    network, decoding = pace.check_pace("cpu")
    for finding, named in ((network, "ResNet-18 on cpu: "), (decoding, "JPEG images/s")):
        assert named in finding.found
        assert finding.severity in ("ok", "advice")
    assert list(pace.check_pace("mps:7")) == []  # the check of devices says why


# Places


def test_file_systems_are_told_by_the_mount_nearest_to_the_folder() -> None:
    mounts = (
        "/dev/sda / ext4 rw 0 0\nserver:/x /mnt/my\\040share nfs4 rw 0 0\n"
        "tmpfs /mnt tmpfs rw 0 0\nnone /mnt overlay rw 0 0\nrubbish\n"
    )
    kinds = {
        "/home": "ext4", "/mnt": "overlay", "/mntx": "ext4", "/mnt/my share/deep": "nfs4",
    }  # fmt: skip
    for folder, kind in kinds.items():
        assert machine.file_system(Path(folder), mounts) == kind
    assert machine.file_system(Path("/home"), "") is None


def test_different_file_systems_are_warned_of() -> None:
    for kind, severity in (("ext4", "ok"), ("nfs4", "advice"), ("lustre", "advice"),
                           ("fuse.sshfs", "advice"), ("smb3", "advice"), ("tmpfs", "advice"),
                           (None, "ok")):  # fmt: skip
        finding = checks.judge_output(Path("out"), kind, 900e6, 9 * GIB)
        assert finding.severity == severity
        assert f"({kind or 'unknown file system'})" in finding.found


def test_slow_and_full_disks_are_warned_of() -> None:
    here = Path("out")
    assert checks.judge_output(here, "ext4", 900e6, 9 * GIB).severity == "ok"
    assert "local disk" in checks.judge_output(here, "ext4", 5e6, 9 * GIB).advice
    assert "make room" in checks.judge_output(here, "ext4", 900e6, GIB // 2).advice
    both = checks.judge_output(here, "nfs", 5e6, GIB // 2).advice
    assert all(said in both for said in ("make room", "local disk", "over a network"))


def test_the_output_folder_is_the_nearest_existing_one(tmp_path: Path) -> None:
    (tmp_path / "old.zarr").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/zarr.json").touch()
    for name in ("old.zarr", "new.zarr", "other", "a/b/c.zarr", "a", "."):
        assert checks.folder_for(tmp_path / name) == tmp_path


def test_the_trial_write_leaves_nothing_in_the_output(tmp_path: Path) -> None:
    (output,) = checks.check_output(str(tmp_path / "new.zarr"))
    assert "MB/s" in output.found
    assert output.severity != "fault"
    assert list(tmp_path.iterdir()) == []
    assert next(checks.check_output("s3://bucket/x.zarr")).severity == "unknown"


def test_an_output_that_cannot_be_written_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (fault,) = checks.check_output(str(tmp_path))
    assert fault.severity == "fault"
    assert "No space left on device" in fault.found
    assert list(tmp_path.iterdir()) == []


def test_the_kernel_cache_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jit.config, "CACHE_DIR", str(tmp_path / "kept"))
    assert next(checks.check_cache()).severity == "ok"
    (tmp_path / "file").touch()
    monkeypatch.setattr(jit.config, "CACHE_DIR", str(tmp_path / "file"))
    assert "NUMBA_CACHE_DIR" in next(checks.check_cache()).advice
    monkeypatch.setattr(jit.config, "CACHE_DIR", "")
    for name, value in {"HOME": "~", "XDG_CACHE_HOME": ""}.items():
        monkeypatch.setenv(name, value)
    assert "no home folder" in next(checks.check_cache()).found


# Pace


def advised(
    rate: float, network: float, workers: int = 2, side: int = 300, cores: float = 2
) -> str:
    return Decoding(rate, workers, side, 0, 96).advice(network, resize=256, cores=cores)


def test_advice_for_slow_decoding() -> None:
    assert advised(1000, 100) == ""
    assert advised(100, 1000) == ""  # it takes all cores
    assert advised(100, 1000, workers=8, cores=16) == "decode with 16 workers"
    large = advised(100, 1000, side=3000)
    assert "shorter side has 3000 pixels, 256 are used" in large
    assert "workers" not in large
    # More threads than cores, as where a quota hides them.
    assert "decode with 2 workers" in advised(1000, 100, workers=8)


@pytest.mark.parametrize("processes", [False, True])
def test_damaged_images_are_counted_and_not_timed(tmp_path: Path, processes: bool) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path in paths[:3]:
        Image.new("RGB", (60, 40)).save(path)
    paths[3].write_text("no image")
    small = Preprocessing(resize=32, crop=32)
    found = measure_decoding(paths, small, workers=2, processes=processes)
    assert (found.tried, found.failed, found.side, found.workers) == (4, 1, 40, 2)
    assert found.rate > 0


# The whole command


def test_a_failing_check_says_so_and_keeps_its_findings() -> None:
    def check() -> Iterator[Finding]:
        yield Finding("first", "found")
        raise OSError("no /proc\nhere")

    first, second = guarded("topic", check)
    assert first.found == "found"
    assert second == Finding("topic", "cannot be checked: OSError: no /proc", "", "unknown")


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def doctor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fusiform", "doctor", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code or 0, *capsys.readouterr()  # type: ignore[return-value]

    return run


def test_every_check_runs_on_this_machine(doctor: Command, tmp_path: Path) -> None:
    code, out, err = doctor("--json")
    assert code == 0, out
    found = {finding["topic"]: finding for finding in json.loads(out)}
    unknown = {topic for topic, finding in found.items() if finding["severity"] == "unknown"}
    assert unknown <= {"memory"}
    topics = {"fusiform", "libraries", "processor", "device", "threads", "memory", "output"}
    assert topics <= set(found)
    for finding in found.values():
        assert (finding["severity"] in ("ok", "unknown")) == (finding["advice"] == "")
        assert "\n" not in finding["found"] + finding["advice"]
    assert "checking: output" in err
    assert list(tmp_path.iterdir()) == []


def test_advice_is_a_line_under_the_table(doctor: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def made_up(*_: Any, **__: Any) -> Iterator[Finding]:
        yield Finding("good", "well")
        yield Finding("bad", "so\x1b[0m so", "do\nsomething", "advice")
        yield Finding("new", "not known", severity="unknown")

    monkeypatch.setattr("fusiform.engine.doctor.diagnose.doctor", made_up)
    code, out, err = doctor("-q")
    assert (code, err) == (0, "")
    assert out.splitlines()[2:] == [
        "good  ok           well",
        "bad   advice       so\\x1b[0m so",
        "new   not checked  not known",
        "",
        "bad: do\\nsomething",
    ]


def test_a_fault_that_prevents_scans_exits_with_1(
    doctor: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [Finding("output", "read-only", "give another", "fault")]
    monkeypatch.setattr("fusiform.engine.doctor.diagnose.doctor", lambda *_, **__: iter(faults))
    code, out, _ = doctor("-q")
    assert code == 1
    assert "output: give another" in out
    assert doctor("--json", "-q")[0] == 1


def test_a_clone_that_shadows_the_installed_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported, installed = tmp_path / "fusiform", tmp_path / "site-packages" / "fusiform"
    assert checks.judge_place(imported, installed).severity == "ok"  # by PYTHONPATH, on purpose
    monkeypatch.chdir(tmp_path)
    finding = checks.judge_place(imported, installed)
    assert f"from {imported}" in finding.found
    assert f"hides what is installed in {installed}: start elsewhere" in finding.advice
    assert checks.judge_place(imported, imported).severity == "ok"  # an editable install
    first = next(checks.check_versions())
    assert str(Path(checks.__file__).parents[2]) in first.found


def test_the_installation_path_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "fusiform-1.dist-info"
    folder.mkdir()
    distribution = checks.metadata.PathDistribution(folder)
    assert checks.installed_in(distribution) == tmp_path / "fusiform"
    origin = {"url": "file:///home/me/my%20clone", "dir_info": {"editable": True}}
    (folder / "direct_url.json").write_text(json.dumps(origin))
    assert checks.installed_in(distribution) == Path("/home/me/my clone")


@pytest.mark.parametrize(
    ("home", "found", "shown"),
    [
        ("/home/ada", "kept in /home/ada/.cache/fusiform", "kept in ~/.cache/fusiform"),
        ("/home/ada", "/home/ada (ext4)", "~ (ext4)"),
        ("/home/ada", "/home/adams, /mnt/home/ada/x", "/home/adams, /mnt/home/ada/x"),
        ("/", "/data (ext4)", "/data (ext4)"),
    ],
)
def test_the_home_folder_is_not_named(
    doctor: Command, monkeypatch: pytest.MonkeyPatch, home: str, found: str, shown: str
) -> None:
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(
        "fusiform.engine.doctor.diagnose.guarded",
        lambda topic, _: iter([Finding(topic, found, found, "advice")]),
    )
    code, out, _ = doctor("-q")
    assert code == 0
    assert out.count(shown) == 16  # eight checks, each with its advice
    if shown != found:
        assert found not in out
