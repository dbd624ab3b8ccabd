"""Serves. The one package that may read the clock and the environment."""

import os

# Before numpy and torch are loaded anywhere: their threads would compete with each other, with the encoder's and
# with the other job's, and a call that takes one second alone was seen to take twenty.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
