"""The same environments in a loop of Python's own, to be compared with.

The first line of standard input says which; each further line asks for a measurement, which is answered by a line with
the environment steps that were taken, and in how many seconds. What environments print goes to standard error.
"""

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


class Group:
    """Instances that are stepped together, with one row of actions after the other."""

    def __init__(self, instances, num_envs, num_rows):
        self.instances = instances
        self.num_envs = num_envs
        self.seeds = itertools.count()
        instances.action_space.seed(0)
        rows = [[instances.action_space.sample() for _ in range(num_envs)] for _ in range(num_rows)]
        if isinstance(instances, Vector):
            rows = [np.array(row) for row in rows]
            instances.environment.reset(seed=0)
        else:
            for environment in instances.environments:
                environment.reset(seed=next(self.seeds))
        self.rows = itertools.cycle(rows)

    def step(self, is_seeded):
        """Takes one row; whatever ends is reset, by a vector environment itself."""
        row = next(self.rows)
        if isinstance(self.instances, Vector):
            self.instances.environment.step(row)
            return
        for environment, action in zip(self.instances.environments, row):
            _, _, terminated, truncated, _ = environment.step(action)
            if terminated or truncated:
                environment.reset(seed=next(self.seeds) if is_seeded else None)


def measure(groups, seconds, is_seeded):
    """Steps groups in turn for about this time."""
    steps, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        for group in groups:
            group.step(is_seeded)
            steps += group.num_envs
    return {"steps": steps, "seconds": elapsed}


def answer(value):
    print(json.dumps(value), file=answers, flush=True)


request = json.loads(sys.stdin.readline())
num_envs = request["num_envs"]
groups = []
for _ in range(request["num_groups"]):
    instances = make(request["id"], request["arguments"], num_envs, watched=True)[0]
    groups.append(Group(instances, num_envs, request["num_rows"]))
answer({"vector": isinstance(groups[0].instances, Vector)})
for line in sys.stdin:
    answer(measure(groups, **json.loads(line)))
