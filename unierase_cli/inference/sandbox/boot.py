"""Starts a sandboxed program: puts modules that are given as text in place and runs the last one's ``main``.

Run as ``python -I -S -c SOURCE MODULES WORDS...`` with MODULES the JSON of [name, source] pairs, each after those that it imports:
a Python that sees no packages can import this project's modules no other way.
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
