"""A metric's identity: what a figure is of. The flat keys of ``metrics.json`` are one rendering of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ckf.core.split_names import SPLITS

MODEL = "model"
_NAME = re.compile(
    r"(?P<metric>[^@\[\]]+?(?:@\d+)?)(?:\[(?P<protocol>[^\]]+)\])?(?:@(?P<slice>\w+?))?"
    r"(?:_(?P<statistic>(?:minus_[a-z]+_)?(?:low|high|p|p_holm|units)|minus_[a-z]+))?"
)


@dataclass(frozen=True, order=True)
class MetricIdentity:
    """What a figure is of; ``str`` renders it as a flat key, ``parse`` reads one.

    The key is ``[source/][split/][task/]metric[protocol][@slice][_statistic]``, e.g.
    ``cf/test/topk/ndcg@10[c10]@warm_3``. A key without a source is of the model. What no split was scored for has its
    group as the source (``cost/train_seconds``). ``statistic`` is empty for the metric itself; otherwise it is an end
    of an interval (``low``), a p-value (``p``, ``p_holm``), the number of users behind it (``units``) or a paired
    difference (``minus_text``, ``minus_text_low``).
    """

    source: str
    split: str
    task: str
    metric: str
    slice: str = ""
    protocol: str = ""
    statistic: str = ""

    @classmethod
    def parse(cls, key: str) -> MetricIdentity:
        """Read a flat key.

        Raises:
            ValueError: it has no metric.
        """
        *groups, name = key.split("/")
        parts = _NAME.fullmatch(name)
        if parts is None or len(groups) > 3:
            raise ValueError(f"'{key}' is no key of a metric, e.g. test/ctr/auc or cf/test/topk/hr@1[c10]")
        at = next((place for place, group in enumerate(groups[:2]) if group in SPLITS), None)
        if at is None:
            source, split, tasks = groups[0] if groups else MODEL, "", groups[1:]
        else:
            source, split, tasks = groups[0] if at else MODEL, groups[at], groups[at + 1 :]
        if len(tasks) > 1:
            raise ValueError(f"'{key}' is no key of a metric: '{tasks[0]}' and '{tasks[1]}' cannot both be its task")
        return cls(
            source, split, tasks[0] if tasks else "", **{name: text or "" for name, text in parts.groupdict().items()}
        )

    def __str__(self) -> str:
        source = "" if self.source == MODEL else self.source
        name = self.metric + (f"[{self.protocol}]" if self.protocol else "") + (f"@{self.slice}" if self.slice else "")
        name += f"_{self.statistic}" if self.statistic else ""
        return "/".join(filter(None, (source, self.split, self.task, name)))

    def of(self, source: str) -> MetricIdentity:
        """The same figure of another source."""
        return replace(self, source=source)

    @property
    def estimate(self) -> MetricIdentity:
        """The metric or difference that an interval's end or a p-value belongs to; itself where it is neither."""
        return replace(self, statistic=re.sub(r"_?(low|high|p|p_holm|units)$", "", self.statistic))

    def end(self, name: str) -> MetricIdentity:
        """The ``low`` or ``high`` end of this figure's interval, or its ``p``."""
        return replace(self, statistic="_".join(filter(None, (self.statistic, name))))
