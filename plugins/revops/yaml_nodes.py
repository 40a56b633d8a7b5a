"""Nodes of a YAML file, which know their lines."""

from __future__ import annotations

from typing import Any

import yaml


def doubled_key(node: Any) -> Any:
    """Return the node of the first key that stands twice in one mapping, or None.

    YAML would keep the last one in silence.
    """
    children: list[Any] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key, value in node.value:
            if key.value in seen:
                return key
            seen.add(key.value)
            children.append(value)
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    return next((found for child in children if (found := doubled_key(child))), None)


def line_of(node: Any, location: tuple[int | str, ...]) -> int:
    """Return the line of the deepest node on the way to a location that the file really has, counted from 1."""
    line = int(node.start_mark.line)
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == part]
            if not pairs:
                break
            line, node = pairs[0][0].start_mark.line, pairs[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return int(line) + 1
