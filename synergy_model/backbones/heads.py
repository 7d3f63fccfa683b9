"""The linear layers that end most official backbones."""

from __future__ import annotations

from mindspore import Tensor, nn, ops

SYNERGYNET_HEADS = (("fc_ori", 12), ("fc_shape", 40), ("fc_exp", 10), ("fc_tex", 40))
TDDFA_V2_HEADS = (("fc_param", 62),)
TEXTURE_SUFFIXES = ("_tex", "_texture")


class ParameterHeads(nn.Cell):
    """Pooled features (N,P) -> whitened parameters (N,62): the outputs of `heads` in their order, joined.

    `heads` pairs the official names with widths. Files of SynergyNet have 40 texture values besides the 62
    parameters; nothing downstream reads them: the layer is loaded, kept for training, and not computed.
    """

    def __init__(self, pooled_dim: int, heads: tuple[tuple[str, int], ...]) -> None:
        super().__init__()
        self.layers = nn.CellDict({name: nn.Dense(pooled_dim, out) for name, out in heads})
        self.computed = tuple(name for name, _ in heads if not name.endswith(TEXTURE_SUFFIXES))

    def construct(self, pooled: Tensor) -> Tensor:
        outputs = ()
        for name, layer in self.layers.items():
            if name in self.computed:
                outputs += (layer(pooled),)  # type: ignore[assignment] # graph mode takes no annotation
        return ops.concat(outputs, 1)
