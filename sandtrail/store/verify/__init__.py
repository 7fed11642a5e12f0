"""Whether a store still is what was signed: the numbered procedure is in `procedure`, each part of it in a file."""

from sandtrail.store.heads import remember_head
from sandtrail.store.verify.procedure import Mode, verify
from sandtrail.store.verify.report import Affected, Finding, Report

__all__ = ["Affected", "Finding", "Mode", "Report", "remember_head", "verify"]
