"""The first lines of a host: what it needs, or how to get it."""

import json, os, socket, struct, sys

control = socket.socket(fileno=os.dup(0))


def refuse(message):
    text = json.dumps({"error": message}).encode()
    control.sendall(struct.pack("<II", len(text), 0) + text)
    sys.exit(1)


if sys.version_info < (3, 10):
    refuse(f"Python {sys.version.split()[0]} is too old; environments need 3.10 or newer")
try:
    import numpy as np
    import gymnasium
except ImportError as error:
    refuse(
        f"{type(error).__name__}: {error}; install what is missing with `{sys.executable} -m pip install "
        '"gymnasium==1.4.0" numpy`'
    )
import copy, ctypes, faulthandler, fcntl, importlib, inspect, itertools, mmap, platform, select, signal, threading, time
import traceback
