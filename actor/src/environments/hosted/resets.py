"""How single instances of a vector environment are reset."""


class MaskedResets:
    """Resets by `options={"reset_mask": ..}`, one instance after the other, since one seed is given for all. Gives what they
    show, and where lives are counted the dictionary that tells of them."""

    counts_lives = False

    def note(self, arguments):
        """What should be known of the environment."""
        return None

    def __init__(self, environment):
        self.environment, self.num_envs = environment, environment.num_envs
        self.is_fresh = True

    def begin(self, indices, seeds):
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


class AtariResets(MaskedResets):
    """Those of ale-py's AtariVectorEnv, which takes a seed for each instance that it resets. It has no mode DISABLED; but an
    instance that is reset by a mask before the next step begins there, as in that mode, without a fake transition."""

    counts_lives = True

    def note(self, arguments):
        if not arguments.get("reward_clipping", True):
            return None
        return (
            "its rewards are clipped to -1 and 1, and so are the returns that are reported; set arguments.reward_clipping = "
            "false, and clip what is learnt from by the wrapper sign_reward or clip_reward"
        )

    def begin(self, indices, seeds):
        if self.is_fresh:
            self.environment.reset(seed=np.zeros(self.num_envs, dtype=np.int64))
            self.is_fresh = False
        order = np.argsort(indices)
        mask = np.zeros(self.num_envs, dtype=np.bool_)
        mask[indices] = True
        observations, infos = self.environment.reset(
            seed=np.asarray(seeds, dtype=np.int64)[order], options={"reset_mask": mask}
        )
        return observations[indices], infos


class CartPoleResets(MaskedResets):
    """Those of Gymnasium's CartPoleVectorEnv, whose only mode is NEXT_STEP: what it does to an instance at the beginning of
    the next step is done at the end of this one. States are drawn uniformly between the same bounds, from the seeds'
    own numbers: to seed one of NumPy's generators takes as long as to step 32 instances."""

    def __init__(self, environment):
        environment.reset(seed=0)
        self.environment = environment

    def begin(self, indices, seeds):
        environment = self.environment
        low, span = environment.low, environment.high - environment.low
        states = np.array([[low + span * unit(seed, place) for place in range(4)] for seed in seeds])
        for index, state in zip(indices, states):
            environment.state[:, index] = state
            environment.steps[index] = 0
            environment.prev_done[index] = False
        return states.astype(np.float32), None


def unit(seed, place):
    """A number from 0 to 1, the same for the same seed and place (Steele, Lea and Flood 2014, SplitMix64)."""
    bits = ((seed * 4 + place + 1) * 0x9E3779B97F4A7C15) & MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
    return ((bits ^ (bits >> 31)) >> 11) * 2.0**-53


MASK = (1 << 64) - 1

# Vector environments that are used though their own mode is another than DISABLED.
KNOWN_RESETS = {
    ("gymnasium.envs.classic_control.cartpole", "CartPoleVectorEnv"): CartPoleResets,
    ("ale_py.vector_env", "AtariVectorEnv"): AtariResets,
}
