"""What many views cost: building and reading optical flow, and a step of CMC beside its bare encoders.

Run it alone on the machine, on two threads: ``python benchmarks/views.py``. With ``MMSSL_REAL_DATA`` set,
flow is also judged on Middlebury.
"""

import argparse

import cmc_step
import flow_costs
import torch
from harness import record

THREADS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(THREADS)
    steps = cmc_step.measure(repeats)
    record("views", [*steps, *flow_costs.measure(repeats)])  # flow is read on one core, to the end


if __name__ == "__main__":
    main()
