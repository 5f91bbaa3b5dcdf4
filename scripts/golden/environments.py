"""Writes the golden traces of the actor's environments to tests/golden/environments/.

    python3 -m venv .venv
    .venv/bin/pip install gymnasium==1.4.0 numpy==2.4.6
    .venv/bin/python scripts/golden/environments.py

Traces of the classic control tasks and of the grid world are CSV files, one transition a line. A
first line in comments names the environment and its arguments. Columns:

    state_i        state before the step as float64, also where the environment keeps float32
    action         the action as float32, a discrete one as its index
    next_i         state after the step
    observation_i  what the agent sees after the step, float32
    reward         float64, as the environment gives it
    terminated, truncated   0 or 1; the latter is the TimeLimit wrapper's
    elapsed        steps of the episode, this one included

Numbers are the shortest decimals that read back to the same bits. Episodes use random actions and
scripted ones that reach walls, speed limits, goals and the time limit; only some lines of the long
ones are kept. The toy lake is written as its whole transition table, and as sampled steps with the
uniform number that decided them. The grid world, which Gymnasium does not have, is written down here a
second time, independently of the actor.
"""

import csv
from pathlib import Path

import gymnasium as gym
import numpy as np

assert gym.__version__ == "1.4.0", gym.__version__
assert np.__version__ == "2.4.6", np.__version__

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "golden" / "environments"


def number(value):
    """The shortest decimal that reads back to the same bits."""
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    return np.format_float_scientific(value, unique=True, trim="-", exp_digits=1)


class Trace:
    """Collects the transitions of one environment and writes them."""

    keep_first = True

    def __init__(self, name, env_id, keep_every, **arguments):
        self.path = FOLDER / f"{name}.csv"
        self.header = " ".join(
            ["#", env_id, *(f"{key}={value}" for key, value in arguments.items())]
        )
        self.env = gym.make(env_id, **arguments)
        self.rows = []
        self.keep_every = keep_every
        self.elapsed = 0

    @property
    def state(self):
        return np.array(self.env.unwrapped.state, dtype=np.float64)

    @state.setter
    def state(self, value):
        kind = np.asarray(self.env.unwrapped.state).dtype
        self.env.unwrapped.state = np.array(value, dtype=kind)

    def reset(self, seed):
        self.env.reset(seed=seed)
        self.elapsed = 0

    def step(self, action, keep=False):
        before = self.state
        given = action if isinstance(action, np.ndarray) else int(action)
        observation, reward, terminated, truncated, _ = self.env.step(given)
        self.elapsed += 1
        after = self.state
        ended = terminated or truncated
        if self.elapsed == 1:
            keep = self.keep_first
        if keep or ended or self.elapsed % self.keep_every == 0:
            value = np.asarray(given, dtype=np.float32).reshape(-1)
            assert observation.dtype == np.float32
            self.rows.append(
                [*before, *value, *after, *observation, np.float64(reward)]
                + [terminated, truncated, self.elapsed]
            )
        return ended

    def episode(self, seed, policy, start=None, keep=lambda state: False):
        """Runs until the episode ends; policy(state, elapsed) gives the actions."""
        self.reset(seed)
        if start is not None:
            self.step(policy(self.state, 0))
            self.state = start
        ended = False
        while not ended:
            ended = self.step(policy(self.state, self.elapsed), keep(self.state))

    def until_limit(self, seed, policy, safe, last):
        """Runs up to the time limit from ever the same safe state, and takes the last step from
        the state `last`, which may be terminal at once."""
        self.reset(seed)
        limit = self.env.spec.max_episode_steps
        for _ in range(limit - 1):
            assert not self.step(policy(self.state, self.elapsed)), "the safe state is not"
            self.state = safe
        self.state = last
        assert self.step(policy(self.state, self.elapsed)), "there is a limit"

    def write(self):
        width = len(self.state)
        seen = self.env.observation_space.shape[0]
        header = [f"state_{i}" for i in range(width)] + ["action"]
        header += [f"next_{i}" for i in range(width)]
        header += [f"observation_{i}" for i in range(seen)]
        header += ["reward", "terminated", "truncated", "elapsed"]
        write(self.path, self.header, header, self.rows)


def write(path, comment, header, rows):
    with path.open("w", newline="") as file:
        file.write(comment + "\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([[number(value) for value in row] for row in rows])
    print(f"{path.name}: {len(rows)} lines, {path.stat().st_size} bytes")


def discrete(rng, count):
    return lambda state, elapsed: rng.integers(count)


def box(rng, bound):
    """Uniform float32 actions, about a third of them outside the bounds and some exactly on them."""

    def policy(state, elapsed):
        if elapsed % 10 == 5:
            return np.array([bound if elapsed % 20 == 5 else -bound], dtype=np.float32)
        return rng.uniform(-1.5 * bound, 1.5 * bound, 1).astype(np.float32)

    return policy


def cart_pole():
    rng = np.random.default_rng(1)
    trace = Trace("cart_pole", "CartPole-v1", 2)
    for seed in range(6):
        trace.episode(seed, discrete(rng, 2))
    balance = lambda state, elapsed: int(state[2] + 0.3 * state[3] + 0.05 * state[1] > 0)
    trace.keep_every = 20
    trace.episode(6, balance)
    # Off the track on either side; over on either side.
    for state in [[2.39, 2.0, 0, 0], [-2.39, -2.0, 0, 0], [0, 0, 0.2, 2.0], [0, 0, -0.2, -2.0]]:
        trace.episode(7, discrete(rng, 2), start=state)
    # Terminated by the very step that reaches the limit.
    trace.until_limit(8, discrete(rng, 2), [0, 0, 0, 0], [2.4, 1.0, 0, 0])
    trace.write()

    trace = Trace("cart_pole_sutton_barto", "CartPole-v1", 2, sutton_barto_reward=True)
    for seed in range(2):
        trace.episode(seed, discrete(rng, 2))
    trace.write()


def pendulum():
    rng = np.random.default_rng(2)
    trace = Trace("pendulum", "Pendulum-v1", 2)
    trace.episode(0, box(rng, 2.0))
    trace.keep_every = 4
    # Torque with the velocity: reaches the speed limit and winds the angle up, either way round.
    with_velocity = lambda state, elapsed: np.array([np.sign(state[1]) * 3], dtype=np.float32)
    trace.episode(1, with_velocity, start=[3.0, 2.0])
    trace.episode(2, with_velocity, start=[-3.0, -2.0])
    trace.episode(3, box(rng, 0.5))
    trace.write()

    trace = Trace("pendulum_g", "Pendulum-v1", 8, g=9.81)
    trace.episode(4, box(rng, 2.0))
    trace.write()


def mountain_car():
    rng = np.random.default_rng(3)
    trace = Trace("mountain_car", "MountainCar-v0", 4)
    trace.episode(0, discrete(rng, 3))
    with_velocity = lambda state, elapsed: 2 if state[1] >= 0 else 0
    trace.episode(1, with_velocity)
    near_wall = lambda state: state[0] < -1.1
    trace.episode(2, with_velocity, start=[-1.15, -0.05], keep=near_wall)
    trace.episode(3, lambda state, elapsed: 0, start=[-1.19, -0.069], keep=near_wall)
    # To the speed limit downhill, both ways; over the goal against the end of the track.
    fast = lambda state: abs(state[1]) > 0.065
    trace.episode(4, lambda state, elapsed: 2, start=[-1.0, 0.068], keep=fast)
    trace.episode(5, lambda state, elapsed: 0, start=[0.2, -0.065], keep=fast)
    trace.episode(6, lambda state, elapsed: 2, start=[0.499, 0.07])
    trace.until_limit(7, discrete(rng, 3), [-0.5, 0.0], [0.49, 0.05])
    trace.write()

    trace = Trace("mountain_car_goal_velocity", "MountainCar-v0", 16, goal_velocity=0.03)
    # Too slow at the goal, then fast enough.
    trace.episode(8, with_velocity, start=[0.49, 0.02], keep=lambda state: state[0] > 0.45)
    trace.episode(9, with_velocity, start=[0.49, 0.04], keep=lambda state: state[0] > 0.45)
    trace.write()


def mountain_car_continuous():
    rng = np.random.default_rng(4)
    # Gymnasium takes the first step of an episode in float64: these are a trace of their own.
    trace = Trace("mountain_car_continuous_first", "MountainCarContinuous-v0", 10)
    for seed in range(40):
        trace.reset(seed)
        trace.step(box(rng, 1.0)(trace.state, seed), keep=True)
    trace.write()

    trace = Trace("mountain_car_continuous", "MountainCarContinuous-v0", 10)
    trace.keep_first = False
    trace.episode(0, box(rng, 1.0))
    push = lambda size: lambda state, elapsed: np.array(
        [size if state[1] >= 0 else -size], dtype=np.float32
    )
    trace.keep_every = 3
    for seed, size in enumerate([1.0, 0.9, 1.7], start=1):
        trace.episode(seed, push(size))
    near_wall = lambda state: state[0] < -1.1
    trace.keep_every = 100
    trace.episode(4, push(0.3), start=[-1.15, -0.05], keep=near_wall)
    trace.keep_every = 3
    fast = lambda state: abs(state[1]) > 0.065
    trace.episode(5, push(1.0), start=[0.2, -0.065], keep=fast)
    trace.episode(6, push(1.0), start=[-1.0, 0.068], keep=fast)
    trace.keep_every = 100
    trace.until_limit(7, box(rng, 1.0), [-0.5, 0.0], [0.44, 0.05])
    trace.write()

    trace = Trace(
        "mountain_car_continuous_goal_velocity",
        "MountainCarContinuous-v0",
        100,
        goal_velocity=0.03,
    )
    trace.keep_first = False
    near_goal = lambda state: state[0] > 0.42
    for seed, start in [(40, [0.44, 0.02]), (41, [0.44, 0.05])]:
        trace.episode(seed, push(1.0), start=start, keep=near_goal)
    trace.write()


def acrobot():
    rng = np.random.default_rng(5)
    trace = Trace("acrobot", "Acrobot-v1", 6)
    trace.episode(0, discrete(rng, 3))
    # Torque with the joint's velocity swings it up.
    trace.keep_every = 2
    swing = lambda state, elapsed: 2 if state[3] > 0 else 0
    for seed in range(1, 3):
        trace.episode(seed, swing)
    trace.keep_every = 1
    # Fast rotations reach both speed limits and wrap both angles, either way round.
    trace.reset(3)
    trace.step(1)
    states = rng.uniform(
        [-np.pi, -np.pi, -4 * np.pi, -9 * np.pi], [np.pi, np.pi, 4 * np.pi, 9 * np.pi], (60, 4)
    )
    for state in states:
        trace.state = state
        trace.step(rng.integers(3), keep=True)
    trace.keep_every = 250
    trace.until_limit(4, discrete(rng, 3), [0, 0, 0, 0], [2.8, 0.2, 1.0, 0.0])
    trace.write()


class Uniform:
    """Stands in for the generator of the toy lake: gives the number it was told."""

    def random(self):
        return self.value


def frozen_lake():
    table, sampled = [], []
    rng = np.random.default_rng(6)
    for side, slippery in [(4, True), (4, False), (8, True), (8, False)]:
        env = gym.make("FrozenLake-v1", map_name=f"{side}x{side}", is_slippery=slippery)
        lake = env.unwrapped
        for cell, actions in lake.P.items():
            for action, outcomes in actions.items():
                for outcome, (probability, following, reward, terminated) in enumerate(outcomes):
                    table.append(
                        [side, slippery, cell, action, outcome, np.float64(probability)]
                        + [following, reward, terminated]
                    )
        env.reset(seed=0)
        lake.np_random = Uniform()
        live = [cell for cell in range(side * side) if lake.desc.ravel()[cell] not in b"GH"]
        edges = np.cumsum([outcome[0] for outcome in lake.P[0][0]])[:2]
        special = [0.0, np.nextafter(1.0, 0.0)]
        for edge in edges[edges < 1]:
            special += [np.nextafter(edge, 0.0), edge, np.nextafter(edge, 1.0)]
        for value in [*special, *rng.random(80)]:
            lake.np_random.value = value
            lake.s = int(rng.choice(live))
            cell, action = lake.s, int(rng.integers(4))
            following, reward, terminated, _, _ = lake.step(action)
            sampled.append(
                [side, slippery, cell, action, np.float64(value), following, reward, terminated]
            )
    shared = ["side", "is_slippery", "cell", "action"]
    write(
        FOLDER / "frozen_lake_table.csv",
        "# FrozenLake-v1, every outcome of every action in every cell",
        [*shared, "outcome", "probability", "next", "reward", "terminated"],
        table,
    )
    write(
        FOLDER / "frozen_lake_sampled.csv",
        "# FrozenLake-v1, steps and the uniform number that decided them",
        [*shared, "uniform", "next", "reward", "terminated"],
        sampled,
    )


def grid_world():
    moves = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])
    rng = np.random.default_rng(7)
    rows = []

    def walk(actions, position=(0, 0)):
        position = np.array(position)
        for elapsed, action in enumerate(actions, start=1):
            following = np.clip(position + moves[action], 0, 4)
            terminated = bool((following == 4).all())
            reward = 10.0 if terminated else np.float64(np.float32(-0.1))
            observation = (following / 4).astype(np.float32)
            rows.append(
                [*position, action, *following, *observation, np.float64(reward)]
                + [terminated, elapsed >= 100, elapsed]
            )
            position = following
            if terminated or elapsed >= 100:
                break

    walk([1, 1, 1, 1, 2, 2, 2, 2])
    walk([2, 2, 2, 2, 1, 1, 1, 1])
    walk([3] * 95 + [1, 1, 1, 1, 2])
    walk([0] * 92 + [1, 1, 1, 1, 2, 2, 2, 2])
    walk(rng.integers(4, size=100))
    for row in range(5):
        for column in range(5):
            if (row, column) != (4, 4):
                for action in range(4):
                    walk([action], (row, column))
    header = ["state_0", "state_1", "action", "next_0", "next_1"]
    header += ["observation_0", "observation_1", "reward", "terminated", "truncated", "elapsed"]
    write(FOLDER / "grid_world.csv", "# GridWorld-v0", header, rows)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    cart_pole()
    pendulum()
    mountain_car()
    mountain_car_continuous()
    acrobot()
    frozen_lake()
    grid_world()
