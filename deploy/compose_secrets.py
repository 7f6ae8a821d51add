"""`python -m deploy.compose_secrets` (`make secrets`): the secrets docker-compose.yml asks for.

Writes `.env`, which Compose reads, for its owner alone. Values that are there stay as they are.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from deploy.local.errors import SecretsFileBroken, file_problem
from deploy.local.places import ROOT, shown
from deploy.local.secrets_file import load_secrets
from deploy.local.services import SECRETS

if TYPE_CHECKING:
    from pathlib import Path


def main(file: Path = ROOT / ".env") -> int:
    """Make what is missing; return the exit status."""
    try:
        load_secrets(file, {}, SECRETS)
    except SecretsFileBroken as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"No secrets are made: {file_problem(error)}.\n")
        return 1
    sys.stdout.write(f"{shown(file)} holds a value for each of {', '.join(SECRETS)}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
