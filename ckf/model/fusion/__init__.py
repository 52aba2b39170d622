"""Fusion: CF vectors and histories in, slot embeddings out. One module for each variant, one interface (`base`).

The meta-network of CKF is in `meta_network`, its variant with attention over the history in `meta_attention`.
"""

from ckf.model.fusion.base import Fusion, VectorFusion
from ckf.model.fusion.linear import LinearFusion
from ckf.model.fusion.meta_attention import MetaAttentionFusion
from ckf.model.fusion.meta_network import MetaFusion
from ckf.model.fusion.mlp import MLPFusion
from ckf.model.fusion.soft_prompt import SoftPromptFusion

__all__ = [
    "Fusion",
    "LinearFusion",
    "MLPFusion",
    "MetaAttentionFusion",
    "MetaFusion",
    "SoftPromptFusion",
    "VectorFusion",
]
