"""Writes the golden traces of the environments that take a memory to tests/golden/environments/.

    python3 scripts/golden/memory.py

They are in the format of `environments.py` and written down here a second time, independently of
the actor, with the standard library alone.
"""

import math
import random
import struct
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "golden" / "environments"


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def write(name, comment, header, rows):
    lines = [comment, ",".join(header)]
    lines += [",".join(repr(value) for value in row) for row in rows]
    (FOLDER / f"{name}.csv").write_text("\n".join(lines) + "\n")


def columns(state, width):
    return (
        [f"state_{i}" for i in range(state)]
        + ["action"]
        + [f"next_{i}" for i in range(state)]
        + [f"observation_{i}" for i in range(width)]
        + ["reward", "terminated", "truncated", "elapsed"]
    )


def cart_pole_step(state, action):
    """Equations 23 and 24 of Florian 2007, "Correct equations for the dynamics of the cart-pole
    system", without friction, one Euler step of 20 ms."""
    x, x_dot, theta, theta_dot = state
    force = 10.0 if action == 1 else -10.0
    cosine, sine = math.cos(theta), math.sin(theta)
    pole_mass, half_length, total = 0.1, 0.5, 0.1 + 1.0
    push = (force + pole_mass * half_length * theta_dot**2 * sine) / total
    theta_acc = (9.8 * sine - cosine * push) / (
        half_length * (4.0 / 3.0 - pole_mass * cosine**2 / total)
    )
    x_acc = push - pole_mass * half_length * theta_acc * cosine / total
    return (
        x + 0.02 * x_dot,
        x_dot + 0.02 * x_acc,
        theta + 0.02 * theta_dot,
        theta_dot + 0.02 * theta_acc,
    )


def cart_pole():
    rng = random.Random(1)
    rows = []
    for episode in range(8):
        state = tuple(rng.uniform(-0.05, 0.05) for _ in range(4))
        for elapsed in range(1, 501):
            # Half of the episodes balance the pole and last, the others push at random and fall.
            action = int(state[2] + state[3] > 0) if episode % 2 else rng.randrange(2)
            following = cart_pole_step(state, action)
            x, _, theta, _ = following
            fell = abs(x) > 2.4 or abs(theta) > math.radians(12)
            if episode % 2 == 0 or elapsed % 10 == 0 or elapsed > 498 or fell:
                rows.append(
                    [*state, action, *following, f32(x), f32(theta), 1.0]
                    + [int(fell), int(elapsed >= 500), elapsed]
                )
            state = following
            if fell:
                break
    write("cart_pole_no_velocity", "# CartPoleNoVelocity-v1", columns(4, 2), rows)


def t_maze(name, length, arguments, episodes):
    rng = random.Random(length)
    rows = []
    north, east, south, west = range(4)
    for episode in range(episodes):
        cell, goal_is_south = 0, episode % 2
        for elapsed in range(1, 10 * (length + 1) + 1):
            # Some never arrive, some walk straight on, some wander.
            if episode == 0:
                action = rng.choice([north, south, west])
            elif episode < 6:
                action = east if cell < length else rng.choice([north, south, south, north, east])
            else:
                action = rng.choice([north, east, east, east, south, west])
            before, moved, terminated, reward = cell, False, False, 0.0
            if action == east and cell != length:
                cell, moved = cell + 1, True
            if action == west and cell != 0:
                cell, moved = cell - 1, True
            if action in (north, south) and cell == length:
                terminated = True
                reward = 4.0 if (action == south) == bool(goal_is_south) else -0.1
            elif not moved:
                reward = -0.1
            if cell == 0:
                seen = [1.0, 1.0, 0.0] if goal_is_south else [0.0, 1.0, 1.0]
            elif cell == length:
                seen = [0.0, 1.0, 0.0]
            else:
                seen = [1.0, 0.0, 1.0]
            rows.append(
                [before, goal_is_south, action, cell, goal_is_south, *seen, reward]
                + [int(terminated), int(elapsed >= 10 * (length + 1)), elapsed]
            )
            if terminated:
                break
    write(name, f"# TMaze-v0{arguments}", columns(2, 3), rows)


if __name__ == "__main__":
    cart_pole()
    t_maze("t_maze", 10, "", 14)
    t_maze("t_maze_3", 3, " length=3", 14)
