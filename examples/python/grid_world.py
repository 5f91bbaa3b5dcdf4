"""An environment of your own, to begin from.

    rookery train my.toml --set environment.id=grid_world:GridWorld \
        --set environment.arguments.size=5 --set 'actor.host.python_path=["examples/python"]'

Rookery needs what Gymnasium's `Env` says and no more: the two spaces, `reset` and `step`. Three rules make runs with it
repeatable: draw random numbers only from `self.np_random`, which `super().reset(seed=seed)` seeds; keep no state between
episodes; and return observations of exactly the shape and dtype that the space declares.
"""

import gymnasium
import numpy as np
from gymnasium import spaces

MOVES = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])


class GridWorld(gymnasium.Env):
    """Walk to a place that is somewhere else in every episode; a reward of one for reaching it, a little less for a detour."""

    def __init__(self, size=5, max_steps=100):
        # Keyword arguments come from `environment.arguments`.
        self.size, self.max_steps = size, max_steps
        self.observation_space = spaces.Box(0.0, 1.0, shape=(4,), dtype=np.float32)
        self.action_space = spaces.Discrete(4)

    def _observation(self):
        return (np.concatenate([self.position, self.target]) / (self.size - 1)).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.position = self.np_random.integers(0, self.size, 2)
        self.target = self.position
        while np.array_equal(self.target, self.position):
            self.target = self.np_random.integers(0, self.size, 2)
        return self._observation(), {}

    def step(self, action):
        self.steps += 1
        self.position = np.clip(self.position + MOVES[action], 0, self.size - 1)
        # Terminated: nothing comes after this. Truncated: it would go on, but is cut short.
        terminated = np.array_equal(self.position, self.target)
        truncated = self.steps >= self.max_steps
        reward = 1.0 if terminated else -0.01
        return self._observation(), reward, terminated, truncated, {}
