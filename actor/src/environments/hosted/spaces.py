"""Spaces as rows of numbers: how observations are written and actions are read.

Rows are laid out as `gymnasium.spaces.flatten` lays them out, except that a space which is one `Discrete` is one number,
counted from zero.
"""


class Refused(Exception):
    """What an environment is or does that cannot go on, in words for its author."""


def named(path):
    """An observation, or a part of one, for messages."""
    return f"the observation's part `{path}`" if path else "the observation"


def described(value):
    """What came instead of what was expected."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {list(value.shape)} and dtype {value.dtype}"
    text = repr(value)
    return f"{type(value).__name__} {text[:80]}{'...' if len(text) > 80 else ''}"


class Encoder:
    """What writes observations of one kind."""

    def rows(self, table):
        """The rows of `table` as what takes arrays of the declared shape and dtype and nothing else, and finds out which they
        are faster than a line of Python could; None where there is nothing of the kind."""
        return None


class Array(Encoder):
    """A `Box` or `MultiBinary`: its elements in row-major order, but that an image's channels come first."""

    images = None

    def __init__(self, space, path):
        self.dtype, self.shape, self.path = space.dtype, tuple(space.shape), path
        self.width = int(np.prod(self.shape, dtype=np.int64))

    def bind(self, table):
        """Gives a function that writes the observation of an instance into its row of `table`."""
        views = self.view(table)

        def write(index, value):
            views[index, ...] = self.accepted(value)

        return write

    def rows(self, table):
        return [memoryview(row) for row in table] if len(self.shape) == 1 and self.dtype == table.dtype else None

    def view(self, table):
        """The rows of `table` as arrays of the declared shape."""
        images = self.images
        if images is None or not images.channels_last:
            return table.reshape((len(table), *self.shape))
        channels, rows, columns = images.frame
        view = table.reshape((len(table), images.stack, channels, rows, columns)).transpose((0, 1, 3, 4, 2))
        # Without copying: what is written to the view is written to the table.
        return view if len(self.shape) == 4 else view[:, 0]

    def accepted(self, value):
        """The value as an array, if it is what was declared."""
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype == self.dtype and value.shape == self.shape:
            return np.asarray(value, dtype=self.dtype)
        raise Refused(
            f"{named(self.path)} is {described(value)}; its space declares an array of shape {list(self.shape)} and dtype "
            f"{self.dtype}; return that, or declare what is returned"
        )


class Index(Encoder):
    """A `Discrete` by itself: one number, counted from zero."""

    width = 1

    def __init__(self, space, path):
        self.start, self.n, self.path = int(space.start), int(space.n), path

    def position(self, value):
        """The value, counted from zero."""
        if not isinstance(value, (int, np.integer)) and not (
            isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind in "iu"
        ):
            raise Refused(f"{named(self.path)} is {described(value)}; its space declares a whole number")
        position = int(value) - self.start
        if not 0 <= position < self.n:
            raise Refused(
                f"{named(self.path)} is {int(value)}; its space declares a whole number from {self.start} to "
                f"{self.start + self.n - 1}"
            )
        return position

    def bind(self, table):
        def write(index, value):
            table[index, 0] = self.position(value)

        return write


class OneHot(Index):
    """A `Discrete` that is a part of something: a one in its place among zeros."""

    def __init__(self, space, path):
        super().__init__(space, path)
        self.width = self.n

    def bind(self, table):
        def write(index, value):
            row = table[index]
            row[...] = 0
            row[self.position(value)] = 1

        return write


class OneHots(Encoder):
    """A `MultiDiscrete`: one after the other, each a one in its place among zeros."""

    def __init__(self, space, path):
        sizes = np.asarray(space.nvec).ravel()
        self.array = Array(space, path)
        self.starts = np.asarray(space.start).ravel()
        self.sizes = sizes
        self.offsets = np.concatenate(([0], np.cumsum(sizes)[:-1]))
        self.width = int(sizes.sum())

    def bind(self, table):
        def write(index, value):
            positions = self.array.accepted(value).ravel() - self.starts
            if (positions < 0).any() or (positions >= self.sizes).any():
                raise Refused(
                    f"{named(self.array.path)} is {described(value)}, whose elements lie outside of its space of "
                    f"{self.sizes.tolist()} values from {self.starts.tolist()} on"
                )
            row = table[index]
            row[...] = 0
            row[self.offsets + positions] = 1

        return write


class Parts(Encoder):
    """A `Dict` or `Tuple`: its parts one after the other, in the order in which the space lists them."""

    def __init__(self, space, path):
        self.is_dict = isinstance(space, gymnasium.spaces.Dict)
        self.path = path
        self.children = [(key, encoder_of(child, f"{path}.{key}" if path else str(key))) for key, child in items_of(space)]
        self.width = sum(child.width for _, child in self.children)

    def bind(self, table):
        writers, first = [], 0
        for key, child in self.children:
            writers.append((key, child.bind(table[:, first : first + child.width])))
            first += child.width
        expected = dict if self.is_dict else tuple
        keys = {key for key, _ in writers}

        def write(index, value):
            if not isinstance(value, expected):
                raise Refused(f"{named(self.path)} is {described(value)}; its space declares a {expected.__name__}")
            if len(value) != len(writers) or (self.is_dict and value.keys() != keys):
                got = sorted(map(str, value)) if self.is_dict else f"{len(value)} parts"
                raise Refused(
                    f"{named(self.path)} has {got}; its space declares "
                    f"{sorted(map(str, keys)) if self.is_dict else f'{len(writers)} parts'}"
                )
            for key, part in writers:
                part(index, value[key])

        return write


def encoder_of(space, path=""):
    """What writes observations of a space."""
    spaces = gymnasium.spaces
    if isinstance(space, (spaces.Box, spaces.MultiBinary)):
        return Array(space, path)
    if isinstance(space, spaces.Discrete):
        return OneHot(space, path) if path else Index(space, path)
    if isinstance(space, spaces.MultiDiscrete):
        return OneHots(space, path)
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        return Parts(space, path)
    raise Refused(
        f"the observation space{f' of part `{path}`' if path else ''} is {space}, which has no fixed number of values; use "
        "Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them, or name a wrapper in "
        "`environment.python_wrappers` that makes one of these of it"
    )


def named_parts(encoder, prefix="", first=0):
    """The parts of an observation with the values that each takes: `[[name, first, end]]`."""
    if not isinstance(encoder, Parts):
        return [[prefix or "observation", first, first + encoder.width]]
    parts = []
    for key, child in encoder.children:
        parts += named_parts(child, f"{prefix}.{key}" if prefix else str(key), first)
        first += child.width
    return parts


# The bounds of the values whose largest is a choice. Where they lie changes no choice; they are wide, so that an unbounded
# policy's values are seldom cut off at them, which would make two of them equal.
CHOICE_BOUND = 10.0


def action_decoder(space, table):
    """A function that gives the actions in `table`, one for each instance, as the environment expects them."""
    choices = choices_of(space)
    if not is_mixed(choices):
        return decoder_of(space, table)
    rows = np.zeros((len(table), len(choices)), dtype=np.float32)
    decode = decoder_of(space, rows)

    def decode_mixed():
        first = 0
        for place, (n, _, _) in enumerate(choices):
            end = first + (n or 1)
            rows[:, place] = table[:, first] if n is None else table[:, first:end].argmax(axis=1)
            first = end
        return decode()

    return decode_mixed


def is_mixed(choices):
    """Whether an action consists of choices and of values of a Box. It is written as a Box then: a choice of `n` is `n` values,
    of which the largest is taken (Hausknecht and Stone 2016, "Deep Reinforcement Learning in Parameterized Action Space")."""
    return len({n is None for n, _, _ in choices}) == 2


def decoder_of(space, table):
    """As `action_decoder`, of a table with a number for each choice and each value."""
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Discrete):
        start, column = int(space.start), table[:, 0]
        # As `space.sample` gives them; Gymnasium checks an `int` for twice as long.
        return lambda: column.astype(space.dtype) + start if start else column.astype(space.dtype)
    # A fresh array each time: an environment may keep the action that it is given.
    if isinstance(space, spaces.MultiDiscrete):
        return lambda: table.astype(space.dtype).reshape(len(table), *space.shape) + space.start
    if isinstance(space, (spaces.Box, spaces.MultiBinary)):
        return lambda: table.astype(space.dtype).reshape(len(table), *space.shape)
    names, decoders, first = [], [], 0
    for name, child in items_of(space):
        width = len(choices_of(child))
        names.append(name)
        decoders.append(decoder_of(child, table[:, first : first + width]))
        first += width

    def parts():
        rows = zip(*(decode() for decode in decoders))
        return [dict(zip(names, row)) for row in rows] if isinstance(space, spaces.Dict) else list(rows)

    return parts


def masked_space(observation_space, action_space):
    """Observations that end in a mask of the actions that can be taken."""
    choices = choices_of(action_space)
    if not choices or any(n is None for n, _, _ in choices):
        raise Refused(f"action_mask is true and the action space is {action_space}, which has nothing to choose from")
    mask = gymnasium.spaces.MultiBinary(sum(n for n, _, _ in choices))
    # A list of pairs keeps its order.
    return gymnasium.spaces.Dict([("observation", observation_space), ("action_mask", mask)])


def mask_of(info, space, is_over):
    """The mask in `info`: zeros and ones, for each action of each choice, as `space.sample(mask)` takes it."""
    if "action_mask" not in info:
        raise Refused("action_mask is true, and info has no `action_mask`; give it with each reset and step")
    masks = info["action_mask"]
    masks = masks if isinstance(masks, (tuple, list)) else (masks,)
    mask = np.concatenate([np.ravel(part) for part in masks])
    sizes = [n for n, _, _ in choices_of(space)]
    if mask.shape != (sum(sizes),) or not ((mask == 0) | (mask == 1)).all():
        raise Refused(f"the action_mask {described(info['action_mask'])} is not {sum(sizes)} zeros and ones for {space}")
    if not is_over and not np.logical_or.reduceat(mask != 0, np.cumsum([0, *sizes[:-1]])).all():
        raise Refused("the action_mask leaves no action to be taken, and the episode is not over; end it, or allow one")
    return mask.astype(np.int8)


def items_of(space):
    """The parts of a `Dict` or `Tuple`, by name."""
    return list(space.spaces.items()) if isinstance(space, gymnasium.spaces.Dict) else list(enumerate(space.spaces))


def action_width(space):
    """Numbers of an action."""
    choices = choices_of(space)
    return sum(n or 1 for n, _, _ in choices) if is_mixed(choices) else len(choices)


def choices_of(space, path=""):
    """The number of elements of each choice of an action, none for a value of a `Box`, and its bounds: `[(n, low, high)]`."""
    spaces = gymnasium.spaces
    part = f" of part `{path}`" if path else ""
    if isinstance(space, spaces.Discrete):
        return [(int(space.n), 0, 0)]
    if isinstance(space, spaces.MultiDiscrete):
        return [(int(n), 0, 0) for n in np.asarray(space.nvec).ravel()]
    if isinstance(space, spaces.MultiBinary):
        return [(2, 0, 0)] * int(np.prod(space.shape, dtype=np.int64))
    if isinstance(space, spaces.Box):
        return [(None, low, high) for low, high in zip(space.low.ravel(), space.high.ravel())]
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        return [
            choice
            for name, child in items_of(space)
            for choice in choices_of(child, f"{path}.{name}" if path else str(name))
        ]
    raise Refused(
        f"the action space{part} is {space}; policies choose from Discrete, MultiDiscrete and MultiBinary or act in a Box: map "
        "it to one of these with a wrapper, such as gymnasium.wrappers.TransformAction, and name it in "
        "`environment.python_wrappers`"
    )


def action_in_words(space):
    """An action space as the actor reads it, and its bounds."""
    if isinstance(space, (gymnasium.spaces.Box, gymnasium.spaces.Discrete)):
        return space_in_words(space)
    choices = choices_of(space)
    nvec = [n for n, _, _ in choices]
    if not choices:
        raise Refused(f"the action space {space} is empty")
    if None not in nvec:
        if max(nvec) > 1 << 24:
            raise Refused(f"{space} has more elements than a 32-bit float can count")
        return {"kind": "multi_discrete", "nvec": nvec}, b""
    if is_mixed(choices):
        if max(n or 0 for n in nvec) > 4096:
            raise Refused(f"{space} has a choice of more than 4,096 beside values of a Box: each takes a value of its own")
        values = ([(None, low, high)] if n is None else [(None, -CHOICE_BOUND, CHOICE_BOUND)] * n for n, low, high in choices)
        choices = list(itertools.chain(*values))
    bounds = np.array([[low for _, low, _ in choices], [high for _, _, high in choices]], dtype="<f4")
    return {"kind": "box", "shape": [len(choices)]}, bounds.tobytes()


def space_in_words(space):
    """An observation space as the actor reads it, and its bounds."""
    if isinstance(space, gymnasium.spaces.Discrete):
        if space.n > 1 << 24:
            raise Refused(f"{space} has more elements than a 32-bit float can count")
        return {"kind": "discrete", "n": int(space.n)}, b""
    flat = gymnasium.spaces.flatten_space(space)
    shape = list(space.shape) if isinstance(space, gymnasium.spaces.Box) and space.shape else list(flat.shape)
    with np.errstate(over="ignore"):
        low, high = flat.low.astype("<f4"), flat.high.astype("<f4")
    if flat.shape[0] == 0:
        raise Refused(f"{space} is empty")
    return {"kind": "box", "shape": shape}, low.tobytes() + high.tobytes()
