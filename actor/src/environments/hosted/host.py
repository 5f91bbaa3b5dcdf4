"""A host of environments: a process that an actor starts and that ends with it.

Standard input is a socket to the actor. Over it the actor asks for groups of environments, one at a time; the answer
describes their spaces and carries the group's shared memory, a doorbell for each side and the end of a line. From then on
a step is a number that the actor writes into that memory and another that the host writes back; whoever has not seen a
number for a while sleeps until its doorbell rings. Actor and host both end a group by closing the line.
"""

PROTOCOL = 1

# Words at the beginning of a group's memory, 8 bytes each.
REQUEST, RESPONSE, COMMAND, STATUS, HOST_SLEEPS, ACTOR_SLEEPS, SPIN_NANOSECONDS, TEXT_LENGTH, NANOSECONDS, ANSWERED, CORE = range(11)
HEADER_BYTES = 128
# What is commanded.
STEP, STEP_SELECTED, RESET, DRAW = 1, 2, 3, 4
OK, FAULT = 0, 1
TEXT_BYTES = 16384
ALIGNMENT = 64
# How long the host sleeps at the most before it looks by itself.
NAP_MILLISECONDS = 100

fence = threading.Lock()
# The clock that the actor reads too.
now = time.monotonic_ns
# The core that it runs on.
core = ctypes.CDLL(None).sched_getcpu
core.restype = ctypes.c_uint


class Memory:
    """The shared memory of one group, and where in it things are."""

    def __init__(self, num_envs, action_width, observation_width, element, picture):
        fields = [
            ("actions", "<f4", (num_envs, action_width)),
            ("selected", "u1", (num_envs,)),
            ("seeds", "<u4", (num_envs,)),
            ("seed_words", "<u8", (num_envs, 4)),
            ("next_seeds", "<i8", (num_envs,)),
            ("next_seed_words", "<u8", (num_envs, 4)),
            ("rewards", "<f4", (num_envs,)),
            ("terminated", "?", (num_envs,)),
            ("truncated", "?", (num_envs,)),
            ("began", "u1", (num_envs,)),
            ("lives", "<i4", (num_envs,)),
            ("observations", element, (num_envs, observation_width)),
            ("first", element, (num_envs, observation_width)),
            ("text", "u1", (TEXT_BYTES,)),
        ]
        if picture:
            fields.append(("picture", "u1", tuple(picture)))
        offset, self.offsets = HEADER_BYTES, {}
        for name, kind, shape in fields:
            self.offsets[name] = offset
            size = int(np.prod(shape)) * np.dtype(kind).itemsize
            offset = (offset + size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        self.size = offset
        self.file = os.memfd_create("rookery-environments", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.file, self.size)
        # The actor maps it too: it must never become shorter.
        fcntl.fcntl(self.file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        self.map = mmap.mmap(self.file, self.size)
        self.words = memoryview(self.map)[:HEADER_BYTES].cast("Q")
        for name, kind, shape in fields:
            count = int(np.prod(shape))
            array = np.frombuffer(self.map, dtype=kind, count=count, offset=self.offsets[name]).reshape(shape)
            setattr(self, name, array)
        self.next_seeds[...] = -1


class Group:
    """Environments that are stepped together."""

    def __init__(self, request):
        name, num_envs = request["id"], request["num_envs"]
        self.name = name
        pictures = request["pictures"]
        self.instances, limit, note = make(name, request["arguments"], num_envs, pictures)
        instances = self.instances
        self.picture = picture_shape(instances) if pictures else None
        # Rows of these dtypes are copied as they are; anything else becomes what policies see, 32-bit floats.
        own = {np.dtype("u1"): ("u8", "u1"), np.dtype("<f8"): ("f64", "<f8")}
        declared = instances.encoder.dtype if isinstance(instances.encoder, Array) else None
        element, self.element = own.get(declared, ("f32", "<f4"))
        images = images_of(instances)
        if images is None:
            observation, observation_bounds = space_in_words(instances.observation_space)
        else:
            instances.encoder.images = images
            observation, observation_bounds = images.in_words(), b""
        action, action_bounds = action_in_words(instances.action_space)
        width = action_width(instances.action_space)
        self.memory = Memory(num_envs, width, instances.encoder.width, self.element, self.picture)
        self.line, self.actors_line = socket.socketpair()
        self.bell, self.actors_bell = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
        instances.bind(self.memory)
        self.answered = 0
        goal, goal_note = goal_of(instances)
        self.description = {
            "observation": observation,
            "action": action,
            "max_episode_steps": limit,
            "goal": goal,
            "parts": named_parts(instances.encoder),
            "mode": instances.mode,
            "counts_lives": instances.counts_lives,
            "episodes_per_seed": instances.episodes_per_seed,
            "action_mask": instances.masked,
            "notes": [text for text in (note, goal_note) if text],
            "element": element,
            "offsets": self.memory.offsets,
            "size": self.memory.size,
            "picture": self.picture,
        }
        self.bounds = observation_bounds + action_bounds

    def answer(self):
        """Does what the request says."""
        memory = self.memory
        words = memory.words
        begin = now()
        request = words[REQUEST]
        command = words[COMMAND]
        status = OK
        try:
            if command == STEP or command == STEP_SELECTED:
                memory.began.fill(0)
                self.instances.step(memory.selected if command == STEP_SELECTED else None)
            elif command == RESET:
                self.instances.reset(np.flatnonzero(memory.selected).tolist())
            elif command == DRAW:
                self.draw(int(np.flatnonzero(memory.selected)[0]))
            else:
                raise Refused(f"the actor sent the unknown command {command}")
        except BaseException as error:
            status = FAULT
            story = traceback.format_exc()
            print(story, end="", file=sys.stderr)
            text = f"{in_words(error)}\0{story}".encode()[:TEXT_BYTES]
            memory.text[: len(text)] = np.frombuffer(text, dtype=np.uint8)
            words[TEXT_LENGTH] = len(text)
            flush()
        words[STATUS] = status
        words[ANSWERED] = end = now()
        words[NANOSECONDS] = end - begin
        words[CORE] = core()
        self.answered = request
        words[RESPONSE] = request
        full_fence()
        if words[ACTOR_SLEEPS]:
            os.eventfd_write(self.actors_bell, 1)

    def draw(self, index):
        picture = self.instances.picture(index)
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or list(picture.shape) != self.picture:
            raise Refused(
                f"render() of environment {index} gave {described(picture)}, and an array of shape {self.picture} and dtype "
                "uint8 before"
            )
        self.memory.picture[...] = picture

    def close(self):
        """Ends the environments; what they say to that harms nobody."""
        self.line.close()
        os.close(self.bell)
        os.close(self.actors_bell)
        try:
            self.instances.close()
        except BaseException:
            traceback.print_exc()


def full_fence():
    """What was written before is seen before anything after is read: a lock is an atomic exchange."""
    fence.acquire(False)
    fence.release()


def flush():
    sys.stdout.flush()
    sys.stderr.flush()


def in_words(error):
    """A failure in a line or two, its cause included."""
    cause = error.__cause__ if isinstance(error, Failure) else error
    prefix = f"{error} " if isinstance(error, Failure) else ""
    if isinstance(cause, Refused):
        return f"{prefix}was refused: {cause}" if prefix else str(cause)
    if isinstance(cause, SystemExit):
        return f"{prefix}called sys.exit({'' if cause.code is None else cause.code!r})"
    text = f"{prefix}raised " if prefix else ""
    text += f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
    if isinstance(cause, ModuleNotFoundError) and cause.name in MISSING:
        text += f"; install it with `{sys.executable} -m pip install \"{MISSING[cause.name]}\"`"
    return text


def receive(control, count):
    data = bytearray()
    while len(data) < count:
        chunk = control.recv(count - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)


def reply(control, message, blob=b"", files=()):
    text = json.dumps(message).encode()
    head = struct.pack("<II", len(text), len(blob))
    if files:
        socket.send_fds(control, [head], list(files))
    else:
        control.sendall(head)
    control.sendall(text + blob)


def open_group(control, groups):
    """Makes a group, or says why there is none."""
    (length,) = struct.unpack("<I", receive(control, 4))
    request = json.loads(receive(control, length))
    try:
        group = Group(request)
    except BaseException as error:
        if not isinstance(error, Refused):
            traceback.print_exc()
        flush()
        reply(control, {"error": in_words(error), "unknown": isinstance(error, gymnasium.error.UnregisteredEnv)})
        return
    files = group.memory.file, group.actors_line.fileno(), group.bell, group.actors_bell
    reply(control, group.description, group.bounds, files)
    group.actors_line.close()
    os.close(group.memory.file)
    groups[group.line.fileno()] = group


def serve(control):
    """Answers until the actor closes the control socket."""
    groups = {}
    poller = select.poll()
    poller.register(control, select.POLLIN)
    active = ()
    spin_until = 0
    while True:
        busy = False
        for group in active:
            if group.memory.words[REQUEST] != group.answered:
                group.answer()
                busy = True
        if busy:
            spin_until = now() + active[0].memory.words[SPIN_NANOSECONDS]
            continue
        if now() < spin_until:
            continue
        for group in active:
            group.memory.words[HOST_SLEEPS] = 1
        full_fence()
        if any(group.memory.words[REQUEST] != group.answered for group in active):
            events = ()
        else:
            events = poller.poll(NAP_MILLISECONDS if active else None)
        for group in active:
            group.memory.words[HOST_SLEEPS] = 0
        for file, _ in events:
            if file == control.fileno():
                try:
                    open_group(control, groups)
                except (EOFError, ConnectionError):
                    for group in groups.values():
                        group.close()
                    return
                for group in groups.values():
                    if group not in active:
                        # In this order events are told, so that no bell is read after its group has been closed.
                        poller.register(group.bell, select.POLLIN)
                        poller.register(group.line, select.POLLIN)
            elif file in groups:
                # Nothing is ever said on it but that it is closed.
                group = groups.pop(file)
                poller.unregister(group.bell)
                poller.unregister(group.line)
                group.close()
            else:
                os.eventfd_read(file)
        active = tuple(groups.values())


def end_with(parent):
    """Has the kernel end this process with the actor, even where it hangs; the socket's end says it otherwise."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(0)


def main(control, parent):
    end_with(parent)
    faulthandler.enable()
    # Whatever reads standard input finds nothing in it.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    reply(control, {"protocol": PROTOCOL, "python": platform.python_version(), "gymnasium": gymnasium.__version__})
    serve(control)
    flush()
    # Not by way of the interpreter's end: threads and exit handlers of environments could hold it up.
    os._exit(0)
