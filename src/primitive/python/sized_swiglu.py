"""SwiGLU of a width of its own."""

from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        width = config.hidden_size
        inner = int(config.layers_options[config.layers_block_type[index]]["width"])
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x, context):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
