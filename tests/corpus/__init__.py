"""Wrong data as sources really hold it, each item with what must catch it."""
