"""An environment of your own, to begin from.

    rookery train examples/python/grid_world.toml

Rookery needs what Gymnasium's `Env` says and no more: the two spaces, `reset` and `step`; `render` is for those who want to
watch. Three rules make runs with it repeatable: draw random numbers only from `self.np_random`, which
`super().reset(seed=seed)` seeds; keep no state between episodes; and return observations of exactly the shape and dtype
that the space declares.
"""

import gymnasium
import numpy as np
from gymnasium import spaces

MOVES = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])
CELL = 48
WHITE, GREY, GREEN, BLUE, RED = (255, 255, 255), (208, 208, 208), (76, 175, 80), (33, 150, 243), (244, 67, 54)


class GridWorld(gymnasium.Env):
    """Walk to a place that is somewhere else in every episode; a reward of one for reaching it, a little less for a detour."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(self, size=5, max_steps=100, render_mode=None):
        # Keyword arguments come from `environment.arguments`.
        self.size, self.max_steps, self.render_mode = size, max_steps, render_mode
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
        self.path = [self.position]
        return self._observation(), {}

    def step(self, action):
        self.steps += 1
        self.position = np.clip(self.position + MOVES[action], 0, self.size - 1)
        self.path.append(self.position)
        # Terminated: nothing comes after this. Truncated: it would go on, but is cut short.
        terminated = np.array_equal(self.position, self.target)
        truncated = self.steps >= self.max_steps
        reward = 1.0 if terminated else -0.01
        return self._observation(), reward, terminated, truncated, {}

    def render(self):
        """The grid from above, with the target in green, the path so far in blue and its end in red."""
        picture = np.full((self.size * CELL, self.size * CELL, 3), WHITE, dtype=np.uint8)
        picture[::CELL] = picture[:, ::CELL] = GREY

        def draw(begin, end, thickness, colour):
            """A bar from the middle of one cell to that of another."""
            (top, left), (bottom, right) = np.minimum(begin, end), np.maximum(begin, end)
            margin = (CELL - thickness) // 2
            rows = slice(top * CELL + margin, (bottom + 1) * CELL - margin)
            picture[rows, left * CELL + margin : (right + 1) * CELL - margin] = colour

        draw(self.target, self.target, CELL - 8, GREEN)
        for begin, end in zip(self.path, self.path[1:]):
            draw(begin, end, 8, BLUE)
        draw(self.path[0], self.path[0], 16, BLUE)
        draw(self.position, self.position, 20, RED)
        return picture


# `grid_world:GridWorld-v0` imports this module, which makes the id known.
gymnasium.register(id="GridWorld-v0", entry_point=GridWorld)
