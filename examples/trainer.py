#!/usr/bin/env python3
"""A trainer that cannot lose its place: fits a line by stochastic gradient descent, saves itself every 50 steps, goes on from there.

    drover guard --notify --store checkpoints --restart transient --stall 10s -- python3 examples/trainer.py 400

Kill anything at any time and start it again: the end is the same to the last bit, because the state that is saved holds the random
generator too. Runs without drover as well. An argument --die-at N makes it crash once at step N, to see that.
"""

import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clients", "python"))
from drover_trainer import Trainer


def main():
    steps = int(sys.argv[1])
    die_at = int(sys.argv[sys.argv.index("--die-at") + 1]) if "--die-at" in sys.argv else None
    trainer = Trainer()
    generator = random.Random(7)
    slope, offset, step = 0.0, 0.0, 0
    if trainer.resume:
        with trainer.phase("load"), open(trainer.resume + "/model.json") as file:
            saved = json.load(file)
        slope, offset, step = saved["slope"], saved["offset"], saved["step"]
        generator.setstate((saved["random"][0], tuple(saved["random"][1]), saved["random"][2]))
    resumed_at = step

    def save():
        state = {"slope": slope, "offset": offset, "step": step, "random": generator.getstate()}
        loss = (slope - 3) ** 2 + (offset + 2) ** 2
        with trainer.phase("save"):
            trainer.checkpoint(json.dumps(state).encode(), step, {"loss": loss}, metric=-loss, name="model.json")

    while step < steps and not trainer.should_stop():
        x = generator.uniform(-1, 1)
        error = slope * x + offset - (3 * x - 2)
        slope, offset, step = slope - 0.1 * error * x, offset - 0.1 * error, step + 1
        trainer.progress(step)
        if step == die_at and resumed_at == 0:
            os.abort()
        if step % 50 == 0:
            save()
    if step % 50 != 0:
        save()
    print("step %d: y = %.17g x + %.17g" % (step, slope, offset), flush=True)


if __name__ == "__main__":
    main()
