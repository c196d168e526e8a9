"""Starts a sandboxed program: installs modules given as text and runs the last one's ``main``.

Run as ``python -I -S -c SOURCE MODULES WORDS...``, where MODULES is the JSON of [name, source] pairs, each after those
it imports: a Python without site packages cannot import this project's modules otherwise.
"""

from __future__ import annotations

import json
import sys
from types import ModuleType


def main() -> None:
    module = ModuleType("none")
    for name, source in json.loads(sys.argv.pop(1)):
        module = sys.modules[name] = ModuleType(name)
        exec(compile(source, f"<{name}>", "exec", dont_inherit=True), module.__dict__)
    module.main()


if __name__ == "__main__":
    main()
