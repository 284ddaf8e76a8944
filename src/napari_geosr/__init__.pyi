from .api.compare import compare as compare
from .api.consistency import check_consistency as check_consistency
from .api.explain import explain as explain
from .api.files import write as write
from .api.measure import measure_porosity as measure_porosity
from .api.models import list_models as list_models
from .api.models import load_model as load_model
from .api.pairs import build_pairs as build_pairs
from .api.plan import plan_scan as plan_scan
from .api.reconstruct import reconstruct as reconstruct
from .api.restore import restore as restore
from .api.restore import restore_blocks as restore_blocks
from .api.restore import restore_with_uncertainty as restore_with_uncertainty
from .api.sim import reconstruct_sim as reconstruct_sim
from .api.simulate import simulate as simulate
from .api.train import train as train
from .core.projections import Projections as Projections
from .core.volume import Volume as Volume
from .io import read as read
from .measure.comparison.report import QualityReport as QualityReport
from .measure.planning.result import ScanPlan as ScanPlan
from .measure.reports.report import PorosityReport as PorosityReport

__version__: str
