"""What every benchmark shares: interleaved timing, one form for figures, one place to record them."""

import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "torchvision", "timm", "numpy", "webdataset", "simplejpeg")


@dataclass(frozen=True)
class Figure:
    """One measured number; ``holds`` says whether it meets its bar (None where there is none)."""

    figure: str
    value: float
    unit: str
    bar: str
    """For instance ``<= 1.05``; empty where the number is only reported."""
    holds: bool | None
    protocol: str


def figure(name: str, value: float, unit: str, protocol: str, bar: str = "") -> Figure:
    """A figure with its bar (``<= x`` or ``>= x``) judged."""
    holds = None
    if bar:
        relation, limit = bar.split()
        holds = value <= float(limit) if relation == "<=" else value >= float(limit)
    return Figure(name, round(float(value), 4), unit, bar, holds, protocol)


def interleaved(
    variants: dict[str, Callable[[], object]],
    repeats: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each variant, called in turns so that drift and neighbours hit all of them alike."""
    for run in variants.values():
        for _ in range(warmup):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, run in variants.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def device() -> str:
    """The machine in words: processor, threads in use, accelerator."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    bf16 = "with bf16" if torch.cpu._is_avx512_bf16_supported() else "without bf16"
    words = f"{processor}, {torch.get_num_threads()} threads, {bf16}"
    return f"{torch.cuda.get_device_name()}, host {words}" if torch.cuda.is_available() else words


def known_version(package: str) -> str:
    """What is installed, if anything is: a peer may be missing, and has then taken no part."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def record(name: str, figures: Iterable[Figure], packages: Iterable[str] = ()) -> None:
    """Print the figures as a table and write ``results/NAME.json``."""
    figures = list(figures)
    table = Table(title=name)
    for heading in ("figure", "value", "unit", "bar", "holds"):
        table.add_column(heading, justify="right" if heading == "value" else "left", overflow="fold")
    for item in figures:
        holds = {True: "yes", False: "[red]no[/red]", None: ""}[item.holds]
        table.add_row(item.figure, f"{item.value:g}", item.unit, item.bar, holds)
    Console().print(table)
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    content = {
        "device": device(),
        "versions": {package: known_version(package) for package in (*PACKAGES, *packages)}
        | {"python": platform.python_version()},
        "command": command,
        "figures": [asdict(item) for item in figures],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
