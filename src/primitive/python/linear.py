"""A linear map."""

from torch import nn


class Layer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x, context):
        return self.linear(x)
