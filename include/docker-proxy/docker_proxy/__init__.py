"""A Docker engine that can do one thing: run the encoder, shut in."""
