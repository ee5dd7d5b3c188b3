"""Configuration of a Llama whose blocks can lack attention or MLP, in the schema of DeciLM and Nemotron-NAS."""

from types import SimpleNamespace

from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig


class Part(SimpleNamespace):
    """Attributes that can be written back as JSON."""

    def to_dict(self):
        return {key: value.to_dict() if isinstance(value, Part) else value for key, value in vars(self).items()}


def as_block(block):
    if isinstance(block, Part):
        return block
    return Part(attention=Part(**block["attention"]), ffn=Part(**block["ffn"]))


@strict
class ComposerDeciConfig(LlamaConfig):
    """`block_configs` has one entry per block. `attention.no_op` and `ffn.no_op` state which halves are missing,
    `attention.n_heads_in_group` is the number of query heads per KV head, `ffn.ffn_mult` sets the inner width."""

    model_type = "nemotron-nas"
    block_configs: list | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.block_configs = [as_block(block) for block in self.block_configs or []]

    @property
    def layer_types(self):
        """The cache type of each block. Without it, transformers would read the sequence length from block 0. A model
        without attention states that all blocks cache keys, but caches none."""
        absent = [block.attention.no_op for block in map(as_block, self.block_configs or [])]
        return ["mlp" if none and not all(absent) else "full_attention" for none in absent]

    @staticmethod
    def validate_layer_type(self):
        """The default check does not allow blocks without a cache."""

    def to_dict(self):
        plain = super().to_dict()
        plain["block_configs"] = [block.to_dict() for block in map(as_block, self.block_configs)]
        return plain
