"""Writes the golden traces of the actor's wrappers to tests/golden/wrappers/.

    python3 -m venv .venv
    .venv/bin/pip install gymnasium==1.4.0 numpy==2.4.6
    .venv/bin/python scripts/golden/wrappers.py

A trace is whole episodes of a Gymnasium environment under Gymnasium's own wrappers. Its first line
in comments names the environment and its arguments, the second one the same wrappers as Rookery's
configuration has them. A row is a reset, where `action` is empty, or a step:

    start_i         state after the reset as float64, where the start is drawn
    action          the action as float32, a discrete one as its index
    observation_i   what the agent sees then, float32; empty where Gymnasium shows something else
    reward          float64
    terminated, truncated   0 or 1

Observations are left out in one case: where an episode ends within a skip, MaxAndSkipObservation
compares with frames of the step before, which it still holds.

Numbers are the shortest decimals that read back to the same bits.
"""

import csv
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium import wrappers

assert gym.__version__ == "1.4.0", gym.__version__
assert np.__version__ == "2.4.6", np.__version__

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "golden" / "wrappers"


def number(value):
    """The shortest decimal that reads back to the same bits."""
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return str(int(value))
    return np.format_float_scientific(value, unique=True, trim="-", exp_digits=1)


def energetic(env, step, rng):
    """Pushes a car the way it rolls, so that episodes end at the goal."""
    return int(env.unwrapped.state[1] >= 0) * 2


def random(env, step, rng):
    """Draws from the action space, and beyond its bounds where it has some."""
    space = env.action_space
    if isinstance(space, gym.spaces.Discrete):
        return int(rng.integers(space.n))
    low, high = np.maximum(space.low, -2.0), np.minimum(space.high, 2.0)
    return (rng.uniform(low, high) * 1.5).astype(np.float32)


def write(name, env_id, toml, wrap, policy=random, episodes=2, max_steps=80, **arguments):
    env = wrap(gym.make(env_id, disable_env_checker=True, **arguments))
    rng = np.random.default_rng(7)
    rows = []

    def row(observation, state=None, action=None, reward=None, terminated=None, truncated=None):
        values = np.asarray(observation, dtype=np.float32).reshape(-1)
        rows.append((state, action, values, reward, terminated, truncated))

    for episode in range(episodes):
        observation, _ = env.reset(seed=100 + episode)
        state = getattr(env.unwrapped, "state", None)
        row(observation, None if state is None else np.array(state, dtype=np.float64))
        for step in range(max_steps):
            action = policy(env, step, rng)
            before = elapsed(env)
            observation, reward, terminated, truncated, _ = env.step(action)
            frames = elapsed(env) - before
            if skip_of(env) not in (None, frames):
                observation = []
            row(observation, None, action, float(reward), terminated, truncated)
            if terminated or truncated:
                break

    num_states = max(0 if state is None else len(state) for state, *_ in rows)
    num_observations = max(len(values) for _, _, values, *_ in rows)
    path = FOLDER / f"{name}.csv"
    with path.open("w", newline="") as file:
        words = [env_id, *(f"{key}={str(value).lower()}" for key, value in arguments.items())]
        file.write(f"# {' '.join(words)}\n# environment.wrappers = [{', '.join(toml)}]\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            [f"start_{i}" for i in range(num_states)]
            + ["action"]
            + [f"observation_{i}" for i in range(num_observations)]
            + ["reward", "terminated", "truncated"]
        )
        for state, action, values, reward, terminated, truncated in rows:
            start = [""] * num_states if state is None else [number(x) for x in state]
            shown = [number(x) for x in values] or [""] * num_observations
            chosen = "" if action is None else number(np.asarray(action).reshape(-1)[0])
            outcome = [reward, terminated, truncated]
            outcome = ["" if value is None else number(value) for value in outcome]
            writer.writerow([*start, chosen, *shown, *outcome])
    print(f"{path.name}: {len(rows)} rows")


def layers(env):
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env


def elapsed(env):
    """Frames of the episode, which the innermost time limit counts."""
    limits = [layer for layer in layers(env) if isinstance(layer, wrappers.TimeLimit)]
    return limits[-1]._elapsed_steps


def skip_of(env):
    for layer in layers(env):
        if isinstance(layer, wrappers.MaxAndSkipObservation):
            return layer._skip
    return None


def clip_observation(env, low, high):
    space = env.observation_space
    clipped = gym.spaces.Box(np.clip(space.low, low, high), np.clip(space.high, low, high))
    return wrappers.TransformObservation(env, lambda seen: np.clip(seen, low, high), clipped)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    car, swing, lake = "MountainCar-v0", "Pendulum-v1", "FrozenLake-v1"
    write(
        "time_limit",
        car,
        ['{ kind = "time_limit", max_episode_steps = 30 }'],
        lambda env: wrappers.TimeLimit(env, 30),
    )
    write(
        "frame_skip",
        car,
        ['{ kind = "frame_skip", frames = 3, max_pool = true }'],
        lambda env: wrappers.MaxAndSkipObservation(env, 3),
        episodes=1,
    )
    write(
        "frame_skip_goal",
        car,
        ['{ kind = "frame_skip", frames = 4, max_pool = true }'],
        lambda env: wrappers.MaxAndSkipObservation(env, 4),
        policy=energetic,
    )
    write(
        "frame_stack",
        car,
        ['{ kind = "frame_stack", size = 3 }'],
        lambda env: wrappers.FrameStackObservation(wrappers.TimeLimit(env, 20), 3),
        max_steps=10,
    )
    write(
        "frame_stack_zero",
        car,
        ['{ kind = "frame_stack", size = 4, padding = "zero" }'],
        lambda env: wrappers.FrameStackObservation(env, 4, padding_type="zero"),
        max_steps=10,
    )
    write(
        "clip_reward",
        swing,
        ['{ kind = "clip_reward", low = -5, high = -0.5 }'],
        lambda env: wrappers.ClipReward(env, -5.0, -0.5),
    )
    write(
        "scale_reward",
        swing,
        ['{ kind = "scale_reward", factor = 0.1 }'],
        lambda env: wrappers.TransformReward(env, lambda reward: reward * 0.1),
    )
    write(
        "clip_action",
        swing,
        ['{ kind = "clip_action" }'],
        wrappers.ClipAction,
    )
    write(
        "rescale_action",
        swing,
        ['{ kind = "rescale_action", low = -0.5, high = 1.5 }'],
        lambda env: wrappers.RescaleAction(env, -0.5, 1.5),
    )
    write(
        # A probability next to 1: whatever is drawn, the first action is repeated.
        "sticky_actions",
        car,
        ['{ kind = "sticky_actions", probability = 0.9999999 }'],
        lambda env: wrappers.StickyAction(env, 0.9999999),
    )
    write(
        "flatten_observation",
        lake,
        ['{ kind = "flatten_observation" }'],
        wrappers.FlattenObservation,
        episodes=4,
        is_slippery=False,
    )
    write(
        "clip_observation",
        car,
        ['{ kind = "clip_observation", low = -0.5, high = 0.01 }'],
        lambda env: clip_observation(env, np.float32(-0.5), np.float32(0.01)),
        policy=energetic,
        max_steps=200,
        episodes=1,
    )
    write(
        "rescale_observation",
        car,
        ['{ kind = "rescale_observation", low = 0, high = 1 }'],
        lambda env: wrappers.RescaleObservation(env, 0.0, 1.0),
        policy=energetic,
        max_steps=200,
        episodes=1,
    )
    write(
        "cast_float16",
        swing,
        ['{ kind = "cast_observation", to = "float16" }'],
        lambda env: wrappers.DtypeObservation(env, np.float16),
    )
    write(
        "cast_uint8",
        car,
        [
            '{ kind = "rescale_observation", low = 0, high = 255 }',
            '{ kind = "cast_observation", to = "uint8" }',
        ],
        lambda env: wrappers.DtypeObservation(
            wrappers.RescaleObservation(env, 0.0, 255.0), np.uint8
        ),
        policy=energetic,
        max_steps=200,
        episodes=1,
    )
    write(
        "together",
        car,
        [
            '{ kind = "time_limit", max_episode_steps = 62 }',
            '{ kind = "rescale_observation", low = -1, high = 1 }',
            '{ kind = "frame_skip", frames = 4, max_pool = true }',
            '{ kind = "clip_reward", low = -3, high = 0 }',
            '{ kind = "frame_stack", size = 2 }',
        ],
        lambda env: wrappers.FrameStackObservation(
            wrappers.ClipReward(
                wrappers.MaxAndSkipObservation(
                    wrappers.RescaleObservation(wrappers.TimeLimit(env, 62), -1.0, 1.0), 4
                ),
                -3.0,
                0.0,
            ),
            2,
        ),
        episodes=3,
    )


if __name__ == "__main__":
    main()
