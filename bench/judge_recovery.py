"""How soon a judge server with one slot has the next verdict after its driver was killed with SIGKILL, and after a candidate crashed.

DROVER=build/release/cli/drover python3 bench/judge_recovery.py        20 rounds, some seconds
"""

import os
import signal
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clients", "python"))
from drover_judge import Judge

ROUNDS = 20


def driver_of(server):
    """The one worker below the server: a process of its name that is not itself."""
    names, parents = {}, {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                stat = file.read()
        except OSError:
            continue
        names[int(pid)] = stat[stat.index("(") + 1 : stat.rindex(")")]
        parents[int(pid)] = int(stat[stat.rindex(")") + 2 :].split()[1])
    for pid, name in names.items():
        above = parents[pid]
        while above > 1 and above != server:
            above = parents.get(above, 0)
        if name == "drover" and above == server:
            return pid
    raise RuntimeError("the server has no worker")


def verdict_ms(judge, word):
    begin = time.monotonic()
    verdict = judge.judge(f"def f(x): return x  # {word}", ["assert f(1) == 1"], mode="inproc")
    assert verdict["outcome"] == "all_passed", verdict
    return (time.monotonic() - begin) * 1e3


with Judge(workers=1, server_options=["--cache", "0"]) as judge:
    verdict_ms(judge, "warm")
    killed, crashed = [], []
    for i in range(ROUNDS):
        os.kill(driver_of(judge._server.pid), signal.SIGKILL)
        killed.append(verdict_ms(judge, f"killed {i}"))
        judge.judge("import os\nos.kill(0, 9)", ["f(1)"], mode="inproc")
        crashed.append(verdict_ms(judge, f"crashed {i}"))
    for what, times in (("driver killed", killed), ("candidate crashed", crashed)):
        print(f"{what}: next verdict after {statistics.median(times):.1f} ms median, {max(times):.1f} at most of {ROUNDS}")
