"""Proof that nothing leaks: every dataset and its examples are looked through, line by line.

A line passes, warns (a fact of the data or the protocol that a reader should know) or stops the run.
"""

from ckf.data.audit.report import AuditReport, Finding, LeakError, raise_on_violation, write_audit
from ckf.data.audit.run import audit, audit_artifacts

__all__ = [
    "AuditReport",
    "Finding",
    "LeakError",
    "audit",
    "audit_artifacts",
    "raise_on_violation",
    "write_audit",
]
