"""Makes models that are small enough for any machine, with random weights and tokenizers of their own.

usage: models.py DIR

DIR becomes a cache of the hub as HF_HOME names it: each model stands where the hub's model of that name would, with the same
architecture, so that `vllm serve` finds it by its usual name and never asks the hub. What they say means nothing.
"""

import sys
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

REVISION = "0" * 40
CORPUS = ["An engine shed houses engines and readies them for service.", "The line is clear and the engine is warm."] * 50
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(specials: list[str]) -> Tokenizer:
    """Byte-level BPE: every text can be written in it and comes back the same."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=512, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    ))
    return made


def qwen_tokenizer():
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=32768, chat_template=CHAT,
    )


def roberta_tokenizer():
    made = tokenizer(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", sep_token="</s>", cls_token="<s>", unk_token="<unk>",
        pad_token="<pad>", mask_token="<mask>", model_max_length=512,
    )


def qwen():
    config = transformers.Qwen3Config(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=64, max_position_embeddings=32768, tie_word_embeddings=True, bos_token_id=0, eos_token_id=2,
    )
    return transformers.Qwen3ForCausalLM(config)


def reranker():
    config = transformers.XLMRobertaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=514, type_vocab_size=1, num_labels=1, bos_token_id=0, pad_token_id=1, eos_token_id=2,
    )
    return transformers.XLMRobertaForSequenceClassification(config)


def main(home: Path) -> None:
    torch.manual_seed(0)
    for name, model, words in [
        ("Qwen/Qwen3-8B", qwen(), qwen_tokenizer()),
        ("Qwen/Qwen3-Embedding-0.6B", qwen(), qwen_tokenizer()),
        ("BAAI/bge-reranker-v2-m3", reranker(), roberta_tokenizer()),
    ]:
        root = home / "hub" / ("models--" + name.replace("/", "--"))
        snapshot = root / "snapshots" / REVISION
        snapshot.mkdir(parents=True, exist_ok=True)
        model.to(torch.bfloat16).save_pretrained(snapshot)
        words.save_pretrained(snapshot)
        for file in snapshot.iterdir():
            file.chmod(0o644)  # engines run as a user of their own, and weights are written for their owner alone
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / "main").write_text(REVISION)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
