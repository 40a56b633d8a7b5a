"""The files of BGE-M3 that are used, as published: name, size and SHA-256 of each."""

from __future__ import annotations

from dataclasses import dataclass

WEIGHTS = "pytorch_model.bin"


@dataclass(frozen=True)
class File:
    """Name one file; size in bytes, sha256 in hexadecimal."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Name a model's repository on Hugging Face at one revision, and the files that are taken from it."""

    repository: str
    revision: str
    license: str
    files: tuple[File, ...]

    @property
    def weights(self) -> File:
        """Return the pickled weights, which are kept as safetensors only."""
        return next(file for file in self.files if file.name == WEIGHTS)


BGE_M3 = Manifest(
    repository="BAAI/bge-m3",
    revision="5617a9f61b028005a4858fdac845db406aefb181",
    license="MIT",
    files=(
        File("config.json", 687, "26159e7ad065073448460117eb24b7a4572f6f4e78eadff65dc0a11c052449fa"),
        File("tokenizer_config.json", 444, "a62b2b6784f990259fddef5f16388693a8043be4f69179e6a5257eeb3f9abac4"),
        File("special_tokens_map.json", 964, "8c785abebea9ae3257b61681b4e6fd8365ceafde980c21970d001e834cf10835"),
        File("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
        File("1_Pooling/config.json", 191, "e54c164a07274f2eb45bb724f54a79d1efcc90c41573887cd9a29aeee0597352"),
        File("sentence_bert_config.json", 54, "eb9b44b13c0f52a3b3685c3b1cbdea1ba8b04bea123b98f61610048940776eb1"),
        File(
            "config_sentence_transformers.json",
            123,
            "1eef72430e7194a1e59680e635aed81ffa083f05668dbc5bb1c56c04c0999c38",
        ),
        File("tokenizer.json", 17_098_108, "21106b6d7dab2952c1d496fb21d5dc9db75c28ed361a05f5020bbba27810dd08"),
        File("sentencepiece.bpe.model", 5_069_051, "cfc8146abe2a0488e9e2a0c56de7952f7c11ab059eca145a0a727afce0db2865"),
        File("sparse_linear.pt", 3_516, "45c93804d2142b8f6d7ec6914ae23a1eee9c6a1d27d83d908a20d2afb3595ad9"),
        File("colbert_linear.pt", 2_100_674, "19bfbae397c2b7524158c919d0e9b19393c5639d098f0a66932c91ed8f5f9abb"),
        File(WEIGHTS, 2_271_145_830, "b5e0ce3470abf5ef3831aa1bd5553b486803e83251590ab7ff35a117cf6aad38"),
    ),
)
