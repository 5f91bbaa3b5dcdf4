"""The same environments in a loop of Python's own, to be compared with."""

request = json.loads(sys.stdin.readline())
num_envs, seconds, rows = request["num_envs"], request["seconds"], 64
instances, _, _ = make(request["id"], request["arguments"], num_envs)
instances.action_space.seed(0)
actions = [[instances.action_space.sample() for _ in range(num_envs)] for _ in range(rows)]
seeds = iter(range(1 << 31))


def loop():
    """Steps every instance as often as there are rows of actions."""
    if isinstance(instances, Vector):
        for row in batches:
            instances.environment.step(row)
        return
    environments = instances.environments
    for row in actions:
        for environment, action in zip(environments, row):
            _, _, terminated, truncated, _ = environment.step(action)
            if terminated or truncated:
                environment.reset(seed=next(seeds) if request["seeded"] else None)


if isinstance(instances, Vector):
    batches = [np.array(row) for row in actions]
    instances.environment.reset(seed=0)
else:
    for environment in instances.environments:
        environment.reset(seed=next(seeds))
for limit in (seconds / 5, seconds):
    steps, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < limit:
        loop()
        steps += rows * num_envs
print(steps / elapsed)
