"""Games of Atari that do not begin the same way after others, unless they are loaded anew: their names.

Both instances have one seed. One is reset at once, plays and is recorded; the other plays before it is reset, and then does
what the first has done.
"""

from pathlib import Path

import ale_py
import numpy as np
from ale_py.vector_env import AtariVectorEnv

STEPS, MORE = 400, 333
SEEDS = 5, 77123, 1234, 424242
# Not for one player.
OTHERS = {"combat", "joust", "maze_craze", "warlords"}


def remembers(game, seed):
    env = AtariVectorEnv(game, 2)
    random = np.random.default_rng(seed)

    def reset(index, shown):
        mask = np.arange(2) == index
        shown.append(env.reset(seed=np.array([-1]), options={"reset_mask": mask})[0][index])

    def step(index, action, shown):
        actions = random.integers(env.single_action_space.n, size=2)
        actions[index] = action
        frames, _, terminated, truncated, _ = env.step(actions)
        shown.append(frames[index])
        return (terminated | truncated).any()

    env.reset(seed=np.full(2, seed))
    actions = random.integers(env.single_action_space.n, size=STEPS)
    alone, after = [], []
    reset(1, alone)
    # Nobody is stepped past an end, where it would be reset once more.
    if not any(step(1, action, alone) for action in actions):
        any(step(1, 0, []) for _ in range(MORE))
    reset(0, after)
    for action in actions[: len(alone) - 1]:
        step(0, action, after)
    env.close()
    return not all(map(np.array_equal, alone, after))


games = sorted(path.stem for path in (Path(ale_py.__file__).parent / "roms").glob("*.bin"))
found = [game for game in games if game not in OTHERS and any(remembers(game, seed) for seed in SEEDS)]
print("{" + ", ".join(f'"{game}"' for game in found) + "}")
