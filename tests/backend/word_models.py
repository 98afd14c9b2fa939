"""A captioning and a language model of a few words, with random weights: they answer, if not wisely."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    PreTrainedTokenizerFast,
    Sam3Config,
    Sam3Model,
    T5Config,
    T5ForConditionalGeneration,
)

CAPTION_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "horse", "on", "grass", "zebra", "[DEC]", "[ENC]"]
SUGGESTED_WORDS = ["<pad>", "</s>", "<unk>", "a", "horse", "zebra", "on", "grass", "brown", "mare"]


def write_captioner(folder: Path) -> Path:
    """A BLIP in transformers' layout."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **small,
        "vocab_size": len(CAPTION_WORDS),
        "encoder_hidden_size": 16,
        "projection_dim": 8,
        "bos_token_id": CAPTION_WORDS.index("[DEC]"),
        "sep_token_id": CAPTION_WORDS.index("[SEP]"),
        "eos_token_id": CAPTION_WORDS.index("[SEP]"),
        "pad_token_id": 0,
    }
    vision = {**small, "image_size": 16, "patch_size": 8}
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=8)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    images = BlipImageProcessor(size={"height": 16, "width": 16})
    vocabulary = {word: index for index, word in enumerate(CAPTION_WORDS)}
    BlipProcessor(images, BertTokenizerFast(vocabulary)).save_pretrained(folder)
    return folder


def write_suggester(folder: Path) -> Path:
    """A T5 in transformers' layout."""
    folder.mkdir(parents=True, exist_ok=True)
    words = Tokenizer(WordLevel({word: index for index, word in enumerate(SUGGESTED_WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "model_max_length": 64}
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(SUGGESTED_WORDS),
        d_model=16,
        d_kv=8,
        d_ff=20,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def write_segmenter(folder: Path, kind: str = "clipseg") -> Path:
    """A CLIPSeg or a SAM 3 ("sam3") in transformers' layout."""
    folder.mkdir(parents=True, exist_ok=True)
    words = Tokenizer(WordLevel({word: index for index, word in enumerate(SUGGESTED_WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "model_max_length": 16}
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(SUGGESTED_WORDS), "max_position_embeddings": 16, "eos_token_id": 1}
    if kind == "clipseg":
        vision = {**small, "image_size": 16, "patch_size": 8}
        config = CLIPSegConfig(
            text_config={**text, "projection_dim": 8},
            vision_config=vision,
            projection_dim=8,
            reduce_dim=8,
            extract_layers=[0, 1],
            decoder_num_attention_heads=2,
            decoder_intermediate_size=12,
        )
        network = CLIPSegForImageSegmentation(config)
        prepared = {"size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    else:
        backbone = {
            **small,
            "model_type": "sam3_vit_model",
            "image_size": 56,
            "patch_size": 14,
            "pretrain_image_size": 56,
            "window_size": 2,
            "global_attn_indexes": [1],
        }
        detr = {"hidden_size": 16, "intermediate_size": 20, "num_layers": 1, "num_attention_heads": 2}
        config = Sam3Config(
            vision_config={
                "backbone_config": backbone,
                "fpn_hidden_size": 16,
                "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            },
            text_config={**text, "projection_dim": 16},
            geometry_encoder_config=detr,
            detr_encoder_config=detr,
            detr_decoder_config={**detr, "num_queries": 3},
            mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2, "num_upsampling_stages": 3},
        )
        network = Sam3Model(config)
        prepared = {"size": {"height": 56, "width": 56}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    network.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder
