"""Shard a frozen backbone that is too large for one GPU: each process holds a part of every decoder layer.

The trained parts (adapters, fusion) are small: they stay whole and DDP averages their gradients. The frozen
decoder layers are sharded over the processes (FSDP2, `torch.distributed.fsdp.fully_shard`) and gathered layer by
layer, forward and backward. Embeddings, the final norm and the vocabulary projection stay whole.
"""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from ckf.model.recommender import Recommender


def shard_layers(model: Recommender, device: torch.device, world_size: int) -> None:
    """Shard the frozen parameters of the decoder layers over all processes, in place.

    Every process must then run the same passes in the same order (`StepDataset.same_passes`).
    """
    # layers move to the device one by one, so that the whole model is never on it
    mesh = init_device_mesh(device.type, (world_size,))
    trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
    for layer in model.backbone.get_decoder().layers:
        fully_shard(layer, mesh=mesh, ignored_params=trained)


def ignore_frozen_in_ddp(module: pl.LightningModule) -> None:
    """Let DDP ignore the frozen parameters, which it would broadcast from the first process."""
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, frozen)
