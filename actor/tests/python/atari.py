"""Atari by Gymnasium's own AtariPreprocessing, step for step, to be compared with what comes through a host.

Input and output are those of `bare.py`, with the same arguments as ale-py's vector environment has. An episode is a life
of a game here. What is done, one step after the other:

1. The game is loaded with the episode's seed as `random_seed`, from which sticky actions draw, and reset.
2. FIRE is pressed for one frame where there is such an action and `use_fire_reset`.
3. No-ops are played. How many the seed draws is read off ale-py's vector environment; that these frames are no-ops is
   compared. Without sticky actions sixteen games draw from one seed, the first game's without its rest by sixteen; they are
   loaded all the same.
4. The first frame is grey, its values against a frame of zeros the larger ones, resized to 84x84 by areas.
5. A step plays four frames and shows the larger of the last two, grey and resized; it ends early with the game.
6. A game is cut `max_num_frames_per_episode` after the no-ops. As with a game's end, the very last frame is not looked at;
   the one at its place four frames ago is.
7. The loss of a life that is not the last terminates, and the game goes on; so does the next episode, without a reset.
8. A stack holds the last four frames of the life, behind zeros. Rewards are clipped to -1 and 1.
"""

import json
import sys

import ale_py
import gymnasium
import numpy as np

gymnasium.register_envs(ale_py)


def show(observation, *values):
    bits = (observation.ravel() / np.float32(255)).astype(np.float32).view(np.uint32)
    bits = (bits * (2 * np.arange(len(bits), dtype=np.uint32) + 1)).sum(keepdims=True, dtype=np.uint32)
    bits = np.concatenate([bits, np.array(values, dtype=np.float32).view(np.uint32)])
    print(" ".join(f"{number:08x}" for number in bits))


GAMES_PER_SEED = 16


class Game:
    def __init__(self, identifier, sticky, fires, keywords):
        self.sticky, self.fires, self.number = sticky, fires, 0
        # Before there is one, so that it does not introduce itself.
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.limit = keywords["max_num_frames_per_episode"]
        env = gymnasium.make(identifier, frameskip=1, repeat_action_probability=sticky)
        self.env = gymnasium.wrappers.AtariPreprocessing(env, noop_max=0)
        # Once by itself, so that Gymnasium lets it be stepped.
        self.env.reset(seed=0)
        self.ale = self.env.unwrapped.ale
        self.counter = gymnasium.make_vec(
            identifier, num_envs=1, vectorization_mode="vector_entry_point", **keywords
        )

    def begin(self, seed):
        if not self.sticky:
            seed = -1 if self.number % GAMES_PER_SEED else seed - seed % GAMES_PER_SEED
        self.number += 1
        self.elapsed = 0
        _, infos = self.counter.reset(seed=np.array([seed]))
        self.ale.setInt("random_seed", np.int32(seed))
        self.env.unwrapped.load_game()
        self.ale.reset_game()
        if self.fires and "FIRE" in self.env.unwrapped.get_action_meanings():
            self.ale.act(ale_py.Action.FIRE)
        while self.ale.getEpisodeFrameNumber() < infos["episode_frame_number"][0]:
            self.ale.act(ale_py.Action.NOOP)
        self.ale.getScreenGrayscale(self.env.obs_buffer[0])
        self.env.obs_buffer[1].fill(0)
        self.lives = self.ale.lives()
        self.frames = [self.env._get_obs()]
        return self.stack()

    def stack(self):
        stack = np.zeros((4, 84, 84), dtype=np.uint8)
        frames = self.frames[-4:]
        stack[4 - len(frames) :] = frames
        return stack

    def step(self, action):
        last_looked_at = self.env.obs_buffer[0].copy()
        frame, reward, is_over, _, _ = self.env.step(action)
        self.elapsed += 4
        is_cut = self.elapsed >= self.limit and not is_over
        if is_cut:
            self.env.obs_buffer[0] = last_looked_at
            frame = self.env._get_obs()
        self.frames.append(frame)
        lives, before = self.ale.lives(), self.lives
        self.lives = lives
        return self.stack(), np.clip(reward, -1, 1), is_over, not is_over and 0 < lives < before, is_cut

    def go_on(self):
        self.frames = self.frames[-1:]
        return self.stack()


identifier, keywords = input().strip(), json.loads(input())
seeds = iter([int(word) for word in input().split()])
game = Game(identifier, keywords["repeat_action_probability"], keywords["use_fire_reset"], keywords)
show(game.begin(next(seeds)))
for line in sys.stdin:
    stack, reward, is_over, is_life, is_cut = game.step(int(float(line)))
    show(stack, reward, is_over or is_life, is_cut)
    if is_over or is_life or is_cut:
        show(game.begin(next(seeds)) if is_over or is_cut else game.go_on())
