"""A mixture of experts, each of them with two or three matrices, and shared ones beside them."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers.activations import ACT2FN


class Expert(nn.Module):
    def __init__(self, width, inner, gated):
        super().__init__()
        if gated:
            self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)
        self.gated = gated

    def forward(self, x):
        if self.gated:
            return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return self.down_proj(ACT2FN["relu2"](self.up_proj(x)))


class Layer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        options = config.layers_options[config.layers_block_type[index]]
        width = config.hidden_size
        gated = options["expert"] == "swiglu"
        self.top_k, self.routing = int(options["top_k"]), options["routing"]
        self.gate = nn.Linear(width, int(options["experts"]), bias=False)
        self.experts = nn.ModuleList(
            Expert(width, int(options["width"]), gated) for _ in range(int(options["experts"]))
        )
        shared = int(options["shared_width"])
        self.shared_experts = Expert(width, shared, gated) if shared else None
        self.shared_expert_gate = nn.Linear(width, 1, bias=False) if options["shared_gate"] == "yes" else None

    def forward(self, x, context):
        flat = x.reshape(-1, x.shape[-1])
        logits = self.gate(flat)
        scores = logits.sigmoid() if self.routing.startswith("sigmoid") else logits.softmax(-1)
        gates, chosen = scores.topk(self.top_k, dim=-1)
        if self.routing != "softmax":
            gates = gates / (gates.sum(-1, keepdim=True) + 1e-20)
        if self.routing.startswith("sigmoid"):
            gates = gates * (int(self.routing.split()[1]) / 100)
        mixed = torch.zeros_like(flat)
        for at, expert in enumerate(self.experts):
            rows, places = torch.where(chosen == at)
            mixed = mixed.index_add(0, rows, expert(flat[rows]) * gates[rows, places, None])
        if self.shared_experts is not None:
            shared = self.shared_experts(flat)
            if self.shared_expert_gate is not None:
                shared = shared * self.shared_expert_gate(flat).sigmoid()
            mixed = mixed + shared
        return mixed.reshape(x.shape)
