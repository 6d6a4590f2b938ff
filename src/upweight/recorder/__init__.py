"""What scores through a training need of it, written while it runs, and read back.

recorder = uw.Recorder("run", model, optimizer, every=100)
for batch in loader:
    …
    optimizer.step()
    recorder.step(positions)
recorder.close()

uw.TracIn.from_recording(objective, uw.Recording.open("run"))

A recording is a store of committed blocks. ``step-N``: θ and the metric of steps after N steps. ``log-N``: rates and
examples of the steps that follow on the N-th. ``once-N``: what doesn't change, written when it was first seen.
"""

from upweight.recorder.recorder import Recorder
from upweight.recorder.recording import Recording

__all__ = ["Recorder", "Recording"]
