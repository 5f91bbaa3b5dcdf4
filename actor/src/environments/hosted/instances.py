"""Instances of one environment: in a loop, or as one vector environment.

Rookery resets an instance when its episode has ended, each with a seed of its own, and never steps one that has ended.
Of Gymnasium's three modes only DISABLED leaves that to the caller, so a vector environment is used where it has that
mode and resets single instances by `options={"reset_mask": ..}`. NEXT_STEP answers the step after an episode's end with
a transition that never happened, and SAME_STEP begins the next episode from a random state that no seed tells; where an
environment offers nothing else its scalar instances are stepped one after the other.
"""

MISSING = {"gymnasium": "gymnasium==1.4.0", "ale_py": "ale-py==0.12.1", "mujoco": "gymnasium[mujoco]==1.4.0"}
MISSING["Box2D"] = "gymnasium[box2d]==1.4.0"


class Failure(Exception):
    """An instance that failed, and at what."""

    def __init__(self, action, index):
        super().__init__(f"{action} of environment {index}")


def value_of(text):
    """The value that an argument's text stands for: JSON where it is that, otherwise the text itself."""
    try:
        return {"True": True, "False": False, "None": None}[text]
    except KeyError:
        pass
    try:
        return json.loads(text)
    except ValueError:
        return text


def imported(path, what):
    """What an import path such as `module:Name` names."""
    module, _, name = path.partition(":")
    if not module or not name:
        raise Refused(f"{what} `{path}` is no import path; write `module:Name`")
    target = importlib.import_module(module)
    for part in name.split("."):
        if not hasattr(target, part):
            raise Refused(f"{what} `{path}`: the module `{module}` has no `{name}`")
        target = getattr(target, part)
    return target


def make(name, arguments, num_envs, pictures=False, watched=False):
    """Makes instances of an environment, which draw themselves if there shall be pictures: `Scalars` or a `Vector`, the time
    limit, and what should be known of it, such as why it is no vector environment. Those that are `watched` have all the
    wrappers that Gymnasium puts around."""
    arguments = {key: value_of(text) for key, text in arguments.items()}
    paths = arguments.pop("python_wrappers", None)
    wrappers = [imported(path, "the wrapper") for path in str(paths).split(",")] if paths else []
    masked = arguments.pop("action_mask", False)
    if masked not in (True, False):
        raise Refused(f"action_mask is {masked!r}; expected true or false")
    mode = arguments.pop("vectorization_mode", None)
    if mode not in (None, "sync", "vector_entry_point"):
        raise Refused(f"vectorization_mode is {mode!r}; expected \"sync\" or \"vector_entry_point\"")
    if mode == "vector_entry_point" and wrappers:
        raise Refused("wrappers cannot be put around a vector environment; drop python_wrappers or vectorization_mode")
    if mode == "vector_entry_point" and masked:
        raise Refused("action masks are taken from single instances; drop action_mask or vectorization_mode")
    scalar, vector, limit = makers(name, arguments, pictures, watched)
    reason = None
    if vector is not None and mode != "sync" and not wrappers and not masked:
        made, reason = vectorised(vector, num_envs, pictures)
        if made is not None:
            return made, limit, made.resets.note(arguments)
    if mode == "vector_entry_point" or scalar is None:
        raise Refused(reason or f"`{name}` has no vector entry point; drop vectorization_mode")

    def wrapped():
        environment = scalar()
        for wrapper in wrappers:
            environment = wrapper(environment)
        return environment

    environments = [wrapped() for _ in range(num_envs)]
    spec = getattr(environments[0], "spec", None)
    return Scalars(environments, masked), getattr(spec, "max_episode_steps", None) or limit, reason


def makers(name, arguments, pictures, watched):
    """How to make one instance and a vector of them, either of which may be missing, and the time limit."""
    module, _, member = name.rpartition(":")
    if module:
        kind = getattr(importlib.import_module(module), member, None)
        if pictures and draws(kind):
            arguments = {"render_mode": "rgb_array", **arguments}
        if isinstance(kind, type) and issubclass(kind, gymnasium.vector.VectorEnv):
            vector = lambda num_envs, **more: kind(num_envs=num_envs, **arguments, **more)
            vector.kind = kind
            return None, vector, None
        if callable(kind):
            return lambda: kind(**arguments), None, None
    if member.startswith("ALE/"):
        for argument in ("episodic_life", "life_loss_info"):
            if arguments.get(argument):
                # T6: this episodic_life resets the game, and with either a game could not be told from a life.
                raise Refused(
                    f"{argument} ends episodes with a life and without a game; leave it out, and end `environment.wrappers` "
                    'with {kind = "episodic_life"}, which goes on with the game'
                )
        import ale_py

        gymnasium.register_envs(ale_py)
    name, spec = member, gymnasium.spec(member)
    limit = arguments.get("max_episode_steps", spec.max_episode_steps)
    scalar = vector = None
    if spec.entry_point is not None:
        drawn = pictures and draws(kind_of(spec.entry_point))
        made = copy.deepcopy(spec)
        if not watched:
            # What these two wrappers check is checked here: that an environment is reset before it is stepped, and what it
            # gives, at every step and not at its first alone.
            made.order_enforce, made.disable_env_checker = False, True
        scalar = lambda: gymnasium.make(made, **{**({"render_mode": "rgb_array"} if drawn else {}), **arguments})
    if spec.vector_entry_point is not None and not spec.additional_wrappers:
        vector = lambda num_envs, **more: gymnasium.make_vec(
            name, num_envs=num_envs, vectorization_mode="vector_entry_point", **arguments, **more
        )
        vector.kind = kind_of(spec.vector_entry_point)
    return scalar, vector, limit


def kind_of(point):
    """What an entry point names."""
    return point if callable(point) else gymnasium.envs.registration.load_env_creator(point)


def vectorised(make_vector, num_envs, pictures):
    """A vector environment that resets single instances, or why there is none."""
    modes = getattr(gymnasium.vector, "AutoresetMode", None)
    if modes is None:
        return None, f"Gymnasium {gymnasium.__version__} does not say how vector environments reset; from 1.1 on it does"
    kind, more = make_vector.kind, {}
    known = (getattr(kind, "__module__", None), getattr(kind, "__qualname__", None))
    if known not in KNOWN_RESETS and "autoreset_mode" in inspect.signature(kind).parameters:
        more = {"autoreset_mode": modes.DISABLED}
    if pictures and draws(kind):
        more["render_mode"] = "rgb_array"
    environment = make_vector(num_envs, **more)
    if known in KNOWN_RESETS:
        return Vector(environment, KNOWN_RESETS[known]), None
    mode = environment.metadata.get("autoreset_mode")
    if mode == modes.DISABLED:
        return Vector(environment, MaskedResets), None
    environment.close()
    words = getattr(mode, "name", mode)
    return None, (
        f"the vector environment {type(environment).__name__} resets its instances by itself (autoreset mode {words}); "
        "used are vector environments with the mode DISABLED that reset those in options[\"reset_mask\"]"
    )


def lives_of(environment):
    """A function that gives the lives that are left in an Atari game; None for anything else."""
    return getattr(getattr(getattr(environment, "unwrapped", None), "ale", None), "lives", None)


class Scalars:
    """Instances in a loop."""

    mode = "scalar"
    episodes_per_seed = 1

    def __init__(self, environments, masked):
        self.environments = environments
        self.observation_space = environments[0].observation_space
        self.action_space = environments[0].action_space
        self.masked = masked
        self.mentions_mask = False
        if masked:
            self.observation_space = masked_space(self.observation_space, self.action_space)
        self.encoder = encoder_of(self.observation_space)
        self.lives = [lives_of(environment) for environment in environments]
        self.counts_lives = None not in self.lives

    def bind(self, memory):
        self.memory = memory
        self.write, self.write_first = (self.encoder.bind(table) for table in (memory.observations, memory.first))
        self.rows = self.encoder.rows(memory.observations)
        self.actions = action_decoder(self.action_space, memory.actions)
        self.steps = [environment.step for environment in self.environments]
        # Numbers are read and written one by one through these in a third of the time that NumPy takes.
        self.rewards, self.terminated, self.truncated, self.began, self.next_seeds = map(
            memoryview, (memory.rewards, memory.terminated, memory.truncated, memory.began, memory.next_seeds)
        )

    def step(self, selected):
        """Steps every instance, or those that `selected` has ones for; begins the next episode where it is known."""
        rows, rewards, masked, counts_lives = self.rows, self.rewards, self.masked, self.counts_lives
        self.memory.terminated.fill(0)
        self.memory.truncated.fill(0)
        index = 0
        try:
            for index, (step, action) in enumerate(zip(self.steps, self.actions())):
                if selected is not None and not selected[index]:
                    continue
                observation, reward, terminated, truncated, info = step(action)
                if masked:
                    mask = mask_of(info, self.action_space, terminated or truncated)
                    observation = {"observation": observation, "action_mask": mask}
                if rows is None:
                    self.write(index, observation)
                else:
                    try:
                        rows[index][:] = observation
                    except (BufferError, TypeError, ValueError):
                        self.write(index, observation)
                try:
                    rewards[index] = reward
                except TypeError:
                    raise Refused(f"the reward is {described(reward)}; expected a number") from None
                if counts_lives:
                    self.memory.lives[index] = self.lives[index]()
                if terminated or truncated:
                    self.terminated[index] = terminated
                    self.truncated[index] = truncated
                    seed = self.next_seeds[index]
                    if seed >= 0:
                        self.begin(index, seed, self.memory.next_seed_words[index], self.write_first)
                        self.began[index] = 1
        except Failure:
            raise
        except BaseException as error:
            raise Failure("a step", index) from error

    def reset(self, indices):
        """Begins an episode of each of these instances."""
        for index in indices:
            self.begin(index, int(self.memory.seeds[index]), self.memory.seed_words[index], self.write)

    def begin(self, index, seed, words, write):
        try:
            result = seeded_reset(self.environments[index], seed, words)
            if not isinstance(result, tuple) or len(result) != 2:
                raise Refused(f"reset returned {described(result)}; expected the observation and a dictionary")
            observation, info = result
            if self.masked:
                observation = {"observation": observation, "action_mask": mask_of(info, self.action_space, False)}
            elif "action_mask" in info and not self.mentions_mask:
                self.mentions_mask = True
                print("info has an action_mask, which nobody looks at; with environment.arguments.action_mask = true it is used")
            write(index, observation)
            if self.counts_lives:
                self.memory.lives[index] = self.lives[index]()
        except BaseException as error:
            raise Failure("a reset", index) from error

    def watch(self):
        """Nothing is to be done: instances draw themselves."""

    def picture(self, index):
        return self.environments[index].render() if getattr(self.environments[index], "render_mode", None) else None

    def close(self):
        for environment in self.environments:
            environment.close()


class Vector:
    """A vector environment whose episodes begin when they are told to."""

    mode = "vector"

    def __init__(self, environment, resets):
        self.environment = environment
        self.observation_space = environment.single_observation_space
        self.action_space = environment.single_action_space
        self.encoder = encoder_of(self.observation_space)
        if not isinstance(self.encoder, (Array, Index)):
            raise Refused(
                f"the observations of the vector environment are {self.observation_space}; vector environments are taken "
                "with a Box, MultiBinary or Discrete, others with vectorization_mode=\"sync\""
            )
        if isinstance(self.action_space, (gymnasium.spaces.Dict, gymnasium.spaces.Tuple)):
            raise Refused(
                f"the actions of the vector environment are {self.action_space}; vector environments are taken with one "
                "array of actions, others with vectorization_mode=\"sync\""
            )
        self.resets = resets(environment)
        self.counts_lives = self.resets.counts_lives
        self.episodes_per_seed = self.resets.episodes_per_seed
        self.masked = False
        self.consoles = None

    def bind(self, memory):
        self.memory = memory
        num_envs = len(memory.actions)
        self.num_envs = num_envs
        if isinstance(self.encoder, Array):
            self.offset, self.shape = 0, (num_envs, *self.encoder.shape)
        else:
            self.offset, self.shape = self.encoder.start, (num_envs,)
        self.dtype = self.observation_space.dtype
        is_array = isinstance(self.encoder, Array)
        self.shown, self.first = (
            self.encoder.view(table) if is_array else table.reshape(self.shape)
            for table in (memory.observations, memory.first)
        )
        self.actions = action_decoder(self.action_space, memory.actions)
        # As above: for numbers that are read one by one.
        self.seeds = memoryview(memory.seeds), memory.seed_words
        self.next_seeds = memoryview(memory.next_seeds), memory.next_seed_words

    def checked(self, observations):
        """The observations of all instances, if they are what was declared."""
        if observations.__class__ is not np.ndarray or observations.dtype != self.dtype or observations.shape != self.shape:
            raise Refused(
                f"the observations of {self.num_envs} instances are {described(observations)}; the spaces declare an array "
                f"of shape {list(self.shape)} and dtype {self.dtype}"
            )
        return observations - self.offset if self.offset else observations

    def step(self, selected):
        """Steps all instances; what comes of those that are not selected is not looked at."""
        memory = self.memory
        try:
            actions = self.actions()
            observations, rewards, terminated, truncated, infos = self.environment.step(actions)
            self.shown[...] = self.checked(observations)
            memory.rewards[...] = rewards
            memory.terminated[...] = terminated
            memory.truncated[...] = truncated
            if self.counts_lives:
                memory.lives[...] = infos["lives"]
            if self.consoles:
                self.consoles.step(actions, infos)
        except BaseException as error:
            raise Failure("a step of all, the first being that", 0) from error
        indices = (memory.terminated | memory.truncated).nonzero()[0].tolist()
        if not indices:
            return
        if selected is None:
            seeds, words = self.next_seeds
            indices = [index for index in indices if seeds[index] >= 0]
            for index in indices:
                memory.began[index] = 1
        else:
            # While it is brought to where it was, an instance that is not yet in its episode may end another.
            seeds, words = self.seeds
            indices = [index for index in indices if not selected[index]]
        if indices:
            self.begin(indices, seeds, words, self.first)

    def reset(self, indices):
        """Begins an episode of each of these instances."""
        self.begin(indices, *self.seeds, self.shown)

    def begin(self, indices, seeds, words, table):
        try:
            chosen = [seeds[index] for index in indices]
            rows, infos = self.resets.begin(indices, chosen, words)
            if rows.dtype != self.dtype or rows.shape[1:] != self.shape[1:]:
                raise Refused(f"a reset showed {described(rows)}; expected rows of {list(self.shape[1:])} and {self.dtype}")
            # One row at a time: for the few that there are it is faster than a list of indices.
            for index, row in zip(indices, rows - self.offset if self.offset else rows):
                table[index] = row
            if self.counts_lives:
                self.memory.lives[indices] = infos["lives"][indices]
            if self.consoles:
                self.consoles.begin(indices, chosen, infos)
        except BaseException as error:
            raise Failure("a reset", indices[0]) from error

    def watch(self):
        """Has pictures made of what shows none by itself."""
        if isinstance(self.resets, AtariResets) and not self.environment.continuous:
            self.consoles = Consoles(self.environment)

    def picture(self, index):
        if self.consoles:
            return self.consoles.picture(index)
        return self.environment.render()[index] if getattr(self.environment, "render_mode", None) else None

    def close(self):
        self.environment.close()
