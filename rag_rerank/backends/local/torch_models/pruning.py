"""Cross-encoders that also say which sentences of a text to keep, and calls that want to know it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rag_rerank.backends.local.base import ScoringTask
from rag_rerank.backends.local.base import run_batches as run_scoring_batches
from rag_rerank.backends.local.engine import BatchScores, Engine
from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.pair_encoding import Batch, EncodedPairs, OnLongQuery, PairTokenizer, concatenate
from rag_rerank.backends.local.torch_models.checkpoint import CrossEncoderModel
from rag_rerank.backends.local.torch_models.open_provence import check_config, threshold_of
from rag_rerank.errors import ModelLoadError
from rag_rerank.text.sentences import Span, sentence_places
from rag_rerank.trace import Coverage
from rag_rerank.types import RelevantSpan

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["PruningEngine", "PruningModel", "PruningTask", "run_batches"]


_CHARACTERS_A_TOKEN = 20
"""Characters a token of the window that are tokenised for a further input at least: prose has four or five."""


class PruningModel(CrossEncoderModel):
    """An OpenProvence model: a cross-encoder whose second head gives the keep probability of each token.

    ``threshold`` is the mean probability above which a sentence is relevant.

    Raises:
        ModelLoadError: It is no such model, or one of another architecture.
    """

    def __init__(
        self,
        folder: ModelFolder,
        device: str,
        dtype: Any,
        *,
        max_length: int | None = None,
        on_long_query: OnLongQuery = "truncate",
    ) -> None:
        check_config(folder.config, folder.name)
        super().__init__(folder, device, dtype, max_length=max_length, on_long_query=on_long_query)
        if self.tokenizer.cuts_left:
            raise ModelLoadError(f"{folder.name}: its tokenizer cuts texts at the beginning, which is not known here")
        self.threshold = threshold_of(folder.config, folder.name)

    def logits_and_keep(self, arrays: Mapping[str, Any]) -> list[tuple[float, Floats]]:
        """Return the fp32 logit of each row, and the keep probability of each of its tokens, without padding."""
        import torch

        ids, mask = (torch.from_numpy(arrays[name]).to(self._device) for name in ("input_ids", "attention_mask"))
        logits, keep = self.module.transformers_model.logits_and_keep(ids, mask)
        rows = zip(logits.float()[:, 0].tolist(), keep.cpu().numpy(), arrays["attention_mask"], strict=True)
        return [(logit, row[real.astype(bool)]) for logit, row, real in rows]


class PruningEngine(Engine, Protocol):
    """An engine whose model has the second head."""

    @property
    def model(self) -> PruningModel:
        """The model."""

    @property
    def tokenizer(self) -> PairTokenizer:
        """The encoder of the model's inputs."""

    def logits_and_keep(self, arrays: Mapping[str, Any], notes: list[str]) -> list[tuple[float, Floats]]:
        """Return the logit of each row and the keep probabilities of its tokens; add notes for the trace."""


def run_batches(engine: PruningEngine, pairs: Sequence[tuple[ScoringTask, Batch]]) -> list[BatchScores]:
    """Run batches in one pass through the model; with the second head if one of the calls wants it."""
    if not any(isinstance(task, PruningTask) for task, _ in pairs):
        return run_scoring_batches(engine, pairs)
    notes: list[str] = []
    arrays = concatenate([task.inputs.arrays(batch.rows) for task, batch in pairs])
    rows = iter(engine.logits_and_keep(arrays, notes))
    answers: list[BatchScores] = []
    for task, batch in pairs:
        task.note_batch(len(batch.rows))
        of_batch = list(islice(rows, len(batch.rows)))
        logits = [logit for logit, _ in of_batch]
        answers.append(BatchScores(logits, tuple(notes), [keep for _, keep in of_batch]))
    return answers


class _TextPart(NamedTuple):
    """A part of a text that an input reads as if it were the whole.

    Args:
        text: The number of the text.
        start: Its first character.
        end: The character after its last.
    """

    text: int
    start: int
    end: int


class _PartReading(NamedTuple):
    """What an input has read of a part.

    Args:
        text: The number of the text.
        sentences: The sentences that it scores.
        last: The last character of each token that it has of the text, counted in the text.
    """

    text: int
    sentences: Sequence[Span]
    last: npt.NDArray[np.intp]


class PruningTask(ScoringTask):
    """One call that wants the sentences of its texts with their keep probabilities.

    What is behind the cut of a text is read as further inputs beside the same query, each from the first sentence on
    that was not read whole; they add to no score. A sentence that does not fit into an input of its own is scored by
    its beginning.
    """

    engine: PruningEngine
    _readings: list[_PartReading]

    def _encode(self) -> EncodedPairs:
        inputs = more = super()._encode()
        texts = self.reading.texts
        sentences = [sentence_places(text) for text in texts]
        parts = [_TextPart(number, 0, len(text)) for number, text in enumerate(texts)]
        self._readings = []
        while True:
            rest = [self._read(*each, sentences) for each in zip(parts, more.coverage, strict=True)]
            parts = [part for part in rest if part is not None]
            if not parts:
                break
            more = self.engine.tokenizer.encode(self.query, [texts[n][a:b] for n, a, b in parts], "truncate")
            inputs = replace(inputs, ids=[*inputs.ids, *more.ids], types=[*inputs.types, *more.types])
        if behind := len(inputs.ids) - len(texts):
            note = f"{behind} further inputs for the sentences of texts that do not fit whole"
            self.reading = replace(self.reading, notes=(*self.reading.notes, note))
        return inputs

    def _read(self, part: _TextPart, coverage: Coverage, sentences: Sequence[Sequence[Span]]) -> _TextPart | None:
        """Note what the next input reads of a part, and return the part behind it; ``None`` at the end of the text."""
        import numpy as np

        number, start, end = part
        text = self.reading.texts[number]
        offsets = self.engine.tokenizer.text_tokenizer.encode(text[start:end], add_special_tokens=False).offsets
        last = [start + max(stop - 1, begin) for begin, stop in offsets[: coverage.seen]]
        cut = start + offsets[coverage.seen][0] if coverage.truncated else end
        rest = [place for place in sentences[number] if place[0] >= start]
        read = [place for place in rest if place[1] <= cut] or rest[:1]
        self._readings.append(_PartReading(number, read, np.maximum.accumulate(np.array(last, dtype=np.intp))))
        rest = rest[len(read) :]
        if not rest:
            return None
        enough = rest[0][0] + _CHARACTERS_A_TOKEN * self.engine.tokenizer.window
        return _TextPart(number, rest[0][0], next((stop for _, stop in rest if stop >= enough), len(text)))

    def _spans(self, results: Sequence[tuple[Batch, BatchScores]]) -> Sequence[tuple[RelevantSpan, ...] | None]:
        """Return the sentences of each text with their keep probabilities; ``None`` for a text without a token."""
        keep: dict[int, Floats] = {}
        for batch, scores in results:
            keep.update(zip(batch.rows, scores.keep, strict=True))
        spans: list[list[RelevantSpan]] = [[] for _ in self.reading.texts]
        for row, reading in enumerate(self._readings):
            spans[reading.text] += self._spans_of_part(reading, keep[row])
        return [tuple(of_text) or None for of_text in spans]

    def _spans_of_part(self, reading: _PartReading, keep: Floats) -> Iterator[RelevantSpan]:
        import numpy as np

        end = len(keep) - self.engine.tokenizer.tail
        of_text = keep[end - len(reading.last) : end]
        for start, stop in reading.sentences:
            first, after = np.searchsorted(reading.last, (start, stop))
            if after > first:
                mean = float(of_text[first:after].mean())
                yield RelevantSpan(start, stop, mean, mean, is_relevant=mean > self.engine.model.threshold)
