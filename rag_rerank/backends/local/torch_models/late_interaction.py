"""A cross-encoder for small data: a sentence encoder reads query and text separately, and a head compares tokens.

A cross-encoder learns to compare from scratch, which takes hundreds of thousands of judged pairs. Here the layers are
those of a sentence encoder that was trained on far more text, and the head that compares has eight numbers. Inputs and
outputs are those of any cross-encoder, so it is loaded, exported, fine-tuned and run like one.

The input is ``[CLS] query [SEP] [CLS] text [SEP]``, with token types 0 and 1; an encoder that was trained with prefixes
has the one of each side after its ``[CLS]``. Tokens attend to tokens of their own type
only, and positions restart with the text: each is read as the encoder alone would read it. `SIGNALS` lists what is
then compared.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

__all__ = ["BEST", "K1", "LENGTH", "MODEL_TYPE", "NEVER", "SIGNALS", "SOFT", "B", "architecture", "register"]

MODEL_TYPE = "late-interaction-bert"
"""``model_type`` in the config of such a model."""

SIGNALS = ("cosine", "matched", "weighted", "same", "lexical", "weakest", "covered")
"""The score is a weighted sum of these. With u the token vectors at unit length, a query token's similarities are its
dot products with the text's tokens, and w its weight (``token_weights``, how informative a word piece is):

- ``cosine``: of the mean vectors of query and text (Reimers and Gurevych, EMNLP 2019);
- ``matched``: mean over the query's tokens of the mean of their three largest similarities (MaxSim of Khattab and
  Zaharia, SIGIR 2020, less moved by one token);
- ``weighted``: mean of the largest similarity, weighted by w;
- ``same``: mean, weighted by w, of the largest similarity among tokens that are the same word piece, 0 where the text
  has none (Gao, Dai and Callan, NAACL 2021);
- ``lexical``: BM25's saturated term frequency (Robertson and Zaragoza, 2009) of word pieces, weighted by w, times
  the square of the share that words in several pieces have of the query's weight: an encoder knows least about the
  words that its vocabulary lacks, names, formulas and other languages, and there the letters themselves count;
- ``weakest``: soft minimum over the query's tokens of the largest similarity: low where the text does not mention a
  part of the query (1 for a query without a token to compare);
- ``covered``: mean over the text's tokens of their largest similarity to the query's.
"""

BEST = 3
"""How many of the largest similarities of a query token ``matched`` averages."""

SOFT = 8.0
"""Sharpness of the soft minimum: two tokens that differ by 0.3 count 11 to 1."""

K1, B, LENGTH = 1.2, 0.5, 80.0
"""BM25's constants; a fixed length, in word pieces, replaces the average length, because a model has no corpus."""

NEVER = -1e4
"""Similarity to tokens that are not compared."""


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
    from torch.nn.functional import normalize
    from transformers import BertConfig, BertModel, BertPreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    class LateInteractionConfig(BertConfig):  # type: ignore[misc]
        """A BERT config.

        The tokens ``special_ids`` are read but not compared. ``query_prompt`` and ``text_prompt`` are what the
        tokenizer puts before the two parts of a pair, written as its special tokens; where a query or a text is read
        alone, they have to go before it.
        """

        model_type = MODEL_TYPE

        def __init__(
            self,
            special_ids: tuple[int, ...] = (101, 102),
            query_prompt: str = "",
            text_prompt: str = "",
            **others: Any,
        ) -> None:
            super().__init__(**others)
            self.special_ids = list(special_ids)
            self.query_prompt, self.text_prompt = query_prompt, text_prompt

    class LateInteractionForSequenceClassification(BertPreTrainedModel):  # type: ignore[misc]
        """An encoder, a weight for each word piece, and a linear layer over the signals.

        ``continues`` is 1 for a word piece that continues a word, and 0 for one that begins it.
        """

        config_class = LateInteractionConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.num_labels = 1
            self.bert = BertModel(config, add_pooling_layer=False)
            self.token_weights = torch.nn.Embedding(config.vocab_size, 1)
            self.register_buffer("continues", torch.zeros(config.vocab_size))
            self.classifier = torch.nn.Linear(len(SIGNALS), 1)
            self.post_init()

        def forward(
            self, input_ids: Any, token_type_ids: Any, attention_mask: Any = None, **_: Any
        ) -> SequenceClassifierOutput:
            """Return one logit a row, of shape (batch, 1)."""
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            parts = token_type_ids.masked_fill(mask == 0, -1)
            tokens = self._read(input_ids, parts)
            signals = self._signals(input_ids, tokens, parts == 0, parts == 1)
            return SequenceClassifierOutput(logits=self.classifier(signals.to(self.classifier.weight.dtype)))

        def _read(self, ids: Any, parts: Any) -> Any:
            """Return the token vectors, of shape (batch, sequence, hidden); padding attends to padding only."""
            together = parts[:, :, None] == parts[:, None, :]
            least = torch.finfo(self.dtype).min
            mask = torch.where(together, 0.0, least).to(self.dtype)[:, None]
            before = (parts == 0).sum(1, keepdim=True) * (parts == 1)
            places = torch.arange(ids.shape[1], device=ids.device)[None] - before
            read = self.bert(
                input_ids=ids, attention_mask=mask, position_ids=places, token_type_ids=torch.zeros_like(ids)
            )
            return read.last_hidden_state.float()

        def _signals(self, ids: Any, tokens: Any, query: Any, text: Any) -> Any:
            """Return the signals, of shape (batch, len(SIGNALS))."""
            longest = query.sum(1).max()  # the query comes first, so only these rows compare
            special = torch.zeros_like(query)
            for special_id in self.config.special_ids:
                special = special | (ids == special_id)
            words, asking = text & ~special, (query & ~special)[:, :longest]
            unit = normalize(tokens, dim=-1)
            similarity = (unit[:, :longest] @ unit.transpose(1, 2)).masked_fill(~words[:, None], NEVER)
            best = similarity.topk(BEST, dim=-1).values
            there = (best > NEVER).float()
            largest = best[..., 0].clamp(min=-1)
            few = (best * there).sum(-1) / there.sum(-1).clamp(min=1)
            same = (ids[:, :longest, None] == ids[:, None, :]) & words[:, None]
            same_piece_similarity = similarity.masked_fill(~same, 0).amax(-1).clamp(min=0)
            count, length = same.sum(-1).float(), words.sum(-1, keepdim=True).float()
            saturated = count * (K1 + 1) / (count + K1 * (1 - B + B * length / LENGTH))
            piece = self.continues[ids[:, : longest + 1]].float()
            split = torch.maximum(piece[:, :-1], piece[:, 1:])
            plain_weights = asking.float()
            weights = self.token_weights(ids[:, :longest])[..., 0].float() * plain_weights

            def mean(values: Any, weights: Any) -> Any:
                return (values * weights).sum(-1) / weights.sum(-1).clamp(min=1e-6)

            pooled = [normalize((tokens * part[..., None]).sum(1), dim=-1) for part in (query, text)]
            hard = mean(torch.exp(-SOFT * largest), plain_weights).clamp(min=math.exp(-SOFT))
            back = similarity.masked_fill(~asking[..., None], NEVER).amax(1).clamp(min=-1)
            return torch.stack(
                [
                    (pooled[0] * pooled[1]).sum(-1),
                    mean(few, plain_weights),
                    mean(largest, weights),
                    mean(same_piece_similarity, weights),
                    mean(saturated, weights) * mean(split, weights) ** 2,
                    -torch.log(hard) / SOFT,
                    mean(back, words.float()),
                ],
                dim=-1,
            )

    return LateInteractionConfig, LateInteractionForSequenceClassification
