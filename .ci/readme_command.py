"""Print a command of README.md: the code block that follows the comment `<!-- ci: NAME -->`.

python .ci/readme_command.py NAME
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def command(name: str, text: str) -> str:
    """The content of the block marked with a name; SystemExit where there is none."""
    found = re.findall(rf"<!-- ci: {re.escape(name)} -->\s*```sh\n(.*?)```", text, re.DOTALL)
    if len(found) != 1:
        sys.exit(
            f"README.md must have one block marked `<!-- ci: {name} -->`; it has {len(found)}."
        )
    return found[0]


if __name__ == "__main__":
    sys.stdout.write(command(sys.argv[1], README.read_text()))
