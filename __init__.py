"""fusiform: puts a vision network in the scanner and finds its category-selective units.

The names below are what the command line calls; everything else is reached through them. They are
loaded on first use, so that ``import fusiform`` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusiform.engine.analyses.analyse import Analysis as Analysis
    from fusiform.engine.analyses.analyse import analyse as analyse
    from fusiform.engine.bench.report import bench as bench
    from fusiform.engine.comparing.brains import compare_regions as compare_regions
    from fusiform.engine.comparing.differences import compare as compare
    from fusiform.engine.contrasts.language.criterion import Criterion as Criterion
    from fusiform.engine.contrasts.select import save_contrast as save_contrast
    from fusiform.engine.contrasts.summary import summarise as summarise
    from fusiform.engine.doctor.diagnose import diagnose as diagnose
    from fusiform.engine.doctor.forecast import forecast as forecast
    from fusiform.engine.errors import UserError as UserError
    from fusiform.engine.localizer import make_localizer as make_localizer
    from fusiform.engine.merge import merge_stores as merge_stores
    from fusiform.engine.networks.backbones import load_backbone as load_backbone
    from fusiform.engine.networks.layers import list_layers as list_layers
    from fusiform.engine.networks.lesion import lesion as lesion
    from fusiform.engine.preprocessing import Preprocessing as Preprocessing
    from fusiform.engine.querying.info import describe_store as describe_store
    from fusiform.engine.querying.result import Result as Result
    from fusiform.engine.querying.result import open_store as open_store
    from fusiform.engine.recording.record import record as record
    from fusiform.engine.recording.unit_request import UnitRequest as UnitRequest
    from fusiform.engine.reporting.report import write_report as write_report
    from fusiform.engine.responses.recording import Recording as Recording
    from fusiform.engine.responses.recording import open_recording as open_recording
    from fusiform.engine.scanning.pack import pack_stimuli as pack_stimuli
    from fusiform.engine.scanning.scan import scan as scan
    from fusiform.engine.spec import Design as Design
    from fusiform.engine.spec import Network as Network
    from fusiform.engine.spec import Resources as Resources
    from fusiform.engine.spec import Stimuli as Stimuli
    from fusiform.engine.stimuli.check import check_stimuli as check_stimuli
    from fusiform.engine.stimuli.scramble import scramble_directory as scramble_directory
    from fusiform.engine.store.check import check_store as check_store

_HOME = {
    "Analysis": "analyses.analyse",
    "Criterion": "contrasts.language.criterion",
    "Design": "spec",
    "Network": "spec",
    "Preprocessing": "preprocessing",
    "Recording": "responses.recording",
    "Resources": "spec",
    "Result": "querying.result",
    "Stimuli": "spec",
    "UnitRequest": "recording.unit_request",
    "UserError": "errors",
    "analyse": "analyses.analyse",
    "bench": "bench.report",
    "check_stimuli": "stimuli.check",
    "check_store": "store.check",
    "compare": "comparing.differences",
    "compare_regions": "comparing.brains",
    "describe_store": "querying.info",
    "diagnose": "doctor.diagnose",
    "forecast": "doctor.forecast",
    "lesion": "networks.lesion",
    "list_layers": "networks.layers",
    "load_backbone": "networks.backbones",
    "make_localizer": "localizer",
    "merge_stores": "merge",
    "open_recording": "responses.recording",
    "open_store": "querying.result",
    "pack_stimuli": "scanning.pack",
    "record": "recording.record",
    "save_contrast": "contrasts.select",
    "scan": "scanning.scan",
    "scramble_directory": "stimuli.scramble",
    "summarise": "contrasts.summary",
    "write_report": "reporting.report",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("fusiform")
    if name not in _HOME:
        raise AttributeError(f"module 'fusiform' has no attribute {name!r}")
    return getattr(import_module(f"fusiform.engine.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
