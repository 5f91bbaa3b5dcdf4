"""Gymnasium's checks of actions, quickly.

Many environments begin a step with `assert self.action_space.contains(action)`. Gymnasium answers for whatever could be an
action, which takes a third of a step of CartPole. Here it is asked only where something else comes than a host gives: a
number or an array of the very type that the space declares. The answers are the same.
"""


def contains_number(contains):
    """`Discrete.contains`."""

    def quick(self, x):
        if x.__class__ is np.int64 and self.dtype == np.int64:
            # The last element, since the number of elements behind it may lie beyond the type's end.
            return bool(self.start <= x <= self.start + (self.n - 1))
        return contains(self, x)

    return quick


def contains_array(contains):
    """`MultiDiscrete.contains`."""

    def quick(self, x):
        if x.__class__ is np.ndarray and x.dtype == self.dtype and x.shape == self.shape:
            # Bytes are searched faster than arrays.
            return b"\0" not in ((self.start <= x) & (x <= self.start + (self.nvec - 1))).tobytes()
        return contains(self, x)

    return quick


gymnasium.spaces.Discrete.contains = contains_number(gymnasium.spaces.Discrete.contains)
gymnasium.spaces.MultiDiscrete.contains = contains_array(gymnasium.spaces.MultiDiscrete.contains)
