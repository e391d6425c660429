"""A model's tokenizer, and which inputs the model gets from it: the same in training, export and serving.

Where transformers is installed (the ``torch`` backend, training, export), the tokenizer is the one that it loads, and
its settings are asked of it. The ``onnx`` backend reads the same from the files, by the rules of transformers 5; the
folders that `rag_rerank.export` writes state the settings, so that nothing has to be derived.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_rerank.backends.local.model_files import ModelFolder, read_json
from rag_rerank.errors import ModelLoadError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["IDS", "MASK", "TYPES", "ModelTokenizer", "load_core", "read_tokenizer", "settings_of"]

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"

_WITH_TYPES = frozenset(
    f"{name}Tokenizer"
    for name in (
        *("Bert", "ConvBert", "DPRContextEncoder", "DPRQuestionEncoder", "Deberta", "DebertaV2", "Electra", "FNet"),
        *("LayoutLM", "Lxmert", "MobileBert", "SqueezeBert"),
    )
)
"""Classes of tokenizers that give token types where ``tokenizer_config.json`` does not say what they give; the names of
transformers 5, in which several are one class. A generic tokenizer gives none."""

_WITHOUT_MASK = frozenset({"FNetTokenizer"})

_PADS_LEFT = frozenset({"GemmaTokenizer", "LlamaTokenizer", "XLNetTokenizer"})

_CLASS_OF = {
    **dict.fromkeys(
        ("bert", "convbert", "distilbert", "electra", "ernie", "megatron-bert", "nomic_bert", "squeezebert"),
        "BertTokenizer",
    ),
    "deberta": "DebertaTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "fnet": "FNetTokenizer",
    "gemma": "GemmaTokenizer",
    "layoutlm": "LayoutLMTokenizer",
    "mobilebert": "MobileBertTokenizer",
    "xlnet": "XLNetTokenizer",
}
"""``model_type`` -> class of the tokenizer, where no file names a class."""

_GENERIC = frozenset({"modernbert", "nystromformer", "qwen2", "xlm-roberta-xl"})
"""``model_type`` of models whose tokenizer is the generic one whatever class their files name."""


@dataclass(frozen=True, kw_only=True)
class ModelTokenizer:
    """A fast tokenizer, set up once and never changed, and the settings by which a model's inputs are made.

    Args:
        core: The ``tokenizers.Tokenizer``, with truncation and padding off.
        inputs: Names of the inputs that the model gets. Without ``token_type_ids`` it takes its own default for them,
            and without ``attention_mask`` no input may be padded.
        pad: Id to pad with.
        pad_type: Token type of padding.
        pads_left: Whether padding comes first.
        cuts_left: Whether the end of a long text is read, and not its beginning.
    """

    core: Tokenizer
    inputs: tuple[str, ...]
    pad: int
    pad_type: int = 0
    pads_left: bool = False
    cuts_left: bool = False


def read_tokenizer(folder: ModelFolder) -> ModelTokenizer:
    """Read a tokenizer and its settings from the files of a folder, without transformers.

    Raises:
        ModelLoadError: A file is absent or cannot be read, or names no padding token.
    """
    core = load_core(folder)
    settings = settings_of(folder)
    name = _tokenizer_class(settings, folder.config)
    names = settings.get("model_input_names")
    inputs = tuple(names) if isinstance(names, list) else _inputs(name)
    return ModelTokenizer(
        core=core,
        inputs=inputs,
        pad=_pad_id(core, settings, folder),
        pad_type=settings.get("pad_token_type_id", 3 if name == "XLNetTokenizer" else 0),
        pads_left=settings.get("padding_side", "left" if name in _PADS_LEFT else "right") == "left",
        cuts_left=settings.get("truncation_side") == "left",
    )


def load_core(folder: ModelFolder) -> Tokenizer:
    """Load ``tokenizer.json`` with truncation and padding off.

    Raises:
        ModelLoadError: The file is absent or not a tokenizer.
    """
    from tokenizers import Tokenizer

    file = folder.path / "tokenizer.json"
    if not file.is_file():
        raise ModelLoadError(
            f"{folder.name} has no tokenizer.json; convert it with: rag-rerank export {folder.name} -o DIR"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelLoadError(f"{folder.name}: tokenizer.json cannot be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def settings_of(folder: ModelFolder) -> Mapping[str, Any]:
    """Return the content of ``tokenizer_config.json``; nothing where there is none.

    Raises:
        ModelLoadError: It cannot be read.
    """
    file = folder.path / "tokenizer_config.json"
    return read_json(file, folder.name) if file.is_file() else {}


def _tokenizer_class(settings: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    kind = config.get("model_type")
    if kind in _GENERIC:
        return None
    name = settings.get("tokenizer_class") or config.get("tokenizer_class")
    return str(name).removesuffix("Fast") if name else _CLASS_OF.get(str(kind))


def _inputs(tokenizer_class: str | None) -> tuple[str, ...]:
    mask = () if tokenizer_class in _WITHOUT_MASK else (MASK,)
    return (IDS, *mask, *((TYPES,) if tokenizer_class in _WITH_TYPES else ()))


def _pad_id(tokenizer: Tokenizer, settings: Mapping[str, Any], folder: ModelFolder) -> int:
    """Return the id of the padding token; some models count positions from it."""
    token = settings.get("pad_token")
    text = token.get("content") if isinstance(token, dict) else token
    id = tokenizer.token_to_id(text) if isinstance(text, str) else None
    if id is None:
        id = folder.config.get("pad_token_id")
    if not isinstance(id, int):
        raise ModelLoadError(f"{folder.name}: neither tokenizer_config.json nor config.json names a padding token")
    return id
