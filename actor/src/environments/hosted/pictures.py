"""Pictures of environments for people, made only of those that are to be watched.

An environment draws itself with the render mode `rgb_array`. ale-py's vector environment shows no screens: beside each of
its instances a console of our own plays the same game from the same seed by the same actions.
"""


def draws(kind):
    """Whether a class of environments has the render mode that gives pictures."""
    return "rgb_array" in (getattr(kind, "metadata", None) or {}).get("render_modes", ())


def picture_shape(instances):
    """The shape of a picture, `[rows, columns, 3]`; None of what draws none."""
    instances.watch()
    if instances.mode == "scalar":
        # Many have nothing to draw before their first episode.
        instances.environments[0].reset(seed=0)
    elif instances.consoles is None and getattr(instances.environment, "render_mode", None):
        instances.environment.reset(seed=0)
    picture = instances.picture(0)
    if picture is None:
        return None
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise Refused(f"render() gave {described(picture)}; expected an array of shape [rows, columns, 3] and dtype uint8")
    return list(picture.shape)


class Consoles:
    """The screens of an AtariVectorEnv."""

    def __init__(self, environment):
        import ale_py

        self.ale_py = ale_py
        known = inspect.signature(type(environment)).parameters
        self.settings = {name: parameter.default for name, parameter in known.items()}
        self.settings.update({name: value for name, value in environment.spec.kwargs.items() if name in known})
        self.rom = ale_py.roms.get_rom_path(self.settings["game"])
        self.consoles = [self.console() for _ in range(environment.num_envs)]
        self.elapsed = [0] * environment.num_envs

    def console(self):
        # Before there is one, so that it does not introduce itself.
        self.ale_py.ALEInterface.setLoggerMode(self.ale_py.LoggerMode.Error)
        console = self.ale_py.ALEInterface()
        console.setFloat("repeat_action_probability", self.settings["repeat_action_probability"])
        console.loadROM(self.rom)
        return console

    def actions(self, console):
        return console.getLegalActionSet() if self.settings["full_action_space"] else console.getMinimalActionSet()

    def begin(self, indices, seeds, infos):
        """Plays as many frames before the first that is shown as the environment has played."""
        action = self.ale_py.Action
        for index, seed in zip(indices, seeds):
            console, frames = self.consoles[index], infos["episode_frame_number"][index]
            console.setInt("random_seed", np.int32(seed))
            console.loadROM(self.rom)
            console.reset_game()
            self.elapsed[index] = 0
            if self.settings["use_fire_reset"] and action.FIRE in self.actions(console):
                console.act(action.FIRE)
            while console.getEpisodeFrameNumber() < frames:
                console.act(action.NOOP)
            self.compare(index, infos)

    def step(self, actions, infos):
        for index, console in enumerate(self.consoles):
            chosen = self.actions(console)[actions[index]]
            for _ in range(self.settings["frameskip"]):
                console.act(chosen)
                self.elapsed[index] += 1
                if console.game_over() or self.elapsed[index] >= self.settings["max_num_frames_per_episode"]:
                    break
            self.compare(index, infos)

    def compare(self, index, infos):
        console = self.consoles[index]
        expected = int(infos["episode_frame_number"][index]), int(infos["lives"][index])
        if (console.getEpisodeFrameNumber(), console.lives()) != expected:
            raise Refused(f"the screen of environment {index} shows another game than the one that is played")

    def picture(self, index):
        return self.consoles[index].getScreenRGB()
