"""Encode texts with BGE-M3, or a model of its shape, into dense, sparse and ColBERT vectors; no network."""
