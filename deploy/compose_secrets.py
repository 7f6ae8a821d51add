"""`python -m deploy.compose_secrets` (`make secrets`): generate the secrets for docker-compose.yml.

Writes them to `.env`, readable only by its owner. Existing values are kept.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from deploy.local.errors import SecretsFileBroken, file_problem
from deploy.local.places import ROOT, shown
from deploy.local.secrets_file import load_secrets
from deploy.secret_names import SECRETS

if TYPE_CHECKING:
    from pathlib import Path


def main(file: Path = ROOT / ".env") -> int:
    """Generate the missing secrets; return the exit status."""
    try:
        load_secrets(file, {}, SECRETS)
    except SecretsFileBroken as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"No secrets were generated: {file_problem(error)}.\n")
        return 1
    sys.stdout.write(f"{shown(file)} has a value for each of {', '.join(SECRETS)}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
