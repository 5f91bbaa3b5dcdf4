"""What a goal-conditioned environment rewards, found by asking it.

Hindsight computes rewards by itself: 0 within a distance of the desired goal and -1 elsewhere. An environment computes
them in `compute_reward`, which may be anything. So it is asked about goals along random lines; only where it answers
with those two numbers, and changes its mind at one distance everywhere, hindsight may stand in for it.
"""

GOAL_KEYS = {"observation", "achieved_goal", "desired_goal"}
PROBES = 16


def goal_of(instances):
    """The goal as the actor reads it, and why there is none where there might have been one."""
    space = instances.observation_space
    if instances.mode != "scalar" or not isinstance(space, gymnasium.spaces.Dict) or set(space.spaces) != GOAL_KEYS:
        return None, None
    refused = "hindsight cannot be used with this goal-conditioned environment: "
    environment = instances.environments[0].unwrapped
    if not hasattr(environment, "compute_reward") or not hasattr(environment, "compute_terminated"):
        return None, refused + "it has no compute_reward and compute_terminated"
    achieved, desired = space["achieved_goal"], space["desired_goal"]
    if not isinstance(desired, gymnasium.spaces.Box) or achieved.shape != desired.shape:
        return None, refused + f"its goals are {achieved} and {desired}, and not two boxes of one shape"
    try:
        tolerance, terminates = probed(environment, desired)
    except Refused as error:
        return None, refused + str(error)
    except Exception as error:
        return None, refused + f"compute_reward raised {type(error).__name__}: {error}"
    places = {name: (first, end) for name, first, end in named_parts(instances.encoder)}
    return {
        "achieved": places["achieved_goal"],
        "desired": places["desired_goal"],
        "tolerance": tolerance,
        "terminates": terminates,
    }, None


def probed(environment, space):
    """The distance at which the reward changes, and whether reaching the goal ends the episode."""
    random = np.random.default_rng(0)
    limits, ends = [], set()
    for _ in range(PROBES):
        low = np.where(np.isfinite(space.low), space.low, -1.0).astype(np.float64)
        high = np.where(np.isfinite(space.high), space.high, low + 2.0).astype(np.float64)
        goal = random.uniform(low, high)
        direction = random.standard_normal(goal.shape)
        direction /= np.linalg.norm(direction)

        def is_reached(distance):
            there = goal + distance * direction
            reward = float(environment.compute_reward(there, goal, {}))
            if reward not in (0.0, -1.0):
                raise Refused(f"compute_reward gave {reward}, where hindsight gives 0 or -1")
            return reward == 0.0

        if not is_reached(0.0):
            raise Refused("compute_reward gives -1 where the goal is reached exactly")
        ends.add(bool(environment.compute_terminated(goal, goal, {})))
        near, far = 0.0, 1e-9
        while is_reached(far):
            near, far = far, far * 4
            if far > 1e9:
                raise Refused("compute_reward gives 0 however far away the goal is")
        for _ in range(60):
            middle = (near + far) / 2
            near, far = (middle, far) if is_reached(middle) else (near, middle)
        limits.append(near)
    tolerance = float(np.median(limits))
    if max(limits) - min(limits) > 1e-5 * max(tolerance, 1e-3):
        raise Refused(f"the distance within which a goal is reached is from {min(limits)} to {max(limits)}")
    if len(ends) > 1:
        raise Refused("whether reaching the goal ends the episode differs from goal to goal")
    declared = getattr(environment, "distance_threshold", tolerance)
    if isinstance(declared, (int, float)) and abs(declared - tolerance) <= 1e-5 * max(tolerance, 1e-3):
        tolerance = float(declared)
    return tolerance, ends.pop()
