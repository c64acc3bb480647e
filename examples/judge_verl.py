"""A verl reward: `compute_score(data_source, solution_str, ground_truth, extra_info)`; name this file as custom_reward_function.path.

ground_truth is JSON, as in verl's code data sets: {"inputs": [...], "outputs": [...]}, or {"tests": [...], "entry_points": [...]}.
`python3 judge_verl.py` scores three answers of a model.
"""

import json
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clients", "python"))
from drover_judge import Judge

_judge, _lock = None, threading.Lock()


def _shared():
    """One server for all calls of this process; DROVER_JUDGE=unix:PATH shares one between processes."""
    global _judge
    with _lock:
        if _judge is None:
            _judge = Judge(os.environ.get("DROVER_JUDGE"))
        return _judge


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    truth = json.loads(ground_truth) if isinstance(ground_truth, str) else ground_truth
    if "tests" in truth:
        verdict = _shared().judge(solution_str, truth["tests"], entry_points=truth.get("entry_points", []), extract="fenced")
    else:
        tests = [{"input": i, "output": o} for i, o in zip(truth["inputs"], truth["outputs"])]
        verdict = _shared().judge(solution_str, tests, extract="fenced")
    return verdict["passed"] / verdict["total"]  # a judge that failed has raised: no zero is learnt from it


if __name__ == "__main__":
    TRUTH = json.dumps({"tests": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"], "entry_points": ["add"]})
    for answer in ("Sure:\n```python\ndef add(a, b):\n    return a + b\n```\n", "```python\ndef add(a, b):\n    return 3\n```", "I cannot."):
        print(compute_score("example", answer, TRUTH))
