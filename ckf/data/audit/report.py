"""What the audit found: a line for each kind of leak, as JSON for machines and Markdown for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ckf.core.artifact_store import write_json
from ckf.core.errors import DataError

PASS, WARN, STOP = "pass", "warn", "stop"
LEVELS = (PASS, WARN, STOP)


@dataclass(frozen=True)
class Finding:
    """One check: ``count`` of ``of`` are affected, ``first`` names one of them, ``message`` explains it."""

    name: str
    level: str
    message: str
    count: float = 0
    of: int = 0
    first: str | None = None

    @property
    def share(self) -> float | None:
        """Affected share, None where there is nothing to count."""
        return self.count / self.of if self.of else None


@dataclass(frozen=True)
class AuditReport:
    """All lines of one audit, and under which protocol the examples were made."""

    lines: list[Finding]
    protocol: str

    @property
    def conclusion(self) -> str:
        """The worst level of all lines."""
        return max((line.level for line in self.lines), key=LEVELS.index, default=PASS)

    def of_level(self, level: str) -> list[Finding]:
        """The lines of one level."""
        return [line for line in self.lines if line.level == level]

    def __getitem__(self, name: str) -> Finding:
        return next(line for line in self.lines if line.name == name)

    def __contains__(self, name: str) -> bool:
        return any(line.name == name for line in self.lines)

    def summary(self) -> dict[str, Any]:
        """Level, count and first case by line: what the manifest keeps."""
        return {line.name: {"level": line.level, "count": line.count, "first": line.first} for line in self.lines}

    def headline(self) -> str:
        """One line for the terminal."""
        counts = {level: len(self.of_level(level)) for level in LEVELS}
        worst = ", ".join(line.name for line in self.lines if line.level != PASS)
        return f"{counts[PASS]} pass, {counts[WARN]} warn, {counts[STOP]} stop{f' ({worst})' if worst else ''}"

    def to_json(self) -> dict[str, Any]:
        """Machine-readable form: audit.json."""
        lines = [{**asdict(line), "share": line.share} for line in self.lines]
        return {"conclusion": self.conclusion, "protocol": self.protocol, "lines": lines}

    def to_markdown(self) -> str:
        """Readable form: audit.md, worst lines first."""
        text = f"# Audit: {self.conclusion}\n\nProtocol {self.protocol}; {self.headline()}.\n\n"
        rows = [("", "line", "count", "of", "share", "first", "explanation")]
        for level in reversed(LEVELS):
            for line in self.of_level(level):
                share = "" if line.share is None or not line.count else f"{line.share:.2%}"
                count = f"{line.count:,}" if isinstance(line.count, int) else f"{line.count:,.3f}"
                of = f"{line.of:,}" if line.of else ""
                first = (line.first or "").replace("|", r"\|")
                rows.append((level, line.name, count, of, share, first, line.message.replace("|", r"\|")))
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        shown = [[*(cell.ljust(width) for cell, width in zip(row[:6], widths, strict=True)), row[6]] for row in rows]
        rule = ["-" * width for width in (*widths, 12)]
        return text + "\n".join("| " + " | ".join(row) + " |" for row in (shown[0], rule, *shown[1:])) + "\n"


class LeakError(DataError):
    """The audit stops the run; ``report`` holds every line, and ``kept`` is the folder where it was written."""

    def __init__(self, report: AuditReport, kept: Path | None = None) -> None:
        self.report = report
        bad = [
            f"{line.name} {line.count:g}{f' of {line.of}' if line.of else ''}"
            f"{f' (first: {line.first})' if line.first else ''}"
            for line in report.of_level(STOP)
        ]
        more = f"{kept / 'audit.md'} has every line" if kept else "`ckf audit` with the same arguments explains"
        super().__init__(f"the audit found leaks: {'; '.join(bad)}; {more}")


def raise_on_violation(report: AuditReport) -> None:
    """Stop on any line of level stop.

    Raises:
        LeakError: names each kind with its count and first example.
    """
    if report.of_level(STOP):
        raise LeakError(report)


def write_audit(report: AuditReport, out: Path) -> None:
    """Write ``audit.json`` and ``audit.md`` to ``out``, which is made where it is missing."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "audit.json", report.to_json())
    (out / "audit.md").write_text(report.to_markdown(), encoding="utf-8")
