"""Multi-LoRA for mixed batches: the adapters of all roles stacked along the rank and selected for each row.

For a projection ``W`` with adapters ``(A_k, B_k, s_k)`` a row of task ``t`` gets

    y = W x + sum over k in {shared, t} of  s_k B_k A_k x

(LoRA: Hu et al. 2021, eq. 3; ``s = alpha / r``, with rslora ``alpha / sqrt(r)``). The stack computes
``A x`` for all adapters at once, zeroes the ranks of other tasks' adapters, and applies the stacked ``B``.
Every adapter takes part in every step, so distributed training needs no search for unused parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHARED = "shared"


@dataclass(frozen=True)
class AdapterSpec:
    """One adapter: ``name`` is ``shared`` or a task's. Fields mean what PEFT's of the same name mean."""

    name: str
    rank: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]
    rslora: bool = False

    @property
    def scale(self) -> float:
        """The factor on ``B A x``."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def targets(self, module: str) -> bool:
        """Whether the adapter targets the module of this dotted name; a target is the end of such a name."""
        return any(f".{module}".endswith(f".{target}") for target in self.target_modules)


class AdapterRouting:
    """State of a forward pass that all adapted layers share: the rows' tasks, and whether adapters learn."""

    def __init__(self) -> None:
        self.task_index: Tensor | None = None  # [B]
        self.learn = True
        self._gates: dict[tuple[tuple[int, float], ...], Tensor] = {}

    def route(self, task_index: Tensor) -> None:
        """Set the tasks [B] of the rows of the next passes."""
        self.task_index, self._gates = task_index, {}

    def gate(self, layer: MultiLoraLinear) -> Tensor:
        """Factor [B, 1, R] on each rank of a layer: its adapter's scale, or 0 where the row has another task.

        Computed once a pass for all layers with the same adapters.

        Raises:
            RuntimeError: the rows' tasks are not set.
        """
        if self.task_index is None:
            raise RuntimeError("the rows' tasks are not set; call the model through Recommender.forward")
        if layer.layout not in self._gates:
            mine = (layer.lora_task < 0) | (layer.lora_task == self.task_index[:, None])
            self._gates[layer.layout] = (mine * layer.lora_scale).unsqueeze(1)
        return self._gates[layer.layout]

    def checkpoint_contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts of a checkpointed layer's forward pass and of its recomputation.

        The recomputation happens in the backward pass, when other batches may have gone through the model. It
        needs the tasks and the ``learn`` of its own forward pass.
        """
        return nullcontext(), self._restored(dict(vars(self)))

    @contextmanager
    def _restored(self, state: dict[str, object]) -> Iterator[None]:
        now = dict(vars(self))
        vars(self).update(state)
        try:
            yield
        finally:
            vars(self).update(now)


class MultiLoraLinear(nn.Module):
    """A frozen linear layer (plain or quantised) with the stacked adapters of all roles that target it.

    ``task_of`` is the task index of each adapter, or -1 for all tasks. Only ``in_features``, ``out_features`` and
    a call of ``base`` are used, because a quantised layer's weight has another shape.
    """

    lora_scale: Tensor
    lora_task: Tensor

    def __init__(
        self, base: nn.Linear, adapters: Sequence[AdapterSpec], task_of: Sequence[int], routing: AdapterRouting
    ):
        super().__init__()
        self.base = base
        self.adapters = list(adapters)
        self.routing = routing
        ranks = [adapter.rank for adapter in adapters]
        self.lora_a = nn.Parameter(torch.empty(sum(ranks), base.in_features, dtype=torch.float32))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, sum(ranks), dtype=torch.float32))
        for block in self.lora_a.data.split(ranks):
            nn.init.kaiming_uniform_(block, a=math.sqrt(5))
        # consecutive adapters with the same rate share a dropout mask; usually there is one group
        groups = [(rate, list(group)) for rate, group in groupby(adapters, key=lambda adapter: adapter.dropout)]
        self.dropouts = nn.ModuleList(nn.Dropout(rate) for rate, _ in groups)
        self.group_ranks = [sum(adapter.rank for adapter in group) for _, group in groups]
        scale = [a.scale for a in adapters for _ in range(a.rank)]
        task = [t for a, t in zip(adapters, task_of, strict=True) for _ in range(a.rank)]
        self.layout = tuple(zip(task, scale, strict=True))
        self.register_buffer("lora_scale", torch.tensor(scale, dtype=torch.float32), persistent=False)
        self.register_buffer("lora_task", torch.tensor(task), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, in] -> [B, T, out]."""
        gate = self.routing.gate(self)
        learn = self.routing.learn  # without it gradients still flow to x, and so to the slots
        a = self.lora_a if learn else self.lora_a.detach()
        b = self.lora_b if learn else self.lora_b.detach()
        y = self.base(x)
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(a.dtype)
        groups = zip(self.dropouts, a.split(self.group_ranks), strict=True)
        parts = [F.linear(dropout(x), block) for dropout, block in groups]
        h = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return y + F.linear(h * gate.to(h.dtype), b).to(y.dtype)

    def weights_of(self, name: str) -> tuple[Tensor, Tensor]:
        """One adapter's ``A`` [r, in] and ``B`` [out, r], as views of the stack."""
        start = 0
        for adapter in self.adapters:
            if adapter.name == name:
                stop = start + adapter.rank
                return self.lora_a[start:stop], self.lora_b[:, start:stop]
            start += adapter.rank
        raise KeyError(name)


def inject_lora(
    model: nn.Module, adapters: Sequence[AdapterSpec], tasks: Sequence[str], routing: AdapterRouting
) -> dict[str, MultiLoraLinear]:
    """Replace every targeted linear layer of ``model`` in place, and return the new layers by module name.

    Raises:
        ValueError: a target that matches no linear layer, or the vocabulary projection (it may be tied
            to the embeddings, and goes over answer positions alone).
    """
    output = getattr(model, "get_output_embeddings", lambda: None)()
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    linear = {name: module for name, module in linear.items() if module is not output}
    for adapter in adapters:
        for target in adapter.target_modules:
            if not any(f".{name}".endswith(f".{target}") for name in linear):
                ends = sorted({name.rsplit(".", 1)[-1] for name in linear})
                raise ValueError(f"lora: no projection is called '{target}'; this backbone has {', '.join(ends)}")
    layers: dict[str, MultiLoraLinear] = {}
    for name, module in linear.items():
        mine = [adapter for adapter in adapters if adapter.targets(name)]
        if mine:
            task_of = [-1 if adapter.name == SHARED else list(tasks).index(adapter.name) for adapter in mine]
            layers[name] = MultiLoraLinear(module, mine, task_of, routing)
            model.set_submodule(name, layers[name])
    return layers
