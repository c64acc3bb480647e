"""A TRL reward function for GRPOTrainer(reward_funcs=code_reward): `completions` and the data set's column `tests`, a list of rewards back.

None is TRL's word for "no reward for this one": what the judge could not judge is None, never 0.
`python3 judge_trl.py` scores three completions.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clients", "python"))
from drover_judge import Judge

judge = Judge(os.environ.get("DROVER_JUDGE"), on_not_judged="none")


def code_reward(completions, tests, entry_points=None, **_):
    names = entry_points or [[]] * len(completions)
    texts = [one if isinstance(one, str) else one[0]["content"] for one in completions]
    submissions = ({"code": text, "tests": list(t), "entry_points": list(n), "extract": "fenced"} for text, t, n in zip(texts, tests, names))
    return [None if verdict is None else verdict["reward"] for verdict in judge.judge_many(submissions, max_in_flight=16)]


if __name__ == "__main__":
    ANSWERS = ["```python\ndef f(x):\n    return 2 * x\n```", [{"role": "assistant", "content": "```python\ndef f(x):\n    return x\n```"}], "no code"]
    print(code_reward(ANSWERS, [["assert f(2) == 4"]] * 3, [["f"]] * 3))
    judge.close()
