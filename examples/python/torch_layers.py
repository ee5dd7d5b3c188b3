"""The layers of composer-nas as plain PyTorch modules, by the names that transformers gives their kinds.

Letters of shapes: B sequences, S tokens, D model width, H heads, K key heads, C channels of a head, N state, L tokens of
a chunk. Recurrences run in chunks, by matrix products: work grows linearly with the length.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Norm(nn.Module):
    """RMS norm over groups of `width` channels."""

    def __init__(self, channels, epsilon, width=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.width, self.epsilon = width or channels, epsilon

    def forward(self, x):
        groups = x.float().unflatten(-1, (-1, self.width))
        normed = groups * torch.rsqrt(groups.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return (normed.flatten(-2) * self.weight).to(x.dtype)


class Attention(nn.Module):
    """Causal attention with rotary positions and shared key heads; over a window where the options name one."""

    def __init__(self, dims, options):
        super().__init__()
        self.heads, self.keys, self.width = dims["heads"], dims["kv_heads"], dims["head_dim"]
        self.window, self.theta = options.get("sliding_window"), dims["rope_theta"]
        bias = dims["attention_bias"]
        self.query = nn.Linear(dims["d_model"], self.heads * self.width, bias)
        self.key = nn.Linear(dims["d_model"], self.keys * self.width, bias)
        self.value = nn.Linear(dims["d_model"], self.keys * self.width, bias)
        self.output = nn.Linear(self.heads * self.width, dims["d_model"], bias)

    def forward(self, x):
        def split(mixed, heads):
            return mixed.unflatten(-1, (heads, self.width)).transpose(1, 2)

        q = self.turn(split(self.query(x), self.heads))
        k = self.turn(split(self.key(x), self.keys))
        v = split(self.value(x), self.keys)
        k, v = (part.repeat_interleave(self.heads // self.keys, 1) for part in (k, v))
        if self.window is None or self.window >= x.shape[1]:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            at = torch.arange(x.shape[1], device=x.device)
            back = at[:, None] - at[None, :]
            seen = (back >= 0) & (back < self.window)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def turn(self, x):
        """Rotary positions: channel c and c + C/2 are a pair."""
        half = self.width // 2
        rates = self.theta ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
        angles = torch.arange(x.shape[2], device=x.device, dtype=torch.float32)[:, None] * rates
        cos, sin = angles.cos(), angles.sin()
        a, b = x.float()[..., :half], x.float()[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


class SwiGlu(nn.Module):
    def __init__(self, dims, options):
        super().__init__()
        self.gate = nn.Linear(dims["d_model"], dims["d_ff"], bias=False)
        self.up = nn.Linear(dims["d_model"], dims["d_ff"], bias=False)
        self.down = nn.Linear(dims["d_ff"], dims["d_model"], bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Mlp(nn.Module):
    def __init__(self, dims, options):
        super().__init__()
        self.up = nn.Linear(dims["d_model"], dims["d_ff"], bias=False)
        self.down = nn.Linear(dims["d_ff"], dims["d_model"], bias=False)

    def forward(self, x):
        return self.down(self.activate(self.up(x)))

    @staticmethod
    def activate(x):
        return F.gelu(x, approximate="tanh")


class SquaredReluMlp(Mlp):
    @staticmethod
    def activate(x):
        return F.relu(x).square()


def convolve(x, weight, bias=None):
    """A causal convolution of every channel by itself: x is [B, S, channels], the weight [channels, 1, taps]."""
    padded = F.pad(x.transpose(1, 2), (weight.shape[-1] - 1, 0))
    return F.conv1d(padded, weight.to(x.dtype), None if bias is None else bias.to(x.dtype), groups=x.shape[2]).transpose(1, 2)


def taps(channels, count):
    return nn.Parameter(torch.empty(channels, 1, count).uniform_(-(count**-0.5), count**-0.5))


class ShortConv(nn.Module):
    """A gated convolution over a few tokens."""

    def __init__(self, dims, options):
        super().__init__()
        self.input = nn.Linear(dims["d_model"], 3 * dims["d_model"], bias=False)
        self.conv = taps(dims["d_model"], options["conv_L_cache"])
        self.output = nn.Linear(dims["d_model"], dims["d_model"], bias=False)

    def forward(self, x):
        b, c, x = self.input(x).chunk(3, -1)
        return self.output(c * convolve(b * x, self.conv))


def step_bias(heads):
    """Biases whose softplus is log-uniform between 0.001 and 0.1, as in the paper's code."""
    dt = torch.exp(torch.empty(heads).uniform_(math.log(1e-3), math.log(1e-1)))
    return nn.Parameter(dt + torch.log(-torch.expm1(-dt)))


def cut(x, chunk):
    """[B, S, H, ...] to [B, chunks, H, L, ...], padded with zeros."""
    x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, -x.shape[1] % chunk))
    return x.unflatten(1, (-1, chunk)).transpose(2, 3)


def decays(a):
    """exp(sum of a over j < k <= i) at [..., i, j], 0 above the diagonal; sums of differences, so that none overflows."""
    length = a.shape[-1]
    below = torch.ones(length, length, dtype=torch.bool, device=a.device).tril(-1)
    sums = torch.where(below, a[..., :, None], torch.zeros((), device=a.device)).cumsum(-2)
    return torch.where(below | torch.eye(length, dtype=torch.bool, device=a.device), sums.exp(), torch.zeros((), device=a.device))


class Mamba2(nn.Module):
    """h_t = exp(dt_t A) h_(t-1) + B_t (dt_t x_t)^T, y_t = C_t h_t + D x_t (Dao and Gu 2024, arXiv 2405.21060)."""

    def __init__(self, dims, options):
        super().__init__()
        self.heads, self.width = options["mamba_num_heads"], options["mamba_head_dim"]
        self.state, self.groups, self.chunk = options["ssm_state_size"], options["n_groups"], options["chunk_size"]
        inner = self.heads * self.width
        mixed = inner + 2 * self.groups * self.state
        self.sizes = [inner, mixed, self.heads]
        self.input = nn.Linear(dims["d_model"], sum(self.sizes), bias=False)
        self.conv = taps(mixed, options["conv_kernel"])
        self.conv_bias = nn.Parameter(torch.zeros(mixed))
        self.step_bias = step_bias(self.heads)
        self.a_log = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.norm = Norm(inner, dims["norm_eps"], inner // self.groups)
        self.output = nn.Linear(inner, dims["d_model"], bias=False)

    def forward(self, x):
        z, mixed, step = self.input(x).split(self.sizes, -1)
        mixed = F.silu(convolve(mixed, self.conv, self.conv_bias))
        with torch.autocast(x.device.type, enabled=False):
            y = self.scan(mixed.float(), step.float())
        return self.output(self.norm(y.to(x.dtype) * F.silu(z)))

    def scan(self, mixed, step):
        shared = self.groups * self.state
        x, b, c = mixed.split([self.heads * self.width, shared, shared], -1)
        x = x.unflatten(-1, (self.heads, self.width))
        b, c = (part.unflatten(-1, (self.groups, self.state)).repeat_interleave(self.heads // self.groups, 2) for part in (b, c))
        dt = F.softplus(step + self.step_bias)
        b, c, u = (cut(part, self.chunk) for part in (b, c, x * dt[..., None]))
        a = cut((dt * -self.a_log.exp())[..., None], self.chunk).squeeze(-1)
        within = decays(a)
        reached = a.cumsum(-1)
        y = (c @ b.mT * within) @ u
        added = b.mT @ (u * within[..., -1, :, None])
        states = [torch.zeros_like(added[:, 0])]
        for at in range(added.shape[1] - 1):
            states.append(states[-1] * reached[:, at, :, -1, None, None].exp() + added[:, at])
        y = y + reached.exp()[..., None] * (c @ torch.stack(states, 1))
        y = y.transpose(2, 3).flatten(1, 2)[:, : x.shape[1]]
        return (y + x * self.skip[:, None]).flatten(2)


class GatedDeltaNet(nn.Module):
    """s_t = alpha_t s_(t-1) + k_t (beta_t (v_t - alpha_t s_(t-1)^T k_t))^T, y_t = s_t^T q_t (Yang et al. 2024, arXiv
    2412.06464)."""

    CHUNK = 64

    def __init__(self, dims, options):
        super().__init__()
        self.keys, self.values = options["linear_num_key_heads"], options["linear_num_value_heads"]
        self.key_width, self.value_width = options["linear_key_head_dim"], options["linear_value_head_dim"]
        self.parts = [self.keys * self.key_width] * 2 + [self.values * self.value_width]
        inner = self.values * self.value_width
        self.mixed = nn.Linear(dims["d_model"], sum(self.parts), bias=False)
        self.gate = nn.Linear(dims["d_model"], inner, bias=False)
        self.strength = nn.Linear(dims["d_model"], self.values, bias=False)
        self.decay = nn.Linear(dims["d_model"], self.values, bias=False)
        self.conv = taps(sum(self.parts), options["linear_conv_kernel_dim"])
        self.step_bias = step_bias(self.values)
        self.a_log = nn.Parameter(torch.empty(self.values).uniform_(0.01, 16).log())
        self.norm = Norm(self.value_width, dims["norm_eps"])
        self.output = nn.Linear(inner, dims["d_model"], bias=False)

    def forward(self, x):
        mixed = F.silu(convolve(self.mixed(x), self.conv))
        with torch.autocast(x.device.type, enabled=False):
            y = self.rule(mixed.float(), self.strength(x).float(), self.decay(x).float())
        gate = self.gate(x).unflatten(-1, (self.values, self.value_width))
        return self.output((self.norm(y.to(x.dtype)) * F.silu(gate)).flatten(2))

    def rule(self, mixed, strength, decay):
        q, k, v = mixed.split(self.parts, -1)
        q, k = (part.unflatten(-1, (self.keys, self.key_width)) for part in (q, k))
        q, k = (part * torch.rsqrt(part.square().sum(-1, keepdim=True) + 1e-6) for part in (q, k))
        q, k = (part.repeat_interleave(self.values // self.keys, 2) for part in (q * self.key_width**-0.5, k))
        v = v.unflatten(-1, (self.values, self.value_width))
        g = -self.a_log.exp() * F.softplus(decay + self.step_bias)
        q, k, v, beta, g = (cut(part, self.CHUNK) for part in (q, k, v, strength.sigmoid()[..., None], g[..., None]))
        g = g.squeeze(-1)
        within = decays(g)
        reached = g.cumsum(-1).exp()[..., None]
        # The corrections of all tokens of a chunk solve a triangular system with ones on its diagonal.
        system = (k @ k.mT * within * beta).tril(-1)
        right = torch.cat([v * beta, k * beta * reached], -1)
        solved = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
        wanted, known = solved.split([self.value_width, self.key_width], -1)
        scores = q @ k.mT * within
        q, k = q * reached, k * within[..., -1, :, None]
        state = torch.zeros_like(k[:, 0].mT @ v[:, 0])
        outputs = []
        for at in range(q.shape[1]):
            corrections = wanted[:, at] - known[:, at] @ state
            outputs.append(q[:, at] @ state + scores[:, at] @ corrections)
            state = state * reached[:, at, :, -1:] + k[:, at].mT @ corrections
        return torch.stack(outputs, 1).transpose(2, 3).flatten(1, 2)[:, : mixed.shape[1]]


LAYERS = {
    "full_attention": Attention,
    "sliding_attention": Attention,
    "swiglu": SwiGlu,
    "gelu_mlp": Mlp,
    "relu2_mlp": SquaredReluMlp,
    "short_conv": ShortConv,
    "mamba2": Mamba2,
    "gated_delta_net": GatedDeltaNet,
}


def start_weights(model, init):
    """Draws linear maps and the embedding by the specification: normal, or PyTorch's default for linear maps."""
    kind, std = next(iter(init.items())) if isinstance(init, dict) else (init, 0.02)
    for module in model.modules():
        if isinstance(module, nn.Embedding) or isinstance(module, nn.Linear) and kind == "normal":
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
