"""Verdicts and rewards for untrusted programs from `drover judge`. Standard library only; one file, copy it.

    from drover_judge import Judge

    with Judge() as judge:                                       # starts a server of its own and ends it; or Judge("unix:/run/judge.sock")
        verdict = judge.judge("def f(x): return x + 1", ["assert f(1) == 2"], entry_points=["f"])
        print(verdict["outcome"], verdict["reward"])             # all_passed 1.0
        for verdict in judge.judge_many(submissions, max_in_flight=64):
            ...                                                  # in the order of `submissions`, which may be endless

    verdict = await judge.judge_async(code, tests)               # cancelling the task cancels the run
    async for verdict in judge.judge_many_async(submissions): ...

What is wrong with the judge is never a zero: such a submission raises NotJudged, or is None, or is left out, as `on_not_judged` says.
A submission is pure: when a server goes away it is sent again, to the next endpoint. Shapes of submissions and verdicts: docs/judge_api.md.
Threads and forked processes may share one Judge; each has connections of its own.
"""

import asyncio
import collections
import concurrent.futures
import fcntl
import glob
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import weakref

__all__ = ["Judge", "NotJudged", "check_code_executes_fast", "classic_status"]


class NotJudged(Exception):
    """The judge failed, not the program. `verdict` is the server's, or None when no server answered."""

    def __init__(self, reason, verdict=None):
        super().__init__(reason)
        self.verdict = verdict


class _Refused(Exception):
    """The server understood and said no: our words are wrong."""


class _Busy(Exception):
    def __init__(self, seconds):
        super().__init__("busy")
        self.seconds = seconds


_SETBACKS = (_Busy, _Refused, OSError, http.client.HTTPException, asyncio.TimeoutError)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Endpoint:
    """unix:/path/to/socket, or http://127.0.0.1:PORT with a token."""

    def __init__(self, address, token):
        self.address = address
        self.path = address[5:] if address.startswith("unix:") else None
        self.host, self.port = None, None
        if self.path is None:
            rest = address.split("://", 1)[-1].rstrip("/")
            self.host, _, port = rest.rpartition(":")
            if not self.host or not port.isdigit():
                raise ValueError(f"drover_judge: endpoint {address!r}: must be unix:PATH or http://HOST:PORT")
            self.port = int(port)
        self.headers = {"Content-Type": "application/json"}
        if token and self.path is None:
            self.headers["Authorization"] = "Bearer " + token

    def connect(self, timeout):
        return _UnixConnection(self.path, timeout) if self.path else http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    async def open(self):
        return await (asyncio.open_unix_connection(self.path) if self.path else asyncio.open_connection(self.host, self.port))


def _understood(status, headers, body):
    if status == 200:
        return json.loads(body)
    if status == 429:
        raise _Busy(min(max(float(headers.get("retry-after", 1)), 0.1), 60.0))
    if status >= 500:
        raise ConnectionError(f"status {status}: {body[:200]!r}")
    raise _Refused(f"drover judge: status {status}: {body.decode('utf-8', 'replace').strip()}")


def _locked(directory, wait):
    """The directory's descriptor under a lock that goes with this process, however it ends; None when another holds it, or it is gone."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if os.stat(directory).st_ino == os.fstat(fd).st_ino and os.fstat(fd).st_uid == os.getuid():
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _own_directory():
    """A directory for the server's socket, and its lock. What programs that were killed have left is removed first."""
    for left in glob.glob(os.path.join(glob.escape(tempfile.gettempdir()), "drover-judge-*")):
        lock = _locked(left, False)
        if lock is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    while True:
        directory = tempfile.mkdtemp(prefix="drover-judge-")
        lock = _locked(directory, True)
        if lock is not None:  # else another took it for one of those, between the two
            return directory, lock


def _end_server(server, directory, lock, owner):
    if os.getpid() != owner:  # a forked child's copy
        return
    server.stdin.close()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    server.stdout.close()
    shutil.rmtree(directory, ignore_errors=True)
    os.close(lock)


class Judge:
    """A client of one or several judge servers.

    endpoints     None: a server of its own is started with `drover judge serve` and ends with this object, or with this process however it
                  ends. Else an address or a list of them: the next is tried when one does not answer.
    token         of endpoints by port
    on_not_judged "raise", "none" or "drop" (judge_many only; judge() then gives None)
    patience      seconds a submission may wait in all for a server that answers
    """

    def __init__(self, endpoints=None, *, token=None, on_not_judged="raise", patience=600.0, drover=None, workers=0, server_options=()):
        if on_not_judged not in ("raise", "none", "drop"):
            raise ValueError("drover_judge: on_not_judged must be raise, none or drop")
        self.on_not_judged = on_not_judged
        self.patience = patience
        self._local = threading.local()
        self._server, self._end = None, lambda: None
        if endpoints is None:
            endpoints = self._start(drover, workers, server_options)
        self._endpoints = [_Endpoint(one, token) for one in ([endpoints] if isinstance(endpoints, str) else endpoints)]
        if not self._endpoints:
            raise ValueError("drover_judge: no endpoint")
        self._first = 0

    # ---- the server of its own

    def _start(self, drover, workers, options):
        program = drover or os.environ.get("DROVER") or shutil.which("drover")
        if program is None:
            raise FileNotFoundError("drover_judge: no program 'drover' on PATH; name it: Judge(drover=...) or DROVER=...")
        directory, lock = _own_directory()
        path = os.path.join(directory, "socket")
        # It ends when its stdin does: with us, even by SIGKILL.
        self._server = subprocess.Popen([program, "judge", "serve", "--socket", path, "--workers", str(workers), "--until-stdin-ends", "--json", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if not self._server.stdout.readline():
            status = self._server.wait()
            shutil.rmtree(directory, ignore_errors=True)
            os.close(lock)
            raise RuntimeError(f"drover_judge: the server did not start (exit status {status}); `drover judge doctor` says why")
        self._end = weakref.finalize(self, _end_server, self._server, directory, lock, os.getpid())  # also when the program ends without close()
        return "unix:" + path

    def close(self):
        self._end()
        self._hang_up()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- one request

    def _hang_up(self):
        connection = getattr(self._local, "connection", None)
        if connection is not None and getattr(self._local, "pid", None) == os.getpid():
            connection.close()
        self._local.connection = None

    def _post_once(self, number, path, body, timeout):
        local = self._local
        if getattr(local, "connection", None) is None or local.pid != os.getpid() or local.number != number:
            self._hang_up()
            local.connection, local.pid, local.number = self._endpoints[number].connect(timeout), os.getpid(), number
        local.connection.timeout = timeout
        if local.connection.sock is not None:
            local.connection.sock.settimeout(timeout)
        try:
            local.connection.request("POST", path, body, self._endpoints[number].headers)
            answer = local.connection.getresponse()
            data = answer.read()
        except BaseException:
            self._hang_up()
            raise
        return _understood(answer.status, {name.lower(): value for name, value in answer.getheaders()}, data)

    def _tries(self, deadline):
        """Endpoints to try until `deadline`: the one that answered last, then the next ones, with growing pauses once all were tried."""
        tried = 0
        while True:
            yield (self._first + tried) % len(self._endpoints), tried
            tried += 1
            if time.monotonic() > deadline:
                return

    @staticmethod
    def _pause(tried, count):
        """After a whole round without an answer; jittered, or all clients come back at once."""
        return 0.0 if tried % count != count - 1 else min(0.05 * 2 ** min(tried // count, 6), 2.0) * (0.5 + random.random())

    def _after(self, error, tried):
        """What a failed try means: why, and how long to pause before the next. Wrong words are an error at once."""
        if isinstance(error, _Refused):
            raise ValueError(str(error)) from None
        pause = self._pause(tried, len(self._endpoints))
        if isinstance(error, _Busy):
            return "busy", error.seconds if len(self._endpoints) == 1 else pause or 0.05
        return repr(error), pause

    def post(self, path, value):
        """POSTs JSON and returns the answer's. Raises NotJudged when no server answers within `patience`, ValueError on a refusal."""
        body, deadline, why = json.dumps(value).encode(), time.monotonic() + self.patience, "no server answered"
        for number, tried in self._tries(deadline):
            try:
                answer = self._post_once(number, path, body, max(deadline - time.monotonic(), 0.1))
                self._first = number
                return answer
            except _SETBACKS as error:
                why, pause = self._after(error, tried)
            time.sleep(min(pause, max(deadline - time.monotonic(), 0)))
        raise NotJudged(f"no verdict within {self.patience} s: {why}")

    async def _post_once_async(self, endpoint, path, body):
        reader, writer = await endpoint.open()
        try:
            head = "".join(f"{name}: {value}\r\n" for name, value in endpoint.headers.items())
            writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body)
            await writer.drain()
            status = int((await reader.readline()).split(b" ", 2)[1])
            headers = {}
            while (line := (await reader.readline()).strip()):
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            return _understood(status, headers, await reader.readexactly(int(headers["content-length"])))
        except (IndexError, KeyError, ValueError, asyncio.IncompleteReadError) as error:
            raise ConnectionError(f"the answer is no HTTP: {error!r}") from None
        finally:
            writer.close()

    async def post_async(self, path, value):
        body, deadline, why = json.dumps(value).encode(), time.monotonic() + self.patience, "no server answered"
        for number, tried in self._tries(deadline):
            try:
                answer = await asyncio.wait_for(self._post_once_async(self._endpoints[number], path, body), max(deadline - time.monotonic(), 0.1))
                self._first = number
                return answer
            except _SETBACKS as error:
                why, pause = self._after(error, tried)
            await asyncio.sleep(min(pause, max(deadline - time.monotonic(), 0)))  # sleep: between tries, bounded
        raise NotJudged(f"no verdict within {self.patience} s: {why}")

    # ---- verdicts

    @staticmethod
    def submission(code, tests, **more):
        """A submission from its parts; keys as in docs/judge_api.md: language, entry_points, prelude, mode, limits, extract, id."""
        return {"code": code, "tests": list(tests), **more}

    def _settle(self, verdict, error):
        if error is None and verdict["outcome"] != "not_judged":
            return verdict
        if self.on_not_judged == "raise":
            raise error or NotJudged(verdict.get("reason", "not judged"), verdict)
        return None

    def _judge(self, submission):
        try:
            return self._settle(self.post("/v1/judge", submission), None)
        except NotJudged as error:
            return self._settle(None, error)

    async def _judge_async(self, submission):
        try:
            return self._settle(await self.post_async("/v1/judge", submission), None)
        except NotJudged as error:
            return self._settle(None, error)

    def judge(self, code, tests, **more):
        """The verdict of one program, a dictionary; None when it could not be judged and `on_not_judged` is not raise."""
        return self._judge(self.submission(code, tests, **more))

    async def judge_async(self, code, tests, **more):
        return await self._judge_async(self.submission(code, tests, **more))

    def add_test_set(self, tests, **more):
        """Registers tests that many submissions share; use the sha256 it returns as submission["test_set"]. A server that was restarted forgets it."""
        return self.post("/v1/test_sets", {"tests": list(tests), **more})["sha256"]

    def judge_many(self, submissions, max_in_flight=32):
        """Verdicts in the order of `submissions` (dictionaries), which are pulled as there is room."""
        open_, source = collections.deque(), iter(submissions)
        with concurrent.futures.ThreadPoolExecutor(max_in_flight, "drover-judge") as threads:
            try:
                while True:
                    while len(open_) < max_in_flight:
                        try:
                            open_.append(threads.submit(self._judge, next(source)))
                        except StopIteration:
                            break
                    if not open_:
                        return
                    verdict = open_.popleft().result()
                    if verdict is not None or self.on_not_judged == "none":
                        yield verdict
            finally:
                for one in open_:
                    one.cancel()

    async def judge_many_async(self, submissions, max_in_flight=32):
        """As judge_many; leaving the loop cancels what is open."""
        open_, source = collections.deque(), iter(submissions)
        try:
            while True:
                while len(open_) < max_in_flight:
                    try:
                        open_.append(asyncio.ensure_future(self._judge_async(next(source))))
                    except StopIteration:
                        break
                if not open_:
                    return
                verdict = await open_.popleft()
                if verdict is not None or self.on_not_judged == "none":
                    yield verdict
        finally:
            for one in open_:
                one.cancel()
            await asyncio.gather(*open_, return_exceptions=True)


# ---- for programs that called a pool's check_code_executes_fast(code, tests, timeout)

def classic_status(verdict):
    """One of all_passed, some_failed, syntax_error, timeout, error, process_error."""
    if verdict is None or verdict["outcome"] == "not_judged":
        return "process_error"
    if verdict["outcome"] == "all_passed":
        return "all_passed"
    runs = [test["run"] for test in verdict["tests"]] + ([verdict["compile"]["run"]] if "compile" in verdict else [])
    details = [test.get("detail") for test in verdict["tests"]]
    if "compile_error" in runs or ("load_error" in runs and any(one in ("SyntaxError", "IndentationError", "TabError") for one in details)):
        return "syntax_error"
    if "cpu_limit" in runs or "wall_limit" in runs:
        return "timeout"
    if verdict["passed"] or "fail" in [test["outcome"] for test in verdict["tests"]]:
        return "some_failed"
    return "error"


_shared, _shared_lock = None, threading.Lock()


def check_code_executes_fast(code, tests, timeout=5.0, *, judge=None, **more):
    """{"status", "passed", "total", "verdict"}. Without `judge` one server is started for this process and shared. The tests run in mode
    inproc unless `entry_points` names what they call: then they cannot be forged. A fault of the judge raises NotJudged."""
    global _shared
    if judge is None:
        with _shared_lock:
            if _shared is None:
                _shared = Judge()
            judge = _shared
    verdict = judge.judge(code, tests, limits={"cpu_seconds": timeout}, **more)
    return {"status": classic_status(verdict), "passed": verdict["passed"] if verdict else 0, "total": len(tests), "verdict": verdict}
