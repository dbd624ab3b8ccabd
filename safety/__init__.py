import os

# The runtime that most networks here run in reports to its makers unless this is set before it is loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
