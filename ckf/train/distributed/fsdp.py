"""A frozen backbone too large for one GPU: each process holds a part of every decoder layer.

What is trained (adapters, fusion) is small, stays whole and is averaged by DDP; what is frozen and large is cut
over the processes (FSDP2, `torch.distributed.fsdp.fully_shard`) and gathered layer by layer, forward and
backward. Embeddings, the final norm and the vocabulary projection stay whole.
"""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from ckf.model.recommender import Recommender


def shard_layers(model: Recommender, device: torch.device, world_size: int) -> None:
    """Cut the frozen parameters of the decoder's layers over all processes, in place.

    Every process must then take the same passes in the same order (`StepDataset.same_passes`).
    """
    # a device gets its layers one after the other: the whole is never on it
    mesh = init_device_mesh(device.type, (world_size,))
    trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
    for layer in model.backbone.get_decoder().layers:
        fully_shard(layer, mesh=mesh, ignored_params=trained)


def leave_to_shards(module: pl.LightningModule) -> None:
    """Tell DDP, which will wrap the module, that what is frozen is not its own to send from the first process."""
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, frozen)
