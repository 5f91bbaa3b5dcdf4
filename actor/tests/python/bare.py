"""A loop over one environment as Gymnasium's documentation has it; what it sees goes to standard output as bits.

Input: the id, keyword arguments as JSON, the seeds of the episodes, then the action of each step. Output: the first
observation; after each step the observation, the reward, whether it terminated and whether it was truncated, and where
one of these is the case the first observation of the next episode. Long observations go as one number.
"""

import json
import sys

import gymnasium
import numpy as np


def show(observation, *values):
    values_shown = np.asarray(observation, dtype=np.float32).ravel()
    if is_image:
        values_shown = values_shown / np.float32(255)
    bits = values_shown.view(np.uint32)
    if len(bits) > 64:
        # A long one as a sum in which each number has a weight.
        bits = (bits * (2 * np.arange(len(bits), dtype=np.uint32) + 1)).sum(keepdims=True, dtype=np.uint32)
    bits = np.concatenate([bits, np.array(values, dtype=np.float32).view(np.uint32)])
    print(" ".join(f"{number:08x}" for number in bits))


identifier, keywords = input().strip(), json.loads(input())
if identifier.startswith("ALE/"):
    # The vector environment of one instance, which is what Rookery uses for Atari.
    import ale_py

    gymnasium.register_envs(ale_py)
    env = gymnasium.make_vec(
        identifier, num_envs=1, vectorization_mode="vector_entry_point", **keywords
    )
    space = env.single_observation_space
    action_space = env.single_action_space
else:
    env = gymnasium.make(identifier, **keywords)
    space, action_space = env.observation_space, env.action_space
# As Rookery sees images: 255ths.
is_image = getattr(space, "dtype", None) == np.uint8 and len(space.shape) > 1
is_vector = isinstance(env, gymnasium.vector.VectorEnv)
seeds = iter([int(word) for word in input().split()])


def rows(observation):
    if is_vector:
        return observation[0]
    if isinstance(space, gymnasium.spaces.Discrete):
        return observation - space.start
    return gymnasium.spaces.flatten(space, observation)


def reset():
    seed = next(seeds)
    return rows(env.reset(seed=np.array([seed]) if is_vector else seed)[0])


show(reset())
for line in sys.stdin:
    values = [float(word) for word in line.split()]
    if isinstance(action_space, gymnasium.spaces.Discrete):
        action = int(values[0]) + int(action_space.start)
    else:
        action = np.array(values, dtype=np.float32).astype(action_space.dtype).reshape(action_space.shape)
    observation, reward, terminated, truncated, _ = env.step(np.array([action]) if is_vector else action)
    if is_vector:
        reward, terminated, truncated = reward[0], terminated[0], truncated[0]
    show(rows(observation), reward, terminated, truncated)
    if terminated or truncated:
        show(reset())
