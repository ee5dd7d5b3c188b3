"""Configuration of a language model with one residual block per layer, of any kind and in any order."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class ComposerConfig(PreTrainedConfig):
    """`layers_block_type` is the kind of every layer, `layers_cache_type` the type of its cache (mlp: none).
    transformers calls the latter `layer_types`, but would check entries of that name even without this class."""

    model_type = "composer"
    attribute_map = {"layer_types": "layers_cache_type"}

    vocab_size: int = 0
    hidden_size: int = 0
    intermediate_size: int = 0
    num_hidden_layers: int = 0
    layers_block_type: list | None = None
    layers_cache_type: list | None = None
    num_attention_heads: int = 0
    num_key_value_heads: int = 0
    head_dim: int = 0
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-5
    rope_parameters: dict | None = None
    max_position_embeddings: int = 0
    sliding_window: int | None = None
    attention_bias: bool = False
    attention_dropout: float = 0.0
    mlp_bias: bool = False
    head_bias: bool = False
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list | None = None
    pad_token_id: int | None = None

    # Short convolutions, under the names of transformers' Lfm2.
    conv_L_cache: int = 3
    conv_bias: bool = False

    # Mamba-2, under the names of transformers' NemotronH.
    mamba_num_heads: int = 0
    mamba_head_dim: int = 0
    ssm_state_size: int = 0
    n_groups: int = 1
    conv_kernel: int = 4
    chunk_size: int = 128
    use_conv_bias: bool = True
    use_bias: bool = False
    mamba_hidden_act: str = "silu"
    use_mamba_kernels: bool = True
    time_step_min: float = 0.0
    layer_norm_epsilon: float = 1e-5

    # Gated delta net, under the names of transformers' Qwen3.5.
    linear_num_key_heads: int = 0
    linear_num_value_heads: int = 0
    linear_key_head_dim: int = 0
    linear_value_head_dim: int = 0
    linear_conv_kernel_dim: int = 4

    @staticmethod
    def validate_layer_type(self):
        """The default check does not allow layers without a cache."""
        known = {"full_attention", "sliding_attention", "linear_attention", "conv", "mlp"}
        kept, kinds = self.layers_cache_type or [], self.layers_block_type or []
        if set(kept) - known or not len(kept) == len(kinds) == self.num_hidden_layers:
            raise ValueError(f"layers_cache_type {kept} does not match layers_block_type {kinds}")
