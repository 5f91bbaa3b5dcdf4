"""Environments that do what an environment may do, and some that do what none should."""

import os
import signal
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.vector import AutoresetMode, VectorEnv


class Scripted(gymnasium.Env):
    """Shows a number drawn for the episode and the steps taken; rewards their number; 1 ends the episode."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, limit=1000, pid_file=None):
        self.limit = limit
        if pid_file:
            with open(pid_file, "w") as file:
                file.write(f"{os.getpid()}\n")

    def shown(self):
        return np.array([self.drawn, self.steps], dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.drawn, self.steps = self.np_random.random(), 0
        return self.shown(), {}

    def step(self, action):
        self.steps += 1
        return self.shown(), float(self.steps), action == 1, self.steps >= self.limit, {}


class Failing(Scripted):
    """Does something bad at its third step, if `only_once` names a file only where that does not exist."""

    def __init__(self, how, only_once=None):
        super().__init__()
        self.how, self.only_once, self.steps = how, only_once, 0

    def reset(self, *, seed=None, options=None):
        if self.how == "reset" and self.steps == 3:
            raise ValueError("cannot begin again")
        return super().reset(seed=seed, options=options)

    def step(self, action):
        result = super().step(action)
        if self.steps != 3:
            return result
        if self.only_once:
            if os.path.exists(self.only_once):
                return result
            open(self.only_once, "w").close()
        observation, _, terminated, truncated, info = result
        match self.how:
            case "raise":
                raise ValueError("the cart fell off")
            case "nan":
                observation[1] = np.nan
            case "reward":
                return observation, float("inf"), terminated, truncated, info
            case "shape":
                observation = observation[:1]
            case "dtype":
                observation = observation.astype(np.float64)
            case "reset":
                return observation, 0.0, True, truncated, info
            case "four":
                return observation, 0.0, terminated, info
            case "hang":
                time.sleep(3600)
            case "print":
                print("\0\0 a line that is no message", flush=True)
                os.write(1, b"and one past Python\n")
            case "sys_exit":
                sys.exit(3)
            case "os_exit":
                os._exit(7)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        return observation, 1.0, terminated, truncated, info


class Unseeded(Scripted):
    """Draws its episodes from nowhere."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.drawn = int.from_bytes(os.urandom(3), "little")
        return self.shown(), {}


class Typed(Scripted):
    """Shows of what types its arguments are."""

    def __init__(self, **arguments):
        self.kinds = {name: type(value).__name__ for name, value in arguments.items()}
        expected = {"text": "str", "number": "int", "real": "float", "flag": "bool", "quoted": "str", "items": "list"}
        if self.kinds != expected:
            raise TypeError(f"got {self.kinds}")
        super().__init__()


class Doubled(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


class PlusOne(gymnasium.RewardWrapper):
    def reward(self, reward):
        return reward + 1


class Shown(gymnasium.Env):
    """Shows one observation over and over, of a space that `space` names."""

    action_space = spaces.Box(np.array([-1, 0]), np.array([1, 5]), dtype=np.float64)

    KINDS = {
        "bytes": (spaces.Box(0, 255, (2, 3), np.uint8), np.arange(6, dtype=np.uint8).reshape(2, 3)),
        "integers": (spaces.Box(-5, 5, (2,), np.int64), np.array([-5, 4])),
        "discrete": (spaces.Discrete(5, start=-2), -1),
        "multi_discrete": (spaces.MultiDiscrete([2, 3], start=[0, 1]), np.array([1, 3])),
        "multi_binary": (spaces.MultiBinary(3), np.array([1, 0, 1], dtype=np.int8)),
        "parts": (
            spaces.Dict(
                {
                    "where": spaces.Box(-1, 1, (2,), np.float64),
                    "what": spaces.Tuple([spaces.Discrete(3), spaces.MultiBinary(2)]),
                }
            ),
            {"where": np.array([0.5, -0.25]), "what": (2, np.array([0, 1], dtype=np.int8))},
        ),
        "doubles": (spaces.Box(-1e9, 1e9, (3,), np.float64), np.array([0.1, 16777217.0, -1e-46])),
        "huge": (spaces.Box(-np.inf, np.inf, (2,), np.float64), np.array([0.0, 1e300])),
        "text": (spaces.Text(5), "hello"),
        "missing": (spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Discrete(2)}), {"a": 0}),
        "outside": (spaces.Discrete(3), 3),
    }

    def __init__(self, space="bytes", action="box"):
        self.observation_space, self.shown = self.KINDS[space]
        self.action_space = {
            "box": self.action_space,
            "discrete": spaces.Discrete(3, start=10),
            "multi_discrete": spaces.MultiDiscrete([2, 3], start=[0, 1]),
            "multi_binary": spaces.MultiBinary((2, 2)),
            "choices": spaces.Dict({"stick": spaces.Discrete(4, start=5), "buttons": spaces.MultiBinary(2)}),
            "values": spaces.Tuple([spaces.Box(-1, 1, (1, 2), np.float64), spaces.Box(0, 2, (1,), np.float32)]),
            "mixed": spaces.Dict(
                {"a": spaces.Discrete(3, start=5), "b": spaces.Box(0, 1, (2,)), "c": spaces.MultiBinary(2)}
            ),
        }[action]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.shown, {}

    def step(self, action):
        # What was done, as a number: each value counts ten times the one before.
        assert self.action_space.contains(action), action
        if isinstance(action, (dict, tuple)):
            action = np.concatenate([np.ravel(part) for part in (action.values() if isinstance(action, dict) else action)])
        reward = sum(float(value) * 10**place for place, value in enumerate(np.ravel(action)))
        return self.shown, reward, False, False, {}


class Masked(gymnasium.Env):
    """Forbids the action that was taken last; what is forbidden ends the interpreter."""

    observation_space = spaces.Discrete(4)

    def __init__(self, kind="one"):
        self.kind = kind
        self.action_space = {
            "several": spaces.MultiDiscrete([2, 3]),
            "box": spaces.Box(0, 1, (1,)),
        }.get(kind, spaces.Discrete(3))

    def told(self, mask):
        if self.kind == "missing":
            return {}
        if self.kind == "none":
            mask = mask * 0
        if self.kind == "several":
            return {"action_mask": (mask[:2], np.ones(3, dtype=np.int8))}
        return {"action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.mask = np.array([1, 0, 1], dtype=np.int8)
        return 3, self.told(self.mask)

    def step(self, action):
        first = int(np.ravel(action)[0])
        if not self.mask[first]:
            os._exit(7)
        self.mask = np.ones(3, dtype=np.int8)
        self.mask[first] = 0
        return first, 1.0, False, False, self.told(self.mask)


class Goal(gymnasium.Env):
    """A point that moves; rewards as in the papers, or in other ways."""

    action_space = spaces.Box(-1, 1, (2,), np.float32)
    observation_space = spaces.Dict(
        {
            "observation": spaces.Box(-9, 9, (1,), np.float64),
            "achieved_goal": spaces.Box(-9, 9, (2,), np.float64),
            "desired_goal": spaces.Box(-9, 9, (2,), np.float64),
        }
    )

    def __init__(self, kind="sparse", tolerance=0.25):
        self.kind, self.tolerance = kind, tolerance

    def compute_reward(self, achieved, desired, info):
        distance = np.linalg.norm(achieved - desired, axis=-1)
        if self.kind == "dense":
            return -distance
        if self.kind == "squares":
            return -np.float32(np.abs(achieved - desired).max() > self.tolerance)
        return -np.float32(distance > self.tolerance)

    def compute_terminated(self, achieved, desired, info):
        return False

    def shown(self):
        return {"observation": np.zeros(1), "achieved_goal": self.where, "desired_goal": self.goal}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.where, self.goal = np.zeros(2), self.np_random.uniform(-1, 1, 2)
        return self.shown(), {}

    def step(self, action):
        self.where = np.clip(self.where + action, -9, 9)
        return self.shown(), self.compute_reward(self.where, self.goal, {}), False, False, {}


class Vectors(VectorEnv):
    """`Scripted` as a vector environment with one of Gymnasium's ways to begin the next episode."""

    def __init__(self, num_envs, limit=1000, mode="DISABLED"):
        self.num_envs, self.limit, self.mode = num_envs, limit, AutoresetMode[mode]
        self.metadata = {"autoreset_mode": self.mode}
        self.single_observation_space, self.single_action_space = Scripted.observation_space, Scripted.action_space
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self.envs = [Scripted(limit) for _ in range(num_envs)]
        self.ended = np.zeros(num_envs, dtype=bool)

    def shown(self):
        return np.stack([env.shown() for env in self.envs])

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        for index in np.flatnonzero(mask):
            self.envs[index].reset(seed=None if seed is None else seed + int(index))
            self.ended[index] = False
        return self.shown(), {}

    def step(self, actions):
        assert self.mode == AutoresetMode.DISABLED, "instances that reset themselves must not be stepped here"
        assert not self.ended.any(), "an instance that has ended was stepped"
        results = [env.step(int(action)) for env, action in zip(self.envs, actions)]
        rewards = np.array([result[1] for result in results])
        terminated = np.array([result[2] for result in results])
        truncated = np.array([result[3] for result in results])
        self.ended = terminated | truncated
        return self.shown(), rewards, terminated, truncated, {}


class NextStep(Vectors):
    def __init__(self, num_envs, max_episode_steps=None, **arguments):
        super().__init__(num_envs, mode="NEXT_STEP", **arguments)


class SameStep(Vectors):
    def __init__(self, num_envs, max_episode_steps=None, **arguments):
        super().__init__(num_envs, mode="SAME_STEP", **arguments)


class Disabled(Vectors):
    def __init__(self, num_envs, max_episode_steps=None, autoreset_mode=AutoresetMode.NEXT_STEP, **arguments):
        assert autoreset_mode == AutoresetMode.DISABLED
        super().__init__(num_envs, **arguments)


for kind in (NextStep, SameStep, Disabled):
    gymnasium.register(id=f"{kind.__name__}-v0", entry_point=Scripted, vector_entry_point=kind, max_episode_steps=7)
gymnasium.register(id="SameStepOnly-v0", vector_entry_point=SameStep)


class Traced(CartPoleEnv):
    """CartPole whose episodes of one step each begin in a state of a trace, in its order."""

    def __init__(self, trace):
        super().__init__()
        with open(trace) as file:
            lines = [line.strip() for line in file if not line.startswith("#")]
        names = lines[0].split(",")
        places = [place for place, name in enumerate(names) if name.startswith("state")]
        self.states = [[float(line.split(",")[place]) for place in places] for line in lines[1:]]
        self.row = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = np.array(self.states[self.row % len(self.states)], dtype=np.float64)
        self.row += 1
        return np.array(self.state, dtype=np.float32), {}

    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, True, info


class Console:
    """Counts lives as ale-py's interface does."""

    left = 3

    def lives(self):
        return self.left


class Filmed(gymnasium.Env):
    """Shows an image of noise whose first pixel is the number of the step. Action 1 loses a life, of which a game has
    three; action 2 ends the game. Each step earns its number."""

    action_space = spaces.Discrete(3)

    def __init__(self, shape=(32, 40), high=255, limit=1000, render_mode=None):
        self.observation_space = spaces.Box(0, high, tuple(shape), np.uint8)
        self.ale, self.limit, self.render_mode = Console(), limit, render_mode

    metadata = {"render_modes": ["rgb_array"]}

    def shown(self):
        image = self.np_random.integers(0, 200, self.observation_space.shape, dtype=np.uint8)
        image[(0,) * image.ndim] = self.steps
        return image

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.ale.left = 0, 3
        return self.shown(), {}

    def step(self, action):
        self.steps += 1
        self.ale.left -= int(action == 1)
        is_over = bool(action == 2 or self.ale.left == 0)
        return self.shown(), float(self.steps), is_over, self.steps >= self.limit, {}

    def render(self):
        picture = np.zeros((3, 2, 3), dtype=np.uint8)
        picture[0, 0] = 10, 20, self.steps
        return picture


def stack(env):
    return gymnasium.wrappers.FrameStackObservation(env, 3)


def stack_after_zeros(env):
    return gymnasium.wrappers.FrameStackObservation(env, 3, padding_type="zero")


class Shuffled(gymnasium.wrappers.FrameStackObservation):
    """Stacks whose newest frame comes first, after some steps."""

    def __init__(self, env):
        super().__init__(env, 3)

    def step(self, action):
        observation, *rest = super().step(action)
        return (observation[::-1] if self.unwrapped.steps == 3 else observation), *rest
