#!/usr/bin/env python3
"""Steps a MuJoCo environment of Gymnasium along a script, for `actor/tests/mujoco.rs`.

    mujoco_environments.py HalfCheetah-v5 forward_reward_weight=2 healthy_z_range="0.8, 2" < script > trace

Unlike the other scripts beside it this one has no output in the tree: physics is equal bit for bit
only where one library computed both sides, so the test runs it against the library at hand.

The script, in little-endian numbers: how many episodes, how many steps each has (u32), and for each
episode positions and velocities at the beginning (f64) and the actions (f32). The trace: for each
episode the first observation (f64), and for each step observation, reward (f64) and terminated (u8).

Needs gymnasium 1.4.0 and mujoco 4.0.0 or 3.17.0.
"""

import signal
import struct
import sys

import gymnasium
import mujoco
import numpy as np

# Whoever started it may be gone.
signal.alarm(300)


def value(text):
    """An argument as Rookery's configuration writes it, as Python's."""
    if text in ("true", "false"):
        return text == "true"
    if "," in text:
        return tuple(float(part) for part in text.split(","))
    try:
        return float(text) if "." in text or "e" in text else int(text)
    except ValueError:
        return text


def main():
    assert gymnasium.__version__ == "1.4.0", gymnasium.__version__
    environment_id, *pairs = sys.argv[1:]
    arguments = {name: value(text) for name, text in (pair.split("=", 1) for pair in pairs)}
    # Not a value for the environment, but for whoever runs it.
    assert arguments.pop("mujoco_version", mujoco.__version__) == mujoco.__version__
    environment = gymnasium.make(environment_id, disable_env_checker=True, **arguments).unwrapped
    environment.reset(seed=0)
    model, data = environment.model, environment.data

    script, trace = sys.stdin.buffer, sys.stdout.buffer

    def read(count, kind):
        return np.frombuffer(script.read(count * np.dtype(kind).itemsize), kind)

    num_episodes, num_steps = (int(count) for count in read(2, "<u4"))
    for _ in range(num_episodes):
        mujoco.mj_resetData(model, data)
        environment.set_state(read(model.nq, "<f8"), read(model.nv, "<f8"))
        trace.write(np.asarray(environment._get_obs(), "<f8").tobytes())
        for action in read(num_steps * model.nu, "<f4").reshape(num_steps, model.nu):
            observation, reward, terminated, truncated, _ = environment.step(action)
            assert not truncated, "only the time limit truncates, and it is not applied here"
            trace.write(np.asarray(observation, "<f8").tobytes())
            trace.write(struct.pack("<dB", reward, terminated))
    trace.flush()


main()
