"""The Lightning module: one loss over both streams, two parameter groups, nothing of the model itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from ckf.config.schema import TrainConfig
from ckf.core.errors import CkfError
from ckf.model.recommender import Recommender
from ckf.prompts.batch import PromptBatch
from ckf.train.batching.batches import StepBatch
from ckf.train.curriculum import Curriculum, Stream
from ckf.train.distributed.fsdp import leave_to_shards, shard_layers

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
_ADVICE = "lower train.learning_rate or train.fusion_learning_rate"


class FineTuning(pl.LightningModule):
    """Trains adapters and fusion by the curriculum's routing table."""

    def __init__(
        self, model: Recommender, curriculum: Curriculum, cfg: TrainConfig, seed: int, *, sharded: bool = False
    ) -> None:
        super().__init__()
        self.model, self.curriculum, self.cfg, self.seed = model, curriculum, cfg, seed
        self.strict_loading = False  # the frozen backbone is not in the checkpoint
        self.history_cut = 0
        self.examples: list[str] = []
        self.sharded = sharded

    def configure_model(self) -> None:
        """Cut the backbone over the processes, where that is asked for; they are connected by now."""
        if self.sharded:
            shard_layers(self.model, self.trainer.strategy.root_device, self.trainer.world_size)
            leave_to_shards(self)

    def on_train_batch_start(self, batch: StepBatch, batch_idx: int) -> None:
        """Dropout is a function of (seed, step, rank), so a resumed run draws what the unbroken one did."""
        torch.manual_seed(hash((self.seed, batch.step, batch_idx, self.global_rank)) % 2**63)
        if batch_idx % self.cfg.accumulation_steps == 0:
            self.zero_grad(set_to_none=True)

    def optimizer_zero_grad(self, *args: Any) -> None:
        """Not here, where Lightning would do it: between `training_step`, which leaves gradients, and its backward."""

    def training_step(self, batch: StepBatch, batch_idx: int) -> Tensor:
        """Sum over streams and buckets of weighted answer-token losses.

        Each pass goes backward before the next one goes forward, so memory holds the graph of one pass. What
        Lightning (and DDP, which waits for the gradient of every parameter) takes backward after it is the sum
        with zeros for a graph.
        """
        try:
            return self._step(batch)
        except (RuntimeError, MemoryError) as error:  # torch's own for GPUs is a RuntimeError too
            if not any(sign in str(error) for sign in _NO_MEMORY) and not isinstance(error, MemoryError):
                raise
            raise CkfError(
                f"step {batch.step}: out of memory with {len(batch.example_ids)} examples at a time "
                f"({batch.tokens:,} tokens); raise train.accumulation_steps or train.length_buckets, set "
                "train.gradient_checkpointing=true, or lower train.max_length_tokens"
            ) from None

    def _step(self, batch: StepBatch) -> Tensor:
        total, by_stream = torch.zeros((), device=self.device), dict[str, Tensor]()
        passes: list[tuple[PromptBatch, Tensor]] = []
        for stream, prompts, log_probability in self._passes(batch):
            loss = -(log_probability * prompts.answer_weights).sum()
            name = "loss_cf" if stream.slots else "loss_text"
            by_stream[name] = by_stream.get(name, 0.0) + loss.detach()
            passes.append((prompts, log_probability.detach()))
            self._backward(stream.weight * loss)
            total = total + stream.weight * loss.detach()
        if not torch.isfinite(total):
            raise CkfError(self._not_finite(batch, passes, float(total)))
        self.examples, self.history_cut = batch.example_ids, self.history_cut + batch.history_cut
        for name, value in {**by_stream, "loss": total.detach()}.items():
            self._log(name, value)
        self._log("padding", batch.padding)
        self._log("weight_text", self.curriculum.text_weight(batch.step))
        return total + self._nothing()

    def _passes(self, batch: StepBatch) -> Iterator[tuple[Stream, PromptBatch, Tensor]]:
        """The step's forward passes: stream, prompts and their answers' log-probabilities."""
        streams = self.curriculum.streams(batch.step)
        if batch.shared_prefix:
            text, slots = streams
            for texts, branches in batch.groups():
                of_each = [text] * len(texts) + [slots] * len(branches)
                yield from zip(
                    of_each, [*texts, *branches], self.model.forward_shared_prefix(texts, branches), strict=True
                )
            return
        for stream in streams:
            learners = {"learn_adapters": stream.learn_adapters, "learn_fusion": stream.learn_fusion}
            for prompts in batch.prompts[stream.slots]:
                yield stream, prompts, self.model(prompts, **learners)

    def _backward(self, loss: Tensor) -> None:
        if not loss.requires_grad:  # a stream that nobody here learns from, e.g. text without adapters
            return
        with torch.autocast(self.device.type, enabled=False):
            (loss / self.cfg.accumulation_steps).backward()

    def _not_finite(self, batch: StepBatch, passes: list[tuple[PromptBatch, Tensor]], loss: float) -> str:
        rows = [p.example_ids[row] for p, x in passes for row in p.answer_rows[~torch.isfinite(x)].unique().tolist()]
        named = ", ".join(dict.fromkeys(rows or batch.example_ids[:8]))
        return f"step {batch.step}: the loss is {loss} (examples: {named}); {self._largest_gradient()}; {_ADVICE}"

    def _largest_gradient(self) -> str:
        """The parameter with the largest gradient, one that is not a number first."""
        norms = {n: float(p.grad.norm()) for n, p in self.model.named_parameters() if p.grad is not None}
        if not norms:
            return "there is no gradient yet"
        name = max(norms, key=lambda n: (math.isnan(norms[n]), norms[n]))
        return f"the largest gradient is {norms[name]:.3g}, of {name}"

    def _parts(self) -> dict[str, list[torch.nn.Parameter]]:
        return {"adapters": self.model.adapter_parameters(), "fusion": self.model.fusion_parameters()}

    def _frozen_parameters(self, step: int) -> list[torch.nn.Parameter]:
        """Parameters that learn nothing in this step."""
        parts = self._parts().values()
        return [p for part, rests in zip(parts, self.curriculum.frozen_parts(step), strict=True) if rests for p in part]

    def _nothing(self) -> Tensor:
        """Zero, with every parameter in its graph."""
        zero: Tensor = _Nothing.apply(*(p for part in self._parts().values() for p in part))
        return zero

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Parameters at rest are not stepped (no decay, no momentum); note who gets the gradient."""
        for parameter in self._frozen_parameters(self.global_step):
            parameter.grad = None
        norms = {name: gradient_norm(part) for name, part in self._parts().items() if part}
        total = sum(norms.values())
        if not math.isfinite(total):
            named = ", ".join(self.examples[:8])
            raise CkfError(f"step {self.global_step}: {self._largest_gradient()} (examples: {named}); {_ADVICE}")
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
            return schedule * self.curriculum.lr_multipliers(step)[group]

        return factor

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained; the frozen backbone is found by its path."""
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        checkpoint["state_dict"] = {
            name: value
            for name, value in checkpoint["state_dict"].items()
            if name in trained or name.startswith("model.fusion.")
        }


class _Nothing(torch.autograd.Function):
    """Zero, with a gradient of zeros for every argument: one operation for all of them."""

    @staticmethod
    def forward(ctx: Any, *parameters: Tensor) -> Tensor:
        """A scalar."""
        ctx.shapes = [p.shape for p in parameters]
        return parameters[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Views of one zero."""
        zero = torch.zeros_like(gradients[0])
        return tuple(zero.expand(shape) for shape in ctx.shapes)


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
