"""Training loop of the torch models: seeded batches, and the epoch with the highest first val figure is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ckf.core.rng import generator_for

OnEpoch = Callable[[dict[str, float]], None]
"""Called with the figures of each epoch as it ends."""


@dataclass(frozen=True)
class Schedule:
    """Training settings: epochs, epochs without a better val figure before the end, rows of a batch, of AdamW."""

    epochs: int
    patience_epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0  # of what is no embedding (AdamW); embeddings have their own penalty


@dataclass
class FitResult:
    """Result of a fit: the best epoch, its val figures and those of every epoch."""

    epoch: int = 0
    epochs_run: int = 0
    best: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def fit(
    net: nn.Module,
    batches: Callable[[np.random.Generator], Iterator[np.ndarray]],
    loss: Callable[[Tensor], Tensor],
    evaluate: Callable[[], dict[str, float]],
    schedule: Schedule,
    seed: int,
    name: str,
    on_epoch: OnEpoch | None = None,
) -> FitResult:
    """Train ``net`` in place and leave it at its best epoch.

    ``batches`` yields the row numbers of an epoch's batches from a generator named by the epoch; ``loss``
    maps row numbers to a scalar; ``evaluate`` gives the val figures, of which the first decides.
    The start, before the first step, counts as epoch 0.
    """
    device = next(net.parameters()).device
    optimizers, parameters = _optimizers(net, schedule), list(net.parameters())
    fitted = FitResult(best=evaluate())
    decides = next(iter(fitted.best))
    state = _state(net)
    bar = tqdm(range(1, schedule.epochs + 1), desc=f"training {name}", unit="epoch", mininterval=1.0)
    with torch.random.fork_rng(devices=[]):
        for epoch in bar:
            torch.manual_seed(int(generator_for(seed, f"{name} dropout {epoch}").integers(2**62)))
            net.train()
            total, rows_met = torch.zeros((), device=device), 0
            for rows in batches(generator_for(seed, f"{name} epoch {epoch}")):
                for parameter in parameters:
                    parameter.grad = None
                value = loss(torch.from_numpy(rows).to(device))
                value.backward()
                for optimizer in optimizers:
                    optimizer.step()
                total += value.detach() * len(rows)
                rows_met += len(rows)
            net.eval()
            figures = evaluate()
            fitted.history.append({"epoch": epoch, "train_loss": round(float(total) / max(1, rows_met), 6), **figures})
            if on_epoch:
                on_epoch(fitted.history[-1])
            bar.set_postfix({key: f"{value:.4f}" for key, value in figures.items()}, refresh=False)
            fitted.epochs_run = epoch
            if figures[decides] > fitted.best[decides] + 1e-5:
                fitted.best, fitted.epoch, state = figures, epoch, _state(net)
            elif epoch - fitted.epoch >= schedule.patience_epochs:
                break
    bar.close()
    net.load_state_dict(state)
    net.eval().requires_grad_(False)
    return fitted


def shuffled(
    rows: np.ndarray, batch_size: int, groups: np.ndarray | None = None
) -> Callable[[np.random.Generator], Iterator[np.ndarray]]:
    """Batches of ``rows`` in a new order every epoch; with ``groups`` (of all rows), each of one group alone."""
    members = [rows] if groups is None else [rows[groups[rows] == group] for group in np.unique(groups[rows])]

    def draw(generator: np.random.Generator) -> Iterator[np.ndarray]:
        parts = [
            order[start : start + batch_size]
            for order in (generator.permutation(mine) for mine in members)
            for start in range(0, len(order), batch_size)
        ]
        yield from parts if groups is None else (parts[number] for number in generator.permutation(len(parts)))

    return draw


def _optimizers(net: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    tables = [module.weight for module in net.modules() if isinstance(module, nn.Embedding)]
    sparse = [module.weight for module in net.modules() if isinstance(module, nn.Embedding) and module.sparse]
    dense = [weight for weight in tables if not any(weight is other for other in sparse)]
    rest = [p for p in net.parameters() if p.requires_grad and not any(p is weight for weight in tables)]
    groups = [{"params": dense, "weight_decay": 0.0}, {"params": rest, "weight_decay": schedule.weight_decay}]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([group for group in groups if group["params"]], lr=schedule.learning_rate, fused=True)
    ]
    if sparse:
        found.append(torch.optim.SparseAdam(sparse, lr=schedule.learning_rate))
    return found


def _state(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}
