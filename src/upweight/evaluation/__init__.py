"""How far to believe a score: agreement with counterfactual models, and detection of flipped labels.

Metrics gather by ``update``, any number of times, and judge by ``compute``, as those of torchmetrics do; their
results say how sure they are. Drivers (`verify`, `brittleness`, `calibrate`) make the counterfactual models too.
Scores are ``[queries, train]`` and large for helpful examples, as removal scores of a loss are; an `Attribution`
says itself which sign is helpful.
"""

from upweight.evaluation.agreement import Agreement, agreement
from upweight.evaluation.bootstrap import Bootstrap, Estimate, Interval
from upweight.evaluation.brittleness import Brittleness, brittleness
from upweight.evaluation.calibration import Calibration, calibrate
from upweight.evaluation.detection import MislabelDetection, MislabelResult
from upweight.evaluation.exported import as_dattri, export_truth
from upweight.evaluation.ground_truth import GroundTruth, ground_truth
from upweight.evaluation.lds import LDS, LDSResult
from upweight.evaluation.leave_one_out import LeaveOneOut, LeaveOneOutResult
from upweight.evaluation.metric import Metric
from upweight.evaluation.protocol import Protocol
from upweight.evaluation.query_loss import QueryLossRise, query_loss_rise
from upweight.evaluation.retrieval import AUPRC, MRR, RankingResult, RecallAtK
from upweight.evaluation.training import Training
from upweight.evaluation.verification import Verification, against_pbrf, against_retraining, verify

__all__ = [
    "AUPRC",
    "LDS",
    "MRR",
    "Agreement",
    "Bootstrap",
    "Brittleness",
    "Calibration",
    "Estimate",
    "GroundTruth",
    "Interval",
    "LDSResult",
    "LeaveOneOut",
    "LeaveOneOutResult",
    "Metric",
    "MislabelDetection",
    "MislabelResult",
    "Protocol",
    "QueryLossRise",
    "RankingResult",
    "RecallAtK",
    "Training",
    "Verification",
    "against_pbrf",
    "against_retraining",
    "agreement",
    "as_dattri",
    "brittleness",
    "calibrate",
    "export_truth",
    "ground_truth",
    "query_loss_rise",
    "verify",
]
