"""Texts of documents to vectors: what lacks one, the encoder, and where vectors are kept."""
