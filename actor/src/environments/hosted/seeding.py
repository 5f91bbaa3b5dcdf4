"""Generators of announced seeds, made quickly.

Gymnasium seeds an episode with `seeding.np_random(seed)`: NumPy hashes the seed to the four words that PCG64 begins with. That
takes tens of microseconds, as long as several steps of a small environment, so the actor does it beforehand and writes
the words beside the seeds. What comes out is the same generator, to the bit.
"""


class Announced(np.random.bit_generator.ISpawnableSeedSequence):
    """The `SeedSequence` of a seed whose words for PCG64 are known; whatever else is asked of it is NumPy's answer."""

    def __init__(self, seed, words):
        self.seed, self.words, self.sequence = seed, words, None

    def whole(self):
        if self.sequence is None:
            self.sequence = np.random.SeedSequence(self.seed)
        return self.sequence

    def generate_state(self, n_words, dtype=np.uint32):
        if n_words == 4 and dtype is np.uint64:
            return self.words
        return self.whole().generate_state(n_words, dtype)

    def spawn(self, n_children):
        return self.whole().spawn(n_children)

    def __getattr__(self, name):
        # Pickle and copy ask for names before there is anything.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.whole(), name)


# What the reset in work may ask for.
announced = {}
numpy_random = gymnasium.utils.seeding.np_random


def np_random(seed=None):
    words = announced.pop(seed, None) if seed.__class__ is int else None
    if words is None:
        return numpy_random(seed)
    return np.random.Generator(np.random.PCG64(Announced(seed, words))), seed


def seeded_reset(environment, seed, words):
    """`environment.reset(seed=seed)`."""
    announced[seed] = words.copy()
    try:
        return environment.reset(seed=seed)
    finally:
        announced.clear()


gymnasium.utils.seeding.np_random = np_random
