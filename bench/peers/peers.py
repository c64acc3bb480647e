#!/usr/bin/python3
"""The pools a Python user would pick instead, one scenario a call, measured the way bench/ measures drover.

    peers.py PEER SCENARIO [SEED]    one JSON object on stdout; {"not_installed": true} where the peer is absent
    peers.py list                    the peers and their versions

PEER: mp-pool  executor  loky  pebble. SCENARIO: pool (throughput, round trips, echo), or one failure: kill1 storm idlekill
sigstop forever superkill. Two workers, default start method, one task a message. Every wait here has a deadline; a pool that
hangs is left to the caller, who started this program in its own process group and ends that group at the bound.
"""
import collections
import importlib
import json
import os
import random
import signal
import sys
import threading
import time

WORKERS = 2
BURN_SECONDS = 0.0003
now = time.perf_counter


# What the workers run.
def noop(x):
    return x


def echo(data):
    return data


def burn(x):
    until = now() + BURN_SECONDS
    while now() < until:
        pass
    return x


def forever(_):
    while True:
        pass


class MpPool:
    name, module = "multiprocessing.Pool", "multiprocessing"

    def __init__(self):
        self.pool = importlib.import_module("multiprocessing").Pool(WORKERS)

    def submit(self, function, x, timeout=None):
        return self.pool.apply_async(function, (x,))

    def result(self, handle, seconds):
        return handle.get(seconds)

    def all(self, function, count):
        return list(self.pool.imap(function, range(count), 1))


class Executor:
    name, module = "ProcessPoolExecutor", "concurrent.futures"

    def __init__(self):
        self.pool = importlib.import_module("concurrent.futures").ProcessPoolExecutor(WORKERS)

    def submit(self, function, x, timeout=None):
        return self.pool.submit(function, x)

    def result(self, handle, seconds):
        return handle.result(timeout=seconds)

    def all(self, function, count):
        return list(self.pool.map(function, range(count), chunksize=1))


class Loky(Executor):
    name, module = "joblib loky", "joblib"

    def __init__(self):
        self.pool = importlib.import_module("joblib.externals.loky").get_reusable_executor(max_workers=WORKERS)


class Pebble(Executor):
    name, module = "pebble", "pebble"

    def __init__(self):
        self.pool = importlib.import_module("pebble").ProcessPool(max_workers=WORKERS)

    def submit(self, function, x, timeout=None):
        return self.pool.schedule(function, args=[x], timeout=timeout)

    def all(self, function, count):
        handles = [self.submit(function, i) for i in range(count)]
        return [h.result(timeout=60) for h in handles]


PEERS = {"mp-pool": MpPool, "executor": Executor, "loky": Loky, "pebble": Pebble}


def installed(peer):
    try:
        return importlib.import_module(PEERS[peer].module)
    except ImportError:
        return None


def children():
    """Pids of this program's living worker processes; helpers such as resource trackers are not workers."""
    found = []
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as f:
                pids = [int(word) for word in f.read().split()]
        except OSError:
            continue
        for pid in pids:
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read()
                if state(pid) not in "Z-" and b"tracker" not in words:
                    found.append(pid)
            except OSError:
                pass
    return found


def state(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0]
    except OSError:
        return "-"


def cpu_seconds(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            words = f.read().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def kill(pid, number=signal.SIGKILL):
    try:
        os.kill(pid, number)
        return True
    except OSError:
        return False


def warm(peer):
    """Both workers have run something: their pids are then the pool's workers."""
    handles = [peer.submit(burn, i) for i in range(200)]
    for handle in handles:
        peer.result(handle, 30)
    return children()


def ending(error):
    """How a wait ended that brought no value: 'timeout' when our own bound passed, else the exception's name."""
    name = type(error).__name__
    return "timeout" if name == "TimeoutError" else name


def bench_pool(make):
    started = now()
    peer = make()
    peer.result(peer.submit(noop, 0), 30)
    row = {"start_ms": (now() - started) * 1e3}
    warm(peer)
    count = 10000
    at = now()
    values = peer.all(noop, count)
    row["noop_per_s"] = count / (now() - at)
    assert values == list(range(count))
    times = []
    for i in range(2000):
        at = now()
        peer.result(peer.submit(noop, i), 30)
        times.append(now() - at)
    times.sort()
    row["rtt_p50_us"], row["rtt_p99_us"] = times[len(times) // 2] * 1e6, times[len(times) * 99 // 100] * 1e6
    for label, size, count, in_flight in (("64k", 1 << 16, 300, 4), ("64k_64", 1 << 16, 1200, 64), ("1m", 1 << 20, 40, 4), ("16m", 1 << 24, 6, 4)):
        data = os.urandom(size)
        waiting = collections.deque(peer.submit(echo, data) for _ in range(2))
        while waiting:
            peer.result(waiting.popleft(), 30)
        at = now()
        for _ in range(count):
            waiting.append(peer.submit(echo, data))
            if len(waiting) == in_flight:
                assert len(peer.result(waiting.popleft(), 30)) == size
        while waiting:
            assert len(peer.result(waiting.popleft(), 30)) == size
        row[f"echo_{label}_mb_per_s"] = 2 * size * count / (now() - at) / 1e6
    return row


def bench_kill1(make, seed):
    return under_kills(make, count=10000, every=None, bound=25, seed=seed)


def bench_storm(make, seed):
    return under_kills(make, count=20000, every=0.03, bound=20, seed=seed)


def under_kills(make, count, every, bound, seed):
    """`count` tasks of 0.3 ms; from 15 % on SIGKILL one worker once (every None) or one each `every` seconds."""
    peer = make()
    warm(peer)
    before = set(children())
    chance = random.Random(seed)
    done, first_kill, new_worker, kills = [0], [None], [None], [0]
    over = threading.Event()

    def killer():
        while not over.is_set() and done[0] < count * 0.15:
            over.wait(0.001)
        while not over.is_set():
            alive = children()
            if alive and kill(chance.choice(alive)):
                kills[0] += 1
                first_kill[0] = first_kill[0] or now()
            if every is None:
                while not over.is_set() and new_worker[0] is None:
                    if set(children()) - before:
                        new_worker[0] = now()
                    over.wait(0.002)
                return
            over.wait(every)

    handles, refused = [], collections.Counter()

    def feed():
        for i in range(count):
            try:
                handles.append(peer.submit(burn, i))
            except Exception as error:
                refused[type(error).__name__] += 1
                return

    threads = [threading.Thread(target=f, daemon=True) for f in (killer, feed)]
    for thread in threads:
        thread.start()
    deadline, failed, wrong, unresolved, first_error = now() + bound, collections.Counter(), 0, 0, None
    at = started = now()
    i = 0
    while i < count:
        if i >= len(handles):
            if not threads[1].is_alive() and i >= len(handles):
                break
            if now() > deadline:
                break
            time.sleep(0.0005)
            continue
        try:
            wrong += peer.result(handles[i], max(0.0, deadline - now())) != i
            done[0] += 1
        except Exception as error:
            if ending(error) == "timeout":
                unresolved += 1
            else:
                failed[ending(error)] += 1
                first_error = first_error or now()
        i += 1
    seconds = now() - started
    over.set()
    usable = "usable"
    try:
        peer.result(peer.submit(noop, 7), 3)
    except Exception as error:
        usable = "hangs" if ending(error) == "timeout" else "unusable: " + ending(error)
    row = {"tasks": count, "ok": done[0], "failed": sum(failed.values()) + (count - len(handles)), "never_resolved": unresolved,
           "wrong": wrong, "kills": kills[0], "endings": dict(failed + refused), "seconds": seconds, "after": usable}
    if first_kill[0] and first_error:
        row["kill_to_error_ms"] = (first_error - first_kill[0]) * 1e3
    if first_kill[0] and new_worker[0]:
        row["kill_to_new_worker_ms"] = (new_worker[0] - first_kill[0]) * 1e3
    return row


def bench_idlekill(make, seed):
    peer = make()
    workers = warm(peer)
    time.sleep(0.5)
    kill(random.Random(seed).choice(workers))
    time.sleep(1.5)
    at = now()
    try:
        peer.result(peer.submit(noop, 5), 10)
        said = "ok"
    except Exception as error:
        said = "hangs" if ending(error) == "timeout" else ending(error)
    return {"next_task": said, "ms": (now() - at) * 1e3}


def bench_sigstop(make, seed):
    peer = make()
    workers = warm(peer)
    handles = [peer.submit(burn, i) for i in range(2000)]
    time.sleep(0.1)
    kill(random.Random(seed).choice(workers), signal.SIGSTOP)
    deadline, ok, failed, unresolved = now() + 8, 0, 0, 0
    for handle in handles:
        try:
            peer.result(handle, max(0.002, deadline - now()))
            ok += 1
        except Exception as error:
            if ending(error) == "timeout":
                unresolved += 1
            else:
                failed += 1
    return {"tasks": 2000, "ok": ok, "failed": failed, "never_resolved": unresolved}


def bench_forever(make, seed):
    peer = make()
    warm(peer)
    limited = isinstance(peer, Pebble)
    at = now()
    try:
        peer.result(peer.submit(forever, 0, timeout=1.0 if limited else None), 5)
        said = "?"
    except Exception as error:
        said = "no limit" if not limited else ("ended" if now() - at < 4.5 else "hangs")
    seconds = now() - at
    used = {pid: cpu_seconds(pid) for pid in children()}
    time.sleep(1)
    spinning = sum(1 for pid, before in used.items() if cpu_seconds(pid) - before > 0.03)
    try:
        peer.result(peer.submit(noop, 5), 5)
        after = "ok"
    except Exception as error:
        after = ending(error)
    return {"said": said, "seconds": seconds, "still_spinning": spinning, "next_task": after}


def bench_superkill(make, seed):
    """A second program makes the pool, gives it an endless task and is SIGKILLed; who is left, and for how long?"""
    peer_word = next(word for word, kind in PEERS.items() if kind is make)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        peer = make()
        warm(peer)
        peer.submit(forever, 0)
        time.sleep(0.5)
        os.write(writing, json.dumps(children()).encode() + b"\n")
        time.sleep(60)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        workers = json.loads(pipe.readline())
    kill(child)
    killed = now()
    os.waitpid(child, 0)
    gone = None
    row = {"workers": len(workers), "peer": peer_word}
    while now() - killed < 5:
        left = [pid for pid in workers if state(pid) not in "Z-"]
        if not left and gone is None:
            gone = now() - killed
            break
        time.sleep(0.001)
    row["left_after_5s"] = sum(state(pid) not in "Z-" for pid in workers)
    if gone is not None:
        row["gone_after_ms"] = gone * 1e3
    for pid in workers:
        kill(pid)
    return row


def main(words):
    if words[:1] == ["list"]:
        print(json.dumps({w: {"name": k.name, "version": getattr(installed(w), "__version__", None) or "Python " + sys.version.split()[0]}
                          if installed(w) else {"name": k.name, "not_installed": True} for w, k in PEERS.items()}))
        return
    peer, scenario, seed = words[0], words[1], int(words[2]) if len(words) > 2 else 1
    if not installed(peer):
        print(json.dumps({"not_installed": True}))
        return
    import logging
    import warnings
    logging.disable(logging.CRITICAL)
    warnings.filterwarnings("ignore")
    make = PEERS[peer]
    row = bench_pool(make) if scenario == "pool" else globals()["bench_" + scenario](make, seed)
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
    for pid in children():
        kill(pid)
    os._exit(0)  # a broken pool's own exit handlers may wait for ever


if __name__ == "__main__":
    main(sys.argv[1:])
