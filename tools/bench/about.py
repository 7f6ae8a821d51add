"""What a measurement ran on: interpreter, libraries and CPU, because figures depend on all of them."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

UNKNOWN: Final = "unknown"
LIBRARIES: Final = ("uvloop", "aiohttp")
_FLAGS: Final = ("PY_CORE_CFLAGS", "PY_CORE_LDFLAGS", "CFLAGS_NODIST", "LDFLAGS_NODIST")
_PGO_OPTION: Final = "--enable-optimizations"
_LTO_OPTION: Final = "--with-lto"
_PGO_FLAGS: Final = ("-fprofile-use", "-fprofile-instr-use")
_LTO_FLAG: Final = "-flto"


def about(core: int, load_cores: Collection[int]) -> str:
    """Describe interpreter, libraries and machine in a paragraph."""
    pgo, lto = optimizations(sysconfig.get_config_vars())
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    numbers = ", ".join(map(str, sorted(load_cores)))
    return (
        f"{platform.python_implementation()} {platform.python_version()} "
        f"(built with PGO: {pgo}, LTO: {lto}), {libraries}. All servers, the bare ones too, run on "
        f"this interpreter. CPU: {cpu_model()}; servers on core {core}, load on {numbers}."
    )


def optimizations(config: Mapping[str, object]) -> tuple[str, str]:
    """Return whether Python was built with PGO and with LTO: yes, no or unknown. Pure.

    Without these options and flags, the answer is no only if the build's settings are complete:
    Debian, for one, passes the flags in another way and removes them from the settings.
    """
    try:
        options = shlex.split(str(config.get("CONFIG_ARGS") or ""))
    except ValueError:
        options = []
    flags = " ".join(str(config.get(name) or "") for name in _FLAGS)
    absent = "no" if options and config.get("PGO_PROF_USE_FLAG") else UNKNOWN
    pgo = _enabled(options, _PGO_OPTION) or any(flag in flags for flag in _PGO_FLAGS)
    lto = _enabled(options, _LTO_OPTION) or _LTO_FLAG in flags
    return ("yes" if pgo else absent), ("yes" if lto else absent)


def cpu_model() -> str:
    """Return the CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine() or UNKNOWN


def _enabled(options: Collection[str], name: str) -> bool:
    return any(
        option == name or (option.startswith(f"{name}=") and option != f"{name}=no")
        for option in options
    )
