"""Build the checkpoint of the embedded model: an encoder, weights of word pieces, and the numbers of the head.

    python benchmarks/embedded/assemble.py ENCODER IDF OUT [--scale 0.286 --offset -3.99]

ENCODER is a folder with a BERT sentence encoder (all-MiniLM-L6-v2, or an encoder of ``teach.py``), IDF a JSON file with
a weight for each word piece (``idf.json`` of ``bert-uncased.zip`` in opensearch-project/ml-commons), OUT the folder to
make. ``rag-rerank export OUT -o FOLDER --weights int8`` turns it into the folder in the package.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rag_rerank.backends.local.torch_models.late_interaction import SIGNALS, architecture, register

WEIGHTS = {
    "cosine": 10.0,
    "matched": 5.0,
    "weighted": 5.0,
    "same": 2.0,
    "lexical": 6.0,
    "weakest": 2.0,
    "covered": 1.0,
}
"""Set by hand, in round numbers: the mean over the development collections hardly moves when one is halved or doubled
(``docs/explanation/embedded-model.md``). Weights fitted on the training text were worse there: its queries are headings
and questions about single sentences."""

COMMON = 0.3
"""Added to every word piece's weight, so that each counts."""

WINDOW = 512
"""All positions of the weights. The encoder's own card says 256; with this head longer texts rank better if they are
read to the end (``docs/explanation/embedded-model.md``), though not by the cosine alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("idf", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the weights, by scale.py")
    parser.add_argument("--offset", type=float, default=0.0, help="offset of the logit, by scale.py")
    options = parser.parse_args()
    idf = json.loads(options.idf.read_text(encoding="utf-8"))
    assemble(options.encoder, idf, options.scale, options.offset).save_pretrained(options.out)
    tokenizer(options.encoder).save_pretrained(options.out)


def assemble(encoder: Path, idf: dict[str, float], scale: float, offset: float) -> Any:
    """Return the model of an encoder, with the weights of word pieces and the head."""
    import torch
    from transformers import AutoModel

    register()
    config_class, model_class = architecture()
    config = json.loads((encoder / "config.json").read_text(encoding="utf-8"))
    for key in ("architectures", "model_type", "transformers_version", "_name_or_path"):
        config.pop(key, None)
    pieces = json.loads((encoder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    special_ids = [pieces[name] for name in ("[UNK]", "[CLS]", "[SEP]")]
    model = model_class(config_class(**config, num_labels=1, special_ids=special_ids)).eval()
    weights = AutoModel.from_pretrained(encoder, local_files_only=True).state_dict()
    model.bert.load_state_dict({name: weight for name, weight in weights.items() if not name.startswith("pooler")})
    with torch.no_grad():
        for piece, id in pieces.items():
            model.token_weights.weight[id] = idf.get(piece, 0.0) + COMMON
            model.continues[id] = float(piece.startswith("##"))
        model.classifier.weight.copy_(scale * torch.tensor([[WEIGHTS[signal] for signal in SIGNALS]]))
        model.classifier.bias.fill_(offset)
    return model


def tokenizer(encoder: Path) -> Any:
    """Return the encoder's tokenizer with a second ``[CLS]`` before the text."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    result = Tokenizer.from_file(str(encoder / "tokenizer.json"))
    result.no_truncation()
    result.no_padding()
    special = {name: result.token_to_id(name) for name in ("[CLS]", "[SEP]")}
    result.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS]:0 $A:0 [SEP]:0 [CLS]:1 $B:1 [SEP]:1",
        special_tokens=list(special.items()),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=result,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
        model_max_length=WINDOW,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


if __name__ == "__main__":
    main()
