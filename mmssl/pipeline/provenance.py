"""How something came to be: command, versions, code, machine."""

import os
import platform
import resource
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import mmssl

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "pillow", "simplejpeg")
"""Those whose version can change a number."""


def provenance() -> dict[str, Any]:
    """Of this process: ``command``, ``versions``, ``git`` (None outside a checkout), ``device``."""
    return {"command": command(), "versions": versions(), "git": git(), "device": device()}


def command() -> str:
    """The command line, ready to be pasted; with torchrun and its ranks if they were started by it."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // local
        launch = ["torchrun", *(["--nnodes", str(nodes)] if nodes > 1 else [])]
        words = [*launch, "--nproc-per-node", str(local), f"scripts/{words[0]}", *words[1:]]
    return shlex.join(words)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "mmssl": mmssl.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git() -> dict[str, Any] | None:
    """Commit of the code, and whether files under version control differ from it."""
    folder = Path(mmssl.__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "-uno", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def device() -> str:
    """The hardware in words."""
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return f"{count} × {torch.cuda.get_device_name(0)}" if count > 1 else torch.cuda.get_device_name(0)
    return f"{platform.machine()} CPU, {len(os.sched_getaffinity(0))} cores"


def peak_memory() -> float:
    """Largest resident memory so far, of this process or of one that it waited for, in GB (10^9 bytes)."""
    own, children = (
        resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return round(max(own, children) / 1e9, 3)


def now() -> str:
    """ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
