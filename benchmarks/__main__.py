"""List the benchmarks: the modules here that have a `main`, with what they say of themselves."""

from __future__ import annotations

import ast
from pathlib import Path


def main() -> None:
    """Print the name and the first line of each benchmark."""
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        tree = ast.parse(path.read_text())
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            print(f"make bench BENCH={path.stem:10} {(ast.get_docstring(tree) or '').splitlines()[0]}")


if __name__ == "__main__":
    main()
