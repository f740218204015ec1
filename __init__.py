"""fusiform: puts a vision network in the scanner and finds its category-selective units.

Functions have the names of the commands that call them. They are loaded on first use, so that
``import fusiform`` stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusiform import plot as plot
    from fusiform.engine.analyses.analyse import Analysis as Analysis
    from fusiform.engine.analyses.analyse import analyse as analyse
    from fusiform.engine.bench.report import bench as bench
    from fusiform.engine.comparing.brains.compare import compare_regions as compare_regions
    from fusiform.engine.comparing.differences import compare as compare
    from fusiform.engine.comparing.localizers import compare_localizers as compare_localizers
    from fusiform.engine.contrasts.language.criterion import Criterion as Criterion
    from fusiform.engine.contrasts.lesion_request import LesionRequest as LesionRequest
    from fusiform.engine.contrasts.select import save_contrast as save_contrast
    from fusiform.engine.contrasts.summary import summary as summary
    from fusiform.engine.doctor.diagnose import doctor as doctor
    from fusiform.engine.doctor.forecast import plan as plan
    from fusiform.engine.errors import UserError as UserError
    from fusiform.engine.lesions.measure import measure_lesions as measure_lesions
    from fusiform.engine.lesions.result import LesionEffects as LesionEffects
    from fusiform.engine.localizer import make_stimuli as make_stimuli
    from fusiform.engine.merge import merge as merge
    from fusiform.engine.networks.backbones import load_backbone as load_backbone
    from fusiform.engine.networks.hooks import lesion as lesion
    from fusiform.engine.networks.layers import layers as layers
    from fusiform.engine.networks.libraries.architecture import Architecture as Architecture
    from fusiform.engine.preprocessing import Preprocessing as Preprocessing
    from fusiform.engine.querying.info import info as info
    from fusiform.engine.querying.store import Store as Store
    from fusiform.engine.querying.store import open_store as open_store
    from fusiform.engine.recording.record import record as record
    from fusiform.engine.recording.unit_request import UnitRequest as UnitRequest
    from fusiform.engine.reporting.report import report as report
    from fusiform.engine.responses.recording import Recording as Recording
    from fusiform.engine.responses.recording import open_recording as open_recording
    from fusiform.engine.scan import scan as scan
    from fusiform.engine.scanning.pack import pack_stimuli as pack_stimuli
    from fusiform.engine.scanning.progress import Listener as Listener
    from fusiform.engine.spec import Design as Design
    from fusiform.engine.spec import Network as Network
    from fusiform.engine.spec import Resources as Resources
    from fusiform.engine.spec import Stimuli as Stimuli
    from fusiform.engine.stimuli.check import check_stimuli as check_stimuli
    from fusiform.engine.stimuli.scramble import scramble_stimuli as scramble_stimuli
    from fusiform.engine.store.check import check as check
    from fusiform.engine.store.writing.archiving import archive as archive

# Public name -> module of the engine.
_HOME = {
    "Analysis": "analyses.analyse",
    "Architecture": "networks.libraries.architecture",
    "Criterion": "contrasts.language.criterion",
    "Design": "spec",
    "LesionEffects": "lesions.result",
    "LesionRequest": "contrasts.lesion_request",
    "Listener": "scanning.progress",
    "Network": "spec",
    "Preprocessing": "preprocessing",
    "Recording": "responses.recording",
    "Resources": "spec",
    "Stimuli": "spec",
    "Store": "querying.store",
    "UnitRequest": "recording.unit_request",
    "UserError": "errors",
    "analyse": "analyses.analyse",
    "archive": "store.writing.archiving",
    "bench": "bench.report",
    "check": "store.check",
    "check_stimuli": "stimuli.check",
    "compare": "comparing.differences",
    "compare_localizers": "comparing.localizers",
    "compare_regions": "comparing.brains.compare",
    "doctor": "doctor.diagnose",
    "info": "querying.info",
    "layers": "networks.layers",
    "lesion": "networks.hooks",
    "load_backbone": "networks.backbones",
    "make_stimuli": "localizer",
    "measure_lesions": "lesions.measure",
    "merge": "merge",
    "open_recording": "responses.recording",
    "open_store": "querying.store",
    "pack_stimuli": "scanning.pack",
    "plan": "doctor.forecast",
    "record": "recording.record",
    "report": "reporting.report",
    "save_contrast": "contrasts.select",
    "scan": "scan",
    "scramble_stimuli": "stimuli.scramble",
    "summary": "contrasts.summary",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    from importlib import import_module, metadata

    if name == "__version__":
        return metadata.version("fusiform")
    if name == "plot":
        return import_module("fusiform.plot")
    if name not in _HOME:
        raise AttributeError(f"module 'fusiform' has no attribute {name!r}")
    from fusiform.engine.imports import uncollected

    with uncollected():
        return getattr(import_module(f"fusiform.engine.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
