"""Writes the golden traces of the goal-conditioned environments to tests/golden/environments/.

    python3 scripts/golden/goals.py

They are in the format of `environments.py` and written down here a second time, independently of
the actor, with the standard library alone. float32 arithmetic is float64 arithmetic rounded after
each operation, which gives the same bits for sums and products.
"""

import random
import struct
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "golden" / "environments"


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def text(value):
    """The shortest decimal that reads back to the same float32 (or the integer as it is)."""
    if isinstance(value, int):
        return str(value)
    for digits in range(1, 18):
        shortest = f"{value:.{digits}g}"
        if f32(float(shortest)) == value:
            return shortest
    raise AssertionError(value)


def write(name, comment, header, rows):
    lines = [comment, ",".join(header)]
    lines += [",".join(text(value) for value in row) for row in rows]
    (FOLDER / f"{name}.csv").write_text("\n".join(lines) + "\n")


def columns(state, width, actions):
    return (
        [f"state_{i}" for i in range(state)]
        + actions
        + [f"next_{i}" for i in range(state)]
        + [f"observation_{i}" for i in range(width)]
        + ["reward", "terminated", "truncated", "elapsed"]
    )


def bit_flip(name, bits, arguments, episodes):
    rng = random.Random(bits)
    rows = []

    def number(values):
        return sum(value << index for index, value in enumerate(values))

    for episode in range(episodes):
        state = [rng.randrange(2) for _ in range(bits)]
        goal = [rng.randrange(2) for _ in range(bits)]
        if episode % 3 == 0:
            # A goal two flips away, which the first two actions reach.
            goal = state.copy()
            goal[0] ^= 1
            goal[bits - 1] ^= 1
        for elapsed in range(1, bits + 1):
            action = rng.randrange(bits)
            if episode % 3 == 0 and elapsed <= 2:
                action = [0, bits - 1][elapsed - 1]
            before = number(state)
            state[action] = 1 - state[action]
            reached = all(a == b for a, b in zip(state, goal))
            rows.append(
                [before, number(goal), action, number(state), number(goal), *state, *goal]
                + [0 if reached else -1, int(reached), int(elapsed >= bits), elapsed]
            )
            if reached:
                break
    header = columns(2, 2 * bits, ["action"])
    write(name, f"# BitFlip-v0{arguments}", header, rows)


def point_reach():
    rng = random.Random(2)
    rows = []

    def clip(value):
        return max(-1.0, min(1.0, value))

    def episode(position, goal, policy):
        for elapsed in range(1, 51):
            action = [f32(a) for a in policy(position, goal)]
            before = position
            position = [
                f32(clip(f32(p + f32(f32(0.1) * clip(a))))) for p, a in zip(position, action)
            ]
            distance2 = sum((p - g) ** 2 for p, g in zip(position, goal))
            reward = 0 if distance2 <= f32(0.05) ** 2 else -1
            if elapsed % 4 == 1 or elapsed > 48 or reward == 0:
                rows.append(
                    [*before, *goal, *action, *position, *goal, *position, *goal]
                    + [reward, 0, int(elapsed >= 50), elapsed]
                )

    def start():
        return [f32(rng.uniform(-1, 1)) for _ in range(2)]

    for _ in range(4):
        episode(start(), start(), lambda p, g: [rng.uniform(-1, 1) for _ in range(2)])
        # Straight to the goal and into the border, with velocities that are clipped.
        episode(start(), start(), lambda p, g: [20 * (b - a) for a, b in zip(p, g)])
        episode(start(), start(), lambda p, g: [3.0, -0.7])
    header = columns(4, 4, ["action_0", "action_1"])
    write("point_reach", "# PointReach-v0", header, rows)


if __name__ == "__main__":
    bit_flip("bit_flip", 15, "", 12)
    bit_flip("bit_flip_4", 4, " bits=4", 20)
    point_reach()
