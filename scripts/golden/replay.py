"""Makes `learner/tests/golden/replay.json`: what a replay store must give, from the definitions.

Written independently of the Rust code, with the standard library alone, in binary64. A timeline is
first written down as whole episodes of transitions, from which the expected values follow by explicit
sums, and only then cut into unrolls.

    python3 scripts/golden/replay.py > learner/tests/golden/replay.json
"""

import json
import math
import random

RNG = random.Random(20160218)


def rounded(low, high):
    """A number that binary32 holds exactly."""
    return RNG.randint(int(low * 1024), int(high * 1024)) / 1024


# --- n-step windows ---------------------------------------------------------------------------------


def episodes_of(num_steps, ends, cuts):
    """Episodes as lists of (observation, action, reward, next observation, kind of end).

    `ends` maps a step to "terminated" or "truncated"; a step in `cuts` is the last before the lane
    was taken up elsewhere, and so the last of its episode too.
    """
    episodes, episode, counter = [], [], 0

    def observation():
        nonlocal counter
        counter += 1
        return counter / 8

    current = observation()
    for step in range(num_steps):
        following = observation()
        kind = ends.get(step, "cut" if step in cuts else None)
        episode.append((current, rounded(-1, 1), rounded(-4, 4), following, kind))
        if kind:
            episodes.append(episode)
            episode = []
            current = observation()
        else:
            current = following
    return episodes, episode


def window_case(name, discount, n, unroll_length, num_unrolls, ends, cut_before):
    num_steps = unroll_length * num_unrolls
    cuts = {unroll * unroll_length - 1 for unroll in cut_before}
    closed, open_episode = episodes_of(num_steps, ends, cuts)
    items = []
    for episode in closed + [open_episode]:
        for start, first in enumerate(episode):
            window = episode[start : start + n]
            last = window[-1]
            if len(window) < n and last[4] is None:
                continue  # its end is not known yet
            returned = sum(discount**i * step[2] for i, step in enumerate(window))
            terminated = last[4] == "terminated"
            items.append(
                {
                    "observation": first[0],
                    "action": first[1],
                    "return": returned,
                    "discount": 0.0 if terminated else discount ** len(window),
                    "next_observation": 0.0 if terminated else last[3],
                }
            )
    steps = [step for episode in closed + [open_episode] for step in episode]
    unrolls = []
    for unroll in range(num_unrolls):
        part = steps[unroll * unroll_length : (unroll + 1) * unroll_length]
        after = (unroll + 1) * unroll_length
        # Row T: what is acted on next. Where an episode ended, another begins; where the lane is
        # cut, it shows what followed all the same.
        kind = part[-1][4]
        if kind in ("terminated", "truncated"):
            row = steps[after][0] if after < num_steps else 9999.0
        else:
            row = part[-1][3]
        unrolls.append(
            {
                "observation": [step[0] for step in part] + [row],
                "action": [step[1] for step in part],
                "reward": [step[2] for step in part],
                "terminated": [int(step[4] == "terminated") for step in part],
                "truncated": [int(step[4] == "truncated") for step in part],
                "final_observation": [step[3] for step in part if step[4] == "truncated"],
                "discontinuous": unroll in cut_before,
            }
        )
    return {
        "name": name,
        "discount": discount,
        "n_step": n,
        "unrolls": unrolls,
        "items": items,
    }


def windows():
    ends = {2: "terminated", 5: "truncated", 6: "truncated", 11: "terminated", 17: "truncated"}
    cases = []
    for n in (1, 2, 3, 5):
        cases.append(window_case(f"{n} steps, ends", 0.9, n, 5, 4, ends, []))
        cases.append(window_case(f"{n} steps, cuts", 0.97, n, 4, 5, {9: "truncated"}, [1, 3]))
    # A cut after an episode that had ended anyway joins and loses nothing.
    cases.append(window_case("cut at an end", 0.5, 3, 4, 3, {3: "terminated", 7: "truncated"}, [1, 2]))
    cases.append(window_case("one long episode", 1.0, 4, 6, 3, {}, []))
    return cases


# --- priorities -------------------------------------------------------------------------------------


def priorities():
    cases = []
    for alpha, beta, epsilon in ((0.6, 0.4, 1e-6), (1.0, 1.0, 0.01), (0.0, 0.7, 1e-6), (0.5, 0.0, 0.1)):
        errors = [rounded(-3, 3) for _ in range(11)] + [0.0]
        raised = [math.pow(abs(error) + epsilon, alpha) for error in errors]
        probabilities = [p / math.fsum(raised) for p in raised]
        batch = [RNG.randrange(len(errors)) for _ in range(6)]
        weights = [math.pow(len(errors) * probabilities[i], -beta) for i in batch]
        cases.append(
            {
                "alpha": alpha,
                "beta": beta,
                "epsilon": epsilon,
                "td_errors": errors,
                "probabilities": probabilities,
                "batch": batch,
                "weights": [weight / max(weights) for weight in weights],
            }
        )
    return cases


# --- hindsight --------------------------------------------------------------------------------------


def hindsight():
    cases = []
    for terminates in (False, True):
        for n in (1, 3):
            # Positions of an episode that was truncated; equal ones recur, so that goals are reached.
            positions = [[RNG.randint(0, 2) / 2, RNG.randint(0, 1) / 2] for _ in range(13)]
            tolerance, discount = 0.5, 0.75
            items = []
            for step in range(12):
                for goal in range(1, 13):
                    returned, factor, last = 0.0, 1.0, step
                    reached = False
                    while last < min(step + n, 12):
                        last += 1
                        reached = math.dist(positions[last], positions[goal]) <= tolerance
                        returned += factor * (0.0 if reached else -1.0)
                        factor *= discount
                        if reached and terminates:
                            break
                    done = reached and terminates
                    complete = last - step == n or last == 12 or done
                    assert complete
                    items.append(
                        {
                            "step": step,
                            "goal": goal,
                            "return": returned,
                            "discount": 0.0 if done else factor,
                            "next": last,
                        }
                    )
            cases.append(
                {
                    "terminates": terminates,
                    "n_step": n,
                    "discount": discount,
                    "tolerance": tolerance,
                    "positions": positions,
                    "items": items,
                }
            )
    return cases


# --- the rate limiter -------------------------------------------------------------------------------


class Limiter:
    """Reverb's SampleToInsertRatio, with insertion free until the minimum size is there."""

    def __init__(self, minimum_size, samples_per_insert, tolerance):
        self.minimum_size = minimum_size
        self.samples_per_insert = samples_per_insert
        centre = minimum_size * samples_per_insert
        self.min_diff, self.max_diff = centre - tolerance, centre + tolerance
        self.inserts = self.samples = 0

    def attempt(self, n):
        if n > 0:
            diff = (self.inserts + n) * self.samples_per_insert - self.samples
            possible = self.inserts < self.minimum_size or diff <= self.max_diff
            self.inserts += n * possible
        else:
            diff = self.inserts * self.samples_per_insert - self.samples + n
            possible = self.inserts >= self.minimum_size and diff >= self.min_diff
            self.samples -= n * possible
        return possible


def limiters():
    cases = []
    for minimum_size, samples_per_insert, tolerance in ((10, 2.0, 8.0), (5, 0.25, 3.0), (1, 8.0, 40.0)):
        limiter = Limiter(minimum_size, samples_per_insert, tolerance)
        attempts = []
        for _ in range(60):
            n = RNG.choice((1, 2, 5)) if RNG.random() < 0.5 else -RNG.choice((1, 3, 8))
            attempts.append([n, limiter.attempt(n)])
        cases.append(
            {
                "minimum_size": minimum_size,
                "samples_per_insert": samples_per_insert,
                "tolerance": tolerance,
                "attempts": attempts,
            }
        )
    return cases


def main():
    golden = {
        "windows": windows(),
        "priorities": priorities(),
        "hindsight": hindsight(),
        "limiter": limiters(),
    }
    parts = [
        f'"{name}": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]"
        for name, cases in golden.items()
    ]
    print("{\n" + ",\n".join(parts) + "\n}")


if __name__ == "__main__":
    main()
