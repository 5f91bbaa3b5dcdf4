"""Observations that are images, and stacks of them.

An image is a `Box` of bytes from 0 to 255 with at least MIN_EXTENT rows and columns; a smaller one rather holds symbols
than brightness. A stack is declared only where it is known how it is made: that each is a shift of the one before it,
and what stands before an episode's first frame. An image's channels may come last; in the memory they come first.
"""

MIN_EXTENT = 32
# Channels of images whose last axis is theirs: grey, colours, colours and opacity.
CHANNELS = (1, 3, 4)
# Vector environments that stack frames behind zeros, along the first axis.
ZERO_PADDED_VECTORS = {("ale_py.vector_env", "AtariVectorEnv")}


class Images:
    """How an observation is made of frames."""

    def __init__(self, frame, stack, padding, channels_last):
        self.frame, self.stack, self.padding, self.channels_last = frame, stack, padding, channels_last

    def in_words(self):
        return {"kind": "frames", "frame": self.frame, "stack": self.stack, "padding": self.padding}


def images_of(instances):
    """How the observations of instances are made of frames; None where they are no images."""
    space = instances.observation_space
    if not isinstance(space, gymnasium.spaces.Box) or space.dtype != np.uint8:
        return None
    if (space.low != 0).any() or (space.high != 255).any():
        return None
    shape = list(space.shape)
    stack, padding = stack_of(instances)
    if stack is not None:
        shape = shape[1:]
    last = len(shape) == 3 and shape[2] in CHANNELS and shape[0] not in CHANNELS
    if len(shape) == 2:
        frame = [1, *shape]
    elif len(shape) == 3:
        frame = [shape[2], *shape[:2]] if last else shape
    else:
        return None
    if min(frame[1:]) < MIN_EXTENT:
        return None
    return Images(frame, stack or 1, padding if stack and stack > 1 else "reset", last)


def stack_of(instances):
    """How many frames the first axis of an observation counts and what stands before the first; None where it counts none."""
    if instances.mode == "vector":
        environment = instances.environment
        known = (type(environment).__module__, type(environment).__qualname__)
        return (instances.observation_space.shape[0], "zero") if known in ZERO_PADDED_VECTORS else (None, None)
    environment = instances.environments[0]
    # Whatever stands around the stack may change it, unless it changes no observation.
    while isinstance(environment, gymnasium.Wrapper):
        if isinstance(environment, gymnasium.wrappers.FrameStackObservation):
            known = environment.padding_type in ("reset", "zero")
            return (environment.stack_size, environment.padding_type) if known else (None, None)
        if isinstance(environment, gymnasium.ObservationWrapper):
            break
        environment = environment.env
    return None, None
