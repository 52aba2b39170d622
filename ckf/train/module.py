"""The Lightning module: one loss over both streams, two parameter groups, nothing of the model itself.

Optimisation is manual (``automatic_optimization = False``), because a step is more than one forward and one
backward pass: every bucket of every stream goes backward before the next one goes forward, so that memory holds
the graph of one pass. A step is (`FineTuning.training_step`):

1. set gradients to None;
2. for each micro-batch, seed dropout and accumulate gradients over its passes, without exchange between processes;
3. average the gradients over the processes, once (DDP);
4. drop the gradients of frozen parts, measure gradient norms, clip;
5. step the optimizer, then the learning-rate schedule.

Lightning counts optimizer steps itself (``trainer.global_step``) and keeps its loops, logging and checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from ckf.config.schema import TrainConfig
from ckf.core.errors import CkfError
from ckf.model.recommender import Recommender
from ckf.prompts.batch import PromptBatch
from ckf.train.batching.batches import StepBatch
from ckf.train.curriculum import Curriculum, Stream
from ckf.train.distributed.fsdp import ignore_frozen_in_ddp, shard_layers

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
_ADVICE = "lower train.learning_rate or train.fusion_learning_rate"


class FineTuning(pl.LightningModule):
    """Trains adapters and fusion by the curriculum's routing table.

    Raises (in training):
        CkfError: a loss or gradient that is not finite, or no memory left; it names the step and what to change.
    """

    def __init__(
        self, model: Recommender, curriculum: Curriculum, cfg: TrainConfig, seed: int, *, sharded: bool = False
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.curriculum, self.cfg, self.seed = model, curriculum, cfg, seed
        self.strict_loading = False  # the frozen backbone is not in the checkpoint
        self.history_cut = 0
        self.example_ids: list[str] = []  # of the last micro-batch, for error messages
        self.sharded = sharded

    def configure_model(self) -> None:
        """Shard the backbone over the processes where that is asked for; they are connected by now."""
        if self.sharded:
            shard_layers(self.model, self.trainer.strategy.root_device, self.trainer.world_size)
            ignore_frozen_in_ddp(self)

    def training_step(self, micro_batches: list[StepBatch], batch_idx: int) -> None:
        """One optimizer step over its micro-batches."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        optimizer.zero_grad(set_to_none=True)
        losses: dict[str, float | Tensor] = {}
        for number, batch in enumerate(micro_batches):
            self._seed_dropout(batch.step * self.cfg.accumulation_steps + number, batch.step)
            for name, loss in self.accumulate(batch).items():
                losses[name] = losses.get(name, 0.0) + loss / len(micro_batches)
        with torch.autocast(self.device.type, enabled=False):
            # DDP averages gradients in a backward pass that reaches every parameter; this one adds zeros alone
            self.manual_backward(self._zero_of_all())
            norms = self.gradient_norms()
            self.clip_gradients(optimizer.optimizer, self.cfg.gradient_clip, "norm")
            optimizer.step()
        cast(LRScheduler, self.lr_schedulers()).step()
        padding = sum(batch.padding for batch in micro_batches) / len(micro_batches)
        weight = self.curriculum.text_weight(micro_batches[0].step)
        for name, value in {**losses, "padding": padding, "weight_text": weight, **norms}.items():
            self.log(f"train/{name}", value, prog_bar=name.startswith("loss"), batch_size=1, sync_dist=True)

    def _seed_dropout(self, micro_batch: int, step: int) -> None:
        """Make dropout a function of (seed, step, micro-batch, rank), so that a resumed run draws the same."""
        torch.manual_seed(hash((self.seed, step, micro_batch, self.global_rank)) % 2**63)

    def accumulate(self, batch: StepBatch) -> dict[str, Tensor]:
        """Add a micro-batch's share of the step's gradients; its losses by stream, and their weighted sum ``loss``.

        The loss is the sum over streams and buckets of weighted answer-token losses.

        Raises:
            CkfError: the loss is not finite, or memory does not suffice.
        """
        try:
            return self._accumulate(batch)
        except (RuntimeError, MemoryError) as error:  # torch's own for GPUs is a RuntimeError too
            if not any(sign in str(error) for sign in _OUT_OF_MEMORY) and not isinstance(error, MemoryError):
                raise
            raise CkfError(
                f"step {batch.step}: out of memory with {len(batch.example_ids)} examples at a time "
                f"({batch.tokens:,} tokens); raise train.accumulation_steps or train.length_buckets, set "
                "train.gradient_checkpointing=true, or lower train.max_length_tokens"
            ) from None

    def _accumulate(self, batch: StepBatch) -> dict[str, Tensor]:
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
        self.example_ids, self.history_cut = batch.example_ids, self.history_cut + batch.history_cut
        return {**by_stream, "loss": total}

    def _passes(self, batch: StepBatch) -> Iterator[tuple[Stream, PromptBatch, Tensor]]:
        """The forward passes of a micro-batch: stream, prompts and their answers' log-probabilities."""
        streams = self.curriculum.streams(batch.step)
        if batch.shared_prefix:
            text, slots = streams
            for texts, continuations in batch.groups():
                stream_of_pass = [text] * len(texts) + [slots] * len(continuations)
                found = self.model.forward_shared_prefix(texts, continuations)
                yield from zip(stream_of_pass, [*texts, *continuations], found, strict=True)
            return
        for stream in streams:
            learners = {"learn_adapters": stream.learn_adapters, "learn_fusion": stream.learn_fusion}
            for prompts in batch.prompts[stream.slots]:
                yield stream, prompts, self.model(prompts, **learners)

    def _backward(self, loss: Tensor) -> None:
        if not loss.requires_grad:  # a stream that trains nothing here, e.g. text without adapters
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

    def _zero_of_all(self) -> Tensor:
        """Zero, with every trained parameter in its graph."""
        zero: Tensor = _Zero.apply(*(p for part in self._parts().values() for p in part))
        return zero

    def gradient_norms(self) -> dict[str, float]:
        """Drop the gradients of frozen parts; return norm and share of each part's gradient.

        A frozen part has no gradient at all, so that the optimizer leaves it alone (no decay, no momentum).

        Raises:
            CkfError: a gradient is not finite.
        """
        for part, frozen in zip(self._parts().values(), self.curriculum.frozen_parts(self.global_step), strict=True):
            for parameter in part if frozen else ():
                parameter.grad = None
        norms = {name: gradient_norm(part) for name, part in self._parts().items() if part}
        total = sum(norms.values())
        if not math.isfinite(total):
            named = ", ".join(self.example_ids[:8])
            raise CkfError(f"step {self.global_step}: {self._largest_gradient()} (examples: {named}); {_ADVICE}")
        shares = {f"grad_share_{name}": norm / total if total > 0 else 0.0 for name, norm in norms.items()}
        return {**{f"grad_norm_{name}": norm for name, norm in norms.items()}, **shares}

    def configure_optimizers(self) -> Any:
        """AdamW with a learning rate for adapters and one for the fusion; schedules count optimizer steps."""
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
        """Keep the trained weights and the fusion's buffers; the frozen backbone is found by its path."""
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        checkpoint["state_dict"] = {
            name: value
            for name, value in checkpoint["state_dict"].items()
            if name in trained or name.startswith("model.fusion.")
        }


class _Zero(torch.autograd.Function):
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
    """Learning rate of a step in units of the base rate: linear warm-up, then constant, linear or cosine decay to 0."""
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
