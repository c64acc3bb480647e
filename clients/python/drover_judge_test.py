"""Tests of drover_judge.py against real servers: python3 drover_judge_test.py, with DROVER naming the program."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from drover_judge import Judge, NotJudged, check_code_executes_fast

ADD = "def f(x):\n    return x + 1\n"


def numbers(count):
    for i in range(count):
        yield {"id": str(i), "code": f"print({i})", "tests": [{"input": "", "output": str(i if i % 3 else -1)}]}


def gone(pid, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return True
        except OSError:
            return True
        signal.sigtimedwait([], 0.05)
    return False


class JudgeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.judge = Judge()

    @classmethod
    def tearDownClass(cls):
        cls.judge.close()

    def test_one_verdict(self):
        verdict = self.judge.judge(ADD, ["assert f(1) == 2", "assert f(1) == 3"], entry_points=["f"])
        self.assertEqual((verdict["outcome"], verdict["passed"], verdict["trust"]), ("some_failed", 1, "unforgeable"))

    def test_many_come_in_their_order_and_are_pulled_as_there_is_room(self):
        pulled = [0]

        def source():
            for one in numbers(60):
                pulled[0] += 1
                yield one

        for i, verdict in enumerate(self.judge.judge_many(source(), max_in_flight=8)):
            self.assertEqual(verdict["id"], str(i))
            self.assertEqual(verdict["reward"], 1.0 if i % 3 else 0.0)
            self.assertLessEqual(pulled[0], i + 9)

    def test_asyncio(self):
        async def all_of():
            return [verdict["id"] async for verdict in self.judge.judge_many_async(numbers(20), max_in_flight=5)]

        self.assertEqual(asyncio.run(all_of()), [str(i) for i in range(20)])

    def test_a_cancelled_task_cancels_its_run(self):
        async def cancelled():
            task = asyncio.ensure_future(self.judge.judge_async("import time\ntime.sleep(100)  # sleep: is cancelled", [{"input": "", "output": ""}], limits={"wall_seconds": 90}))
            await asyncio.wait([task], timeout=1.0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return await self.judge.judge_async("print(1)", [{"input": "", "output": "1"}])

        begin = time.monotonic()
        self.assertEqual(asyncio.run(cancelled())["outcome"], "all_passed")
        self.assertLess(time.monotonic() - begin, 60)

    def test_what_cannot_be_judged_is_no_zero(self):
        unsupported = {"language": "bash", "mode": "inproc", "code": "true", "tests": ["true"]}
        with self.assertRaises(NotJudged) as caught:
            self.judge.judge("true", ["true"], language="bash", mode="inproc")
        self.assertIsNone(caught.exception.verdict["reward"])
        good = next(numbers(1))
        address = self.judge._endpoints[0].address
        self.assertEqual([v and v["id"] for v in Judge(address, on_not_judged="none").judge_many([unsupported, good])], [None, "0"])
        self.assertEqual([v["id"] for v in Judge(address, on_not_judged="drop").judge_many([unsupported, good])], ["0"])

    def test_wrong_words_are_an_error_at_once(self):
        with self.assertRaisesRegex(ValueError, "surprise"):
            self.judge.judge("", ["true"], surprise=1)

    def test_an_endpoint_that_is_gone_is_passed_over(self):
        with Judge(["unix:/nowhere/at/all", self.judge._endpoints[0].address]) as both:
            self.assertEqual([v["id"] for v in both.judge_many(numbers(10), 4)], [str(i) for i in range(10)])
        with Judge("unix:/nowhere/at/all", patience=0.3) as nobody, self.assertRaises(NotJudged):
            nobody.judge("", [])

    def test_the_words_of_before(self):
        words = {
            "all_passed": (ADD, ["assert f(1) == 2"], 5),
            "some_failed": (ADD, ["assert f(1) == 2", "assert f(1) == 1"], 5),
            "syntax_error": ("def f(:", ["assert f(1) == 2"], 5),
            "timeout": ("def f(x):\n    while True: pass", ["f(1)"], 0.2),
            "error": ("raise ValueError()", ["f(1)"], 5),
        }
        for status, (code, tests, timeout) in words.items():
            for more in ({}, {"entry_points": ["f"]}):
                self.assertEqual(check_code_executes_fast(code, tests, timeout, judge=self.judge, **more)["status"], status, (status, more))

    def test_a_server_that_is_killed_is_followed_by_the_next(self):
        with Judge(workers=1) as second:
            addresses = [second._endpoints[0].address, self.judge._endpoints[0].address]
            both = Judge(addresses)
            ids = []
            for verdict in both.judge_many(numbers(40), 4):
                ids.append(verdict["id"])
                if len(ids) == 5:
                    second._server.send_signal(signal.SIGKILL)
            self.assertEqual(ids, [str(i) for i in range(40)])

    def test_a_program_that_forgets_to_close_leaves_nothing(self):
        program = "import sys; sys.path.insert(0, %r); from drover_judge import Judge; j = Judge(); print(j._server.pid, j._endpoints[0].path)" % os.path.dirname(os.path.abspath(__file__))
        pid, path = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        self.assertTrue(gone(int(pid)))
        self.assertFalse(os.path.exists(os.path.dirname(path)))

    def test_its_server_ends_with_the_program_that_started_it(self):
        program = "import os, sys; sys.path.insert(0, %r); from drover_judge import Judge; j = Judge(); print(j._server.pid, j._endpoints[0].path, flush=True); os.kill(os.getpid(), 9)" % os.path.dirname(os.path.abspath(__file__))
        pid, path = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False).stdout.split()
        self.assertTrue(gone(int(pid)))
        with Judge() as next_one:  # takes away what was left, and nothing of who lives
            self.assertFalse(os.path.exists(os.path.dirname(path)))
            self.assertTrue(os.path.exists(os.path.dirname(self.judge._endpoints[0].path)))
            self.assertEqual(next_one.judge("def f(x): return x", ["assert f(1) == 1"])["outcome"], "all_passed")


if __name__ == "__main__":
    unittest.main()
