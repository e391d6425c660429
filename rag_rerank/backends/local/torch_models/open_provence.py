"""OpenProvence: a ModernBERT cross-encoder with a second head that says of each token whether to keep it.

The input is ``[CLS] query [SEP] text [SEP]``. The first head gives the logit of the pair. The second one gives two
logits a token, to leave out and to keep; the softmax of the second is the keep probability, and the mean over a
sentence's tokens is compared with a threshold (hotchpotch/open_provence at 9635cbc,
``modeling_open_provence_standalone.py``).

The second head reads the output of the last layer before the final norm: its training takes ``hidden_states[-1]`` of
transformers 4.57.1 (``encoder.py`` and ``uv.lock`` there), where that is so for ModernBERT. From transformers 5 on
``hidden_states[-1]`` is the output of the norm, for which the head was not trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from rag_rerank.errors import ModelLoadError

__all__ = ["MODEL_TYPE", "THRESHOLD", "architecture", "check_config", "register", "threshold_of"]

MODEL_TYPE = "open_provence"
"""``model_type`` in the config of such a model."""

THRESHOLD = 0.1
"""The keep probability above which a sentence is relevant, where the config names none: ``DEFAULT_PROCESS_THRESHOLD``
of upstream."""

_BASE = "modernbert"


def check_config(config: Mapping[str, Any], name: str) -> None:
    """Check that the config of a model is one that is known here.

    Raises:
        ModelLoadError: It is of another architecture, or gives more than one logit.
    """
    base = config.get("base_model_config")
    kind = base.get("model_type") if isinstance(base, dict) else None
    if kind != _BASE:
        raise ModelLoadError(
            f"{name} is an OpenProvence model on {kind or 'no named architecture'}; only those on {_BASE} are known"
        )
    if config.get("num_labels") not in (None, 1):
        raise ModelLoadError(f"{name} gives {config['num_labels']} numbers a pair, not one relevance logit")
    threshold_of(config, name)


def threshold_of(config: Mapping[str, Any], name: str) -> float:
    """Return the keep probability above which a sentence is relevant; upstream spells its name in two ways.

    Raises:
        ModelLoadError: It is no probability.
    """
    value = config.get("default_threadshold")
    if value is None:
        value = config.get("default_threshold")
    if value is None:
        return THRESHOLD
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ModelLoadError(f"{name}: the threshold in config.json is no number from 0 to 1: {value!r:.40}")
    return float(value)


def register() -> None:
    """Let transformers, and so sentence-transformers, load such models by their config."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config, model = architecture()
    AutoConfig.register(MODEL_TYPE, config, exist_ok=True)
    AutoModelForSequenceClassification.register(config, model, exist_ok=True)


@lru_cache
def architecture() -> tuple[Any, Any]:
    """Return the config class and the model class; they are defined here because importing torch takes seconds."""
    import torch
    from transformers import ModernBertConfig, ModernBertForSequenceClassification, PreTrainedModel
    from transformers.configuration_utils import PretrainedConfig
    from transformers.modeling_outputs import SequenceClassifierOutput

    class OpenProvenceConfig(PretrainedConfig):  # type: ignore[misc]
        """The config of the cross-encoder, in ``base_model_config``, and that of the second head."""

        model_type = MODEL_TYPE

        def __init__(self, base_model_config: dict[str, Any] | None = None, **others: Any) -> None:
            base = base_model_config or {}
            super().__init__(**{"pad_token_id": base.get("pad_token_id"), **others, "num_labels": 1})
            self.base_model_config = base

        @property
        def base(self) -> ModernBertConfig:
            """The config of the cross-encoder."""
            base = ModernBertConfig.from_dict({**self.base_model_config, "num_labels": 1})
            base._attn_implementation = self._attn_implementation
            return base

    class OpenProvenceForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
        """A cross-encoder (``ranking_model``) and the head that says what to keep (``pruning_head``)."""

        config_class = OpenProvenceConfig
        _supports_sdpa = True
        _supports_flash_attn = True

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            base = config.base
            self.num_labels = 1
            self.pruning_head = torch.nn.ModuleDict({"classifier": torch.nn.Linear(base.hidden_size, 2)})
            self.ranking_model = ModernBertForSequenceClassification(base)
            self.post_init()

        def forward(self, input_ids: Any, attention_mask: Any = None, **_: Any) -> SequenceClassifierOutput:
            """Return one logit a row, of shape (batch, 1)."""
            answer = self.ranking_model(input_ids=input_ids, attention_mask=attention_mask)
            return SequenceClassifierOutput(logits=answer.logits)

        def logits_and_keep(self, input_ids: Any, attention_mask: Any) -> tuple[Any, Any]:
            """Return the logit of each row, and the keep probability of each token in fp32, of one forward pass."""
            states: list[Any] = []
            norm = self.ranking_model.model.final_norm
            with norm.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0])):
                logits = self(input_ids, attention_mask).logits
            head = self.pruning_head["classifier"]
            keep = torch.nn.functional.linear(states[0].float(), head.weight.float(), head.bias.float())
            return logits, keep.softmax(dim=-1)[..., 1]

    return OpenProvenceConfig, OpenProvenceForSequenceClassification
