"""torchcodec in a process of its own, with PyAV's FFmpeg under the names that it looks for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import av


def with_libraries(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code where torchcodec finds FFmpeg: the system's if it has one, else PyAV's by links."""
    for library in (Path(av.__file__).parents[1] / "av.libs").glob("lib*.so.*"):
        match = re.fullmatch(r"(lib(?:av|sw)[a-z]+)-[0-9a-f]+\.so\.(\d+)\..*", library.name)
        if match:
            (folder / f"{match[1]}.so.{match[2]}").symlink_to(library)
    paths = [os.environ.get("LD_LIBRARY_PATH", ""), str(folder)]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths)),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])]),
    }
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )
