"""How far to believe a score: agreement with retraining."""

from upweight.evaluation.agreement import Agreement, agreement
from upweight.evaluation.verification import Verification, verify

__all__ = ["Agreement", "Verification", "agreement", "verify"]
