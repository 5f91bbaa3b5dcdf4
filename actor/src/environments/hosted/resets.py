"""How single instances of a vector environment are reset."""


class MaskedResets:
    """Resets by `options={"reset_mask": ..}`, one instance after the other, since one seed is given for all. Gives what they
    show, and where lives are counted the dictionary that tells of them. `words[index]` are what NumPy makes of an
    instance's seed."""

    counts_lives = False
    # Episodes in a row that draw from one seed: episode n of them has the seed of the first and n more.
    episodes_per_seed = 1

    def note(self, arguments):
        """What should be known of the environment."""
        return None

    def __init__(self, environment):
        self.environment, self.num_envs = environment, environment.num_envs
        self.is_fresh = True

    def begin(self, indices, seeds, words):
        if self.is_fresh:
            self.environment.reset(seed=0)
            self.is_fresh = False
        rows = []
        for index, seed in zip(indices, seeds):
            mask = np.zeros(self.num_envs, dtype=np.bool_)
            mask[index] = True
            observations, _ = self.environment.reset(seed=seed, options={"reset_mask": mask})
            rows.append(observations[index])
        return np.stack(rows), None


# Games whose beginning depends on what was played before, unless they are loaded anew.
REMEMBERING = {"hangman", "haunted_house", "ice_hockey", "sir_lancelot", "space_war", "surround", "time_pilot", "yars_revenge"}


class AtariResets(MaskedResets):
    """Those of ale-py's AtariVectorEnv, which takes a seed for each instance that it resets. It has no mode DISABLED; but an
    instance that is reset by a mask before the next step begins there, as in that mode, without a fake transition.

    A seed is obeyed by loading the game anew, which takes as long as a quarter of a game of Pong. Without sticky actions all
    that is drawn is the number of no-ops, once in each reset. So the seed s + n stands for what a reset with s and n resets
    without one come to, where s is a multiple of `episodes_per_seed` and n is less; of games that follow each other so only
    the first is loaded."""

    counts_lives = True

    def __init__(self, environment):
        super().__init__(environment)
        made_with = getattr(environment.spec, "kwargs", {})
        if made_with.get("repeat_action_probability") == 0 and made_with["game"] not in REMEMBERING:
            self.episodes_per_seed = 16
        # What the current game of each instance has begun from.
        self.seeds = [None] * self.num_envs

    def note(self, arguments):
        if not arguments.get("reward_clipping", True):
            return None
        return (
            "its rewards are clipped to -1 and 1, and so are the returns that are reported; set arguments.reward_clipping = "
            "false, and clip what is learnt from by the wrapper sign_reward or clip_reward"
        )

    def begin(self, indices, seeds, words):
        if self.is_fresh:
            # All of them first, as it asks for; without seeds, since each is given its own before it plays.
            self.environment.reset()
            self.is_fresh = False
        resets = {index: self.path(index, seed) for index, seed in zip(indices, seeds)}
        while resets:
            mask = np.zeros(self.num_envs, dtype=np.bool_)
            mask[list(resets)] = True
            given = np.array([resets[index].pop() for index in sorted(resets)], dtype=np.int64)
            observations, infos = self.environment.reset(seed=given, options={"reset_mask": mask})
            resets = {index: path for index, path in resets.items() if path}
        for index, seed in zip(indices, seeds):
            self.seeds[index] = seed
        return observations[indices], infos

    def path(self, index, seed):
        """The seeds, -1 for none, of the resets that lead an instance to what `seed` stands for, the first of them last."""
        place = seed % self.episodes_per_seed
        if place and self.seeds[index] == seed - 1:
            return [-1]
        return [-1] * place + [seed - place]


class CartPoleResets(MaskedResets):
    """Those of Gymnasium's CartPoleVectorEnv, whose only mode is NEXT_STEP: what it does to an instance at the beginning of
    the next step is done at the end of this one. States are drawn uniformly between the same bounds, straight from the words
    that a generator of NumPy would begin with."""

    def __init__(self, environment):
        environment.reset(seed=0)
        self.environment = environment

    def begin(self, indices, seeds, words):
        environment = self.environment
        low, unit = environment.low, (environment.high - environment.low) * 2.0**-53
        # Numbers are written one by one through it in a third of the time that NumPy takes.
        state = memoryview(environment.state)
        rows = []
        for index in indices:
            row = [low + unit * (word >> 11) for word in words[index].tolist()]
            state[0, index], state[1, index], state[2, index], state[3, index] = row
            environment.steps[index] = 0
            environment.prev_done[index] = False
            rows.append(row)
        return np.array(rows, dtype=np.float32), None


# Vector environments that are used though their own mode is another than DISABLED.
KNOWN_RESETS = {
    ("gymnasium.envs.classic_control.cartpole", "CartPoleVectorEnv"): CartPoleResets,
    ("ale_py.vector_env", "AtariVectorEnv"): AtariResets,
}
