"""The Lightning module: one loss over both streams, two parameter groups, nothing of the model itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from ckf.config.schema import TrainConfig
from ckf.errors import CkfError
from ckf.model.recommender import Recommender
from ckf.train.curriculum import Curriculum, Stream
from ckf.train.data import StepBatch


class FineTuning(pl.LightningModule):
    """Trains adapters and fusion by the curriculum's routing table."""

    def __init__(self, model: Recommender, curriculum: Curriculum, cfg: TrainConfig, seed: int) -> None:
        super().__init__()
        self.model, self.curriculum, self.cfg, self.seed = model, curriculum, cfg, seed
        self.strict_loading = False  # the frozen backbone is not in the checkpoint
        self.history_cut = 0

    def on_train_batch_start(self, batch: StepBatch, batch_idx: int) -> None:
        """Dropout is a function of (seed, step, rank), so a resumed run draws what the unbroken one did."""
        torch.manual_seed(hash((self.seed, batch.step, batch_idx, self.global_rank)) % 2**63)

    def training_step(self, batch: StepBatch, batch_idx: int) -> Tensor:
        """Sum over streams and buckets of weighted answer-token losses."""
        streams = self.curriculum.streams(batch.step)
        losses = self._shared_losses(batch) if batch.shared else [self._stream_loss(batch, x) for x in streams]
        total = torch.zeros((), device=self.device)
        for stream, loss in zip(streams, losses, strict=True):
            total = total + stream.weight * loss
            self._log("loss_cf" if stream.slots else "loss_text", loss.detach())
        if not torch.isfinite(total):
            rows = ", ".join(batch.example_ids[:8])
            raise CkfError(
                f"step {batch.step}: the loss is {total.item()}; lower train.learning_rate or "
                f"train.fusion_learning_rate. First of {len(batch.example_ids)} examples: {rows}"
            )
        self.history_cut += batch.history_cut
        self._log("loss", total.detach())
        self._log("padding", batch.padding)
        self._log("weight_text", self.curriculum.text_weight(batch.step))
        return total + self._nothing_for_resting(batch.step)

    def _stream_loss(self, batch: StepBatch, stream: Stream) -> Tensor:
        loss = torch.zeros((), device=self.device)
        for prompts in batch.prompts[stream.slots]:
            log_probability = self.model(
                prompts, learn_adapters=stream.learn_adapters, learn_fusion=stream.learn_fusion
            )
            loss = loss - (log_probability * prompts.answer_weights).sum()
        return loss

    def _shared_losses(self, batch: StepBatch) -> list[Tensor]:
        """Losses of the text and of the slot stream, their prefix computed once."""
        of_text = of_slots = torch.zeros((), device=self.device)
        for text, branch in zip(batch.prompts[False], batch.prompts[True], strict=True):
            text_log_probability, slot_log_probability = self.model.two_streams(text, branch)
            of_text = of_text - (text_log_probability * text.answer_weights).sum()
            of_slots = of_slots - (slot_log_probability * branch.answer_weights).sum()
        return [of_text, of_slots]

    def _parts(self) -> dict[str, list[torch.nn.Parameter]]:
        return {"adapters": self.model.adapter_parameters(), "fusion": self.model.fusion_parameters()}

    def _resting(self, step: int) -> list[torch.nn.Parameter]:
        """Parameters that learn nothing in this step."""
        parts = self._parts().values()
        return [p for part, rests in zip(parts, self.curriculum.resting(step), strict=True) if rests for p in part]

    def _nothing_for_resting(self, step: int) -> Tensor:
        """Zero, with the resting parameters in its graph: DDP waits for the gradient of every parameter."""
        zero = torch.zeros((), device=self.device)
        for parameter in self._resting(step):
            zero = zero + 0.0 * parameter.sum()
        return zero

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Parameters at rest are not stepped (no decay, no momentum); note who gets the gradient."""
        for parameter in self._resting(self.global_step):
            parameter.grad = None
        norms = {name: gradient_norm(part) for name, part in self._parts().items() if part}
        total = sum(norms.values())
        for name, norm in norms.items():
            self._log(f"grad_norm_{name}", norm)
            self._log(f"grad_share_{name}", norm / total if total > 0 else 0.0)

    def _log(self, name: str, value: Any) -> None:
        self.log(f"train/{name}", value, prog_bar=name.startswith("loss"), batch_size=1, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW; adapters and fusion have their own learning rates, schedules are in optimizer steps."""
        groups = [
            {"params": self.model.adapter_parameters(), "lr": self.cfg.learning_rate},
            {"params": self.model.fusion_parameters(), "lr": self.cfg.fusion_learning_rate},
        ]
        factors = [self._rate(0), self._rate(1)]
        kept = [(g, f) for g, f in zip(groups, factors, strict=True) if g["params"]]
        optimizer = torch.optim.AdamW([g for g, _ in kept], weight_decay=self.cfg.weight_decay, eps=self.cfg.adam_eps)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, [f for _, f in kept])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _rate(self, group: int) -> Callable[[int], float]:
        def factor(step: int) -> float:
            first, length = self.curriculum.stage(step)
            schedule = schedule_factor(self.cfg, step - first, length)
            return schedule * self.curriculum.rate_factors(step)[group]

        return factor

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained; the frozen backbone is found by its path."""
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        checkpoint["state_dict"] = {
            name: value
            for name, value in checkpoint["state_dict"].items()
            if name in trained or name.startswith("model.fusion.")
        }


def gradient_norm(parameters: Sequence[torch.nn.Parameter]) -> float:
    """Euclidean norm of the gradients of all parameters together; 0 where there is none."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0


def schedule_factor(cfg: TrainConfig, step: int, total: int) -> float:
    """Linear warm-up, then constant, linear or cosine decay to zero. In units of the base rate."""
    warmup = max(1, round(cfg.warmup_fraction * total))
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    match cfg.schedule:
        case "constant":
            return 1.0
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
    return 1.0 - done
