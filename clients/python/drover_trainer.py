"""What a trainer tells `drover guard`: that it lives, how far it is, what it has saved. Standard library only; one file, copy it.

    from drover_trainer import Trainer

    trainer = Trainer()                          # outside drover every call does nothing and the program runs as before
    step = trainer.resume_step                   # 0, or where the newest good checkpoint stands
    weights = load(trainer.resume + "/model") if trainer.resume else fresh()
    while not trainer.should_stop():
        step += 1
        train_one(weights)
        trainer.progress(step)
        if step % 100 == 0:
            trainer.checkpoint(save(weights), step, {"reward": reward})
    trainer.checkpoint(save(weights), step)

`drover guard --notify --store DIR -- python3 train.py`. With --spare a second process is started up to `Trainer()` and waits there: make
it after everything that takes long (imports, data), before anything that touches the world. The words on the wire: docs/guard.md.
"""

import contextlib
import mmap
import os
import shutil
import signal
import socket
import struct
import threading
import time

__all__ = ["CheckpointRefused", "Trainer"]

_PHASES = {"none": 0, "load": 1, "train": 2, "save": 3, "eval": 4}
_BEATS, _STEP, _PHASE, _STOP = 8, 16, 24, 28


class CheckpointRefused(Exception):
    """The store did not take it; the reason is the message. What was good before is good still."""


class Trainer:
    """One a process. Any thread may beat; checkpoint() is for one thread at a time."""

    def __init__(self, environ=os.environ):
        self._socket_path = environ.get("NOTIFY_SOCKET")
        self._staging = environ.get("DROVER_STAGING")
        self.resume = environ.get("DROVER_RESUME")  # a directory with the files of the newest good checkpoint, or None
        self.resume_step = int(environ.get("DROVER_RESUME_STEP", "0"))
        gate = environ.get("DROVER_GATE")
        if gate:  # a spare: all that is slow is done; wait until the one before has died
            with open(gate, "rb", buffering=0) as file:
                told = dict(line.split("=", 1) for line in file.read(4096).decode().splitlines() if "=" in line)
            self.resume = told.get("DROVER_RESUME")
            self.resume_step = int(told.get("DROVER_RESUME_STEP", "0"))
        self._asked = False
        self._page = None
        self._beats = 0
        path = environ.get("DROVER_TRAINER_PAGE")
        if path:
            with open(path, "r+b") as file:
                self._page = mmap.mmap(file.fileno(), 4096)
            if self._page[:8] != b"drvtrnr1":
                raise RuntimeError("DROVER_TRAINER_PAGE: '%s' is not of this version" % path)
        if self.attached and threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_term)

    def _on_term(self, number, frame):
        self._asked = True

    @property
    def attached(self):
        """Whether drover listens."""
        return self._socket_path is not None

    def beat(self):
        """Alive. Once progress() was called, beating alone is not enough."""
        if self._page is not None:
            self._beats += 1
            struct.pack_into("<Q", self._page, _BEATS, self._beats)

    def progress(self, step):
        """The highest step that is done."""
        if self._page is not None:
            struct.pack_into("<Q", self._page, _STEP, step)

    @contextlib.contextmanager
    def phase(self, name):
        """with trainer.phase("eval"): the time --phases gives it holds instead of --stall. load, train, save or eval."""
        if self._page is None:
            yield
            return
        before = struct.unpack_from("<I", self._page, _PHASE)[0]
        struct.pack_into("<I", self._page, _PHASE, _PHASES[name])
        try:
            yield
        finally:
            struct.pack_into("<I", self._page, _PHASE, before)

    def should_stop(self):
        """True once a limit is near or somebody asked: save and return; after --grace the process is killed."""
        return self._asked or (self._page is not None and struct.unpack_from("<I", self._page, _STOP)[0] != 0)

    def checkpoint(self, source, step, metrics=None, metric=None, state=None, name=None, timeout=600.0):
        """Saves bytes, a file or a directory. On return it is durable: it survives kill -9 and power loss.

        metrics: {name: number}, for probes; metric: the one to rank by, larger is better; state: text of the trainer's own (random
        generator, iterator). Raises CheckpointRefused with the store's reason. Returns False, having done nothing, outside drover.
        """
        if self._staging is None or self._socket_path is None:
            return False
        path_given = isinstance(source, (str, os.PathLike))
        name = name or (os.path.basename(os.path.abspath(source)) if path_given else "model")
        target = os.path.join(self._staging, name)
        self._remove(target)
        self._remove(target + ".refused")
        if not path_given:
            with open(target, "wb") as file:
                file.write(source)
        elif os.path.isdir(source):
            shutil.copytree(source, target, copy_function=self._link_or_copy)
        else:
            self._link_or_copy(source, target)
        self.progress(step)
        words = ["METRIC_%s=%r" % (key, float(value)) for key, value in (metrics or {}).items()]
        if metric is not None:
            words.append("METRIC=%r" % float(metric))
        if state is not None:
            words.append("STATE=" + state.replace("\n", " "))
        for word in words:
            self._notify(word)
        self._notify("STEP=%d\nCHECKPOINT=%s" % (step, name))
        deadline = time.monotonic() + timeout
        while os.path.lexists(target):
            if os.path.exists(target + ".refused"):
                with open(target + ".refused") as file:
                    reason = file.read().strip()
                self._remove(target)
                raise CheckpointRefused(reason)
            if time.monotonic() > deadline:
                raise CheckpointRefused("no answer within %g s" % timeout)
            time.sleep(0.001)
        return True

    def _notify(self, text):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(text.encode(), self._socket_path)

    @staticmethod
    def _link_or_copy(source, target):
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    @staticmethod
    def _remove(path):
        with contextlib.suppress(FileNotFoundError):
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
