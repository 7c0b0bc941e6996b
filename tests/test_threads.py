"""Threads sleep while they wait, so that other processes can use the cores."""

import os
import subprocess
import sys

import pytest

# Products of matrices on two threads, with pauses: in these, threads that spin use processor time.
WORK = """
import clsr, resource, time, torch
torch.set_num_threads(2)
matrix = torch.ones(400, 400)
matrix @ matrix
start = resource.getrusage(resource.RUSAGE_SELF)
for _ in range(40):
    torch.relu(matrix * 2)
    time.sleep(0.02)
end = resource.getrusage(resource.RUSAGE_SELF)
print(end.ru_utime - start.ru_utime)
"""


def processor_s(**variables: str) -> float:
    """Processor seconds that the work takes, with environment variables of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP", "GOMP", "KMP"))}
    run = subprocess.run([sys.executable, "-c", WORK], env=kept | variables, capture_output=True, text=True, check=True)
    return float(run.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or (os.cpu_count() or 1) < 2, reason="needs two cores and GNU OpenMP")
def test_waiting_threads_use_no_processor() -> None:
    assert processor_s() < 0.25 * processor_s(GOMP_SPINCOUNT="1000000000")


def test_a_policy_of_the_user_stays() -> None:
    code = "import clsr, os; print(os.environ['OMP_WAIT_POLICY'])"
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"OMP_WAIT_POLICY": "ACTIVE"}, capture_output=True, text=True
    )
    assert run.stdout.strip() == "ACTIVE"
