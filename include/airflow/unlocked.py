"""Print the packages that are installed beside Airflow but not, at that version, named by a lock file.

python unlocked.py constraints.txt
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

# They install the rest, and nothing of it imports them.
INSTALLERS = {"pip", "uv", "wheel"}


def normalised(name: str) -> str:
    """Return a package's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Read the lock file that the command line names."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", Path(sys.argv[1]).read_text(), re.MULTILINE)
    locked = {(normalised(name), version) for name, version in pins}
    beside = Path(metadata.distribution("apache-airflow-core").locate_file("."))
    found = {(normalised(item.name), item.version) for item in metadata.distributions(path=[str(beside)])}
    sys.stdout.writelines(f"{name}\n" for name, _ in sorted(found - locked) if name not in INSTALLERS)


if __name__ == "__main__":
    main()
