"""Writes the golden vectors of A2C, REINFORCE and the tables to learner/tests/golden/.

Independent of the Rust code: autograd, distributions and Adam of PyTorch for the gradients, the textbook's
formulas for returns and tables, all in float64. Needs torch and numpy; run from the root of the repository:

    python scripts/golden/simple.py
"""

import numpy as np
import torch
from torch import nn

from ppo import OPTIONS, advantages_of, draw_observations, flat, listed, make_network
from ppo import make_optimiser, timeline, write

KEYS = ["policy_loss", "value_loss", "entropy", "log_ratio", "gradient_norm"]


def float32(values):
    """Numbers that float32 holds exactly, so that both sides begin alike."""
    return torch.tensor(np.asarray(values, dtype=np.float32).astype(np.float64))


def draw_actions(generator, network, inputs, noise):
    """Actions of the network, with log-probabilities that are off by some noise."""
    with torch.no_grad():
        policy, _ = network(inputs)
        actions = float32(policy.sample().double().numpy())
        noise = torch.tensor(generator.normal(scale=noise, size=len(inputs)))
        return actions, float32((policy.log_prob(actions) + noise).numpy())


def policy_gradient_step(network, optimiser, case, rows):
    """One step on `rows`: what happened and the parameters after it."""
    policy, values = network(rows["inputs"])
    log_probs = policy.log_prob(rows["actions"])
    policy_loss = -(log_probs * rows["advantages"]).mean()
    entropy = policy.entropy().mean()
    total = policy_loss - case["entropy_coefficient"] * entropy
    value_loss = ((values - rows["returns"]) ** 2).mean()
    if case["value_coefficient"] is not None:
        total = total + case["value_coefficient"] * value_loss
    optimiser.zero_grad()
    total.backward()
    for parameter in network.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    norm = nn.utils.clip_grad_norm_(network.parameters(), case["max_gradient_norm"])
    expected = {
        "policy_loss": policy_loss.item(),
        "value_loss": None if case["value_coefficient"] is None else value_loss.item(),
        "entropy": entropy.item(),
        "log_ratio": (log_probs - rows["log_probs"]).abs().mean().item(),
        "gradient_norm": norm.item(),
    }
    optimiser.step()
    return expected | {"parameters": listed(flat(network.in_order()))}


def draw_round(generator, case, network, p_terminated, p_truncated, noise=0.1):
    """A round of two shards, as it comes (`columns`) and as what it is made of."""
    columns = {"shards": [], "observations": [], "actions": [], "log_probs": []}
    shards, final_raw = [], []
    for steps, envs in [(4, 2), (3, 3)]:
        rewards, terminated, truncated, cut = timeline(
            generator, steps, envs, p_terminated, p_truncated
        )
        raw, inputs = draw_observations(generator, case, (steps + 1) * envs)
        raw_last, last = draw_observations(generator, case, len(cut))
        acted = inputs[: steps * envs]
        actions, log_probs = draw_actions(generator, network, acted, noise)
        columns["shards"].append(
            {
                "num_envs": envs,
                "rewards": listed(rewards),
                "terminated": terminated.reshape(-1).tolist(),
                "truncated": truncated.reshape(-1).tolist(),
            }
        )
        columns["observations"] += listed(raw)
        columns["actions"] += listed(actions)
        columns["log_probs"] += listed(log_probs)
        final_raw += listed(raw_last)
        shards.append(
            {
                "rewards": rewards,
                "terminated": terminated,
                "truncated": truncated,
                "finals": dict(zip(cut, last)),
                "all_inputs": inputs,
                "inputs": acted,
                "actions": actions,
                "log_probs": log_probs,
            }
        )
    columns["observations"] += final_raw
    return columns, shards


# --- A2C ------------------------------------------------------------------------------------------


def a2c_rows(case, network, shards):
    advantages, returns, olds = [], [], []
    for shard in shards:
        steps, envs = shard["rewards"].shape
        with torch.no_grad():
            values = network(shard["all_inputs"])[1].numpy().reshape(steps + 1, envs)
            finals = {
                place: network(row.unsqueeze(0))[1].item() for place, row in shard["finals"].items()
            }
        gains = advantages_of(
            shard["rewards"],
            shard["terminated"],
            shard["truncated"],
            values,
            finals,
            case["discount"],
            case["gae_lambda"],
        )
        advantages.append(gains.reshape(-1))
        returns.append((gains + values[:-1]).reshape(-1))
        olds.append(values[:-1].reshape(-1))
    advantages, returns, olds = (np.concatenate(parts) for parts in (advantages, returns, olds))
    if case["normalise"]:
        advantages = (advantages - advantages.mean()) / (advantages.std(ddof=1) + 1e-8)
    rows = {key: torch.cat([s[key] for s in shards]) for key in ["inputs", "actions", "log_probs"]}
    rows |= {"advantages": torch.tensor(advantages), "returns": torch.tensor(returns)}
    return rows, float(1 - (returns - olds).var() / returns.var())


def a2c_cases():
    generator = np.random.default_rng(11)
    cases = []
    for name, change in [
        ("categorical", {}),
        ("gaussian, shared", {"head": "diagonal_gaussian", "critic": "shared"}),
        ("one-hot, relu", {"encoder": "one_hot", "width": 1, "activation": "relu"}),
        ("normalised, shorter traces", {"normalise": True, "gae_lambda": 0.9}),
        ("with a first moment", {"adam_beta1": 0.9, "adam_beta2": 0.999}),
    ]:
        case = OPTIONS | {
            "name": name,
            "normalise": False,
            "discount": 0.97,
            "gae_lambda": 1.0,
            "adam_beta1": 0.0,
            "adam_beta2": 0.99,
        }
        case |= change
        network = make_network(generator, case)
        case["initial"] = listed(flat(network.in_order()))
        columns, shards = draw_round(generator, case, network, 0.2, 0.2)
        case["rounds"] = [columns, columns]
        optimiser = make_optimiser(network, case)
        case["expected"] = []
        # The second update of the same round sees other values and the optimiser's moments.
        for _ in range(2):
            rows, explained = a2c_rows(case, network, shards)
            expected = policy_gradient_step(network, optimiser, case, rows)
            case["expected"].append(expected | {"explained_variance": explained})
        cases.append(case)
    return cases


# --- REINFORCE ------------------------------------------------------------------------------------


def whole_episodes(rounds):
    """For each round, the episodes that end in it: lists of (inputs, action, log_prob, reward), and the
    observation in which a truncated one was cut off."""
    open_episodes, ended_by_round = {}, []
    for shards in rounds:
        ended = []
        for index, shard in enumerate(shards):
            steps, envs = shard["rewards"].shape
            for t in range(steps):
                for b in range(envs):
                    row = t * envs + b
                    episode = open_episodes.setdefault((index, b), [])
                    step = [shard[key][row] for key in ["inputs", "actions", "log_probs"]]
                    episode.append((*step, shard["rewards"][t, b]))
                    if shard["terminated"][t, b]:
                        ended.append((open_episodes.pop((index, b)), None))
                    elif shard["truncated"][t, b]:
                        final = shard["finals"][(t, b)]
                        ended.append((open_episodes.pop((index, b)), final))
        ended_by_round.append((ended, sum(len(episode) for episode in open_episodes.values())))
    return ended_by_round


def reinforce_rows(case, network, episodes):
    inputs, actions, log_probs, returns = [], [], [], []
    for steps, final in episodes:
        rewards = [reward for *_, reward in steps]
        after = 0.0
        if case["baseline"] and final is not None:
            with torch.no_grad():
                after = network(final.unsqueeze(0))[1].item()
        for t, (seen, action, log_prob, _) in enumerate(steps):
            left = len(steps) - t
            gain = sum(case["discount"] ** k * rewards[t + k] for k in range(left))
            returns.append(gain + case["discount"] ** left * after)
            inputs.append(seen)
            actions.append(action)
            log_probs.append(log_prob)
    inputs = torch.stack(inputs)
    returns = np.array(returns)
    with torch.no_grad():
        values = network(inputs)[1].numpy()
    advantages = returns - values if case["baseline"] else returns
    if case["normalise"]:
        advantages = (advantages - advantages.mean()) / (advantages.std(ddof=1) + 1e-8)
    explained = float(1 - (returns - values).var() / returns.var()) if case["baseline"] else None
    return {
        "inputs": inputs,
        "actions": torch.stack(actions),
        "log_probs": torch.stack(log_probs),
        "advantages": torch.tensor(advantages),
        "returns": torch.tensor(returns),
    }, explained


def reinforce_cases():
    generator = np.random.default_rng(12)
    cases = []
    for name, change in [
        ("with baseline", {}),
        ("without baseline", {"baseline": False}),
        ("gaussian, shared", {"head": "diagonal_gaussian", "critic": "shared"}),
        ("returns normalised", {"baseline": False, "normalise": True}),
        ("one-hot, both", {"encoder": "one_hot", "width": 1, "normalise": True}),
    ]:
        case = OPTIONS | {"name": name, "normalise": False, "discount": 0.95, "baseline": True}
        case |= change
        if not case["baseline"]:
            case["value_coefficient"] = None
        network = make_network(generator, case)
        case["initial"] = listed(flat(network.in_order()))
        # In the second round no episode ends.
        drawn = [
            draw_round(generator, case, network, *ends, noise=0.1)
            for ends in [(0.15, 0.15), (0.0, 0.0), (0.3, 0.3)]
        ]
        case["rounds"] = [columns for columns, _ in drawn]
        optimiser = make_optimiser(network, case)
        case["expected"] = []
        for episodes, unfinished in whole_episodes([shards for _, shards in drawn]):
            counts = {"complete_episodes": len(episodes), "unfinished_steps": unfinished}
            if episodes:
                rows, explained = reinforce_rows(case, network, episodes)
                expected = policy_gradient_step(network, optimiser, case, rows)
            else:
                explained = None
                expected = dict.fromkeys(KEYS) | {"parameters": listed(flat(network.in_order()))}
            case["expected"].append(expected | counts | {"explained_variance": explained})
        assert any(e["unfinished_steps"] > 0 for e in case["expected"])
        cases.append(case)
    return cases


# --- tables ---------------------------------------------------------------------------------------


STATES, ACTIONS = 6, 3


def walk(generator, num_rounds, extents, p_terminated, p_truncated):
    """Steps of every environment over all rounds, and the rounds as they come."""
    present = {(s, b): generator.integers(STATES) for s, (_, n) in enumerate(extents) for b in range(n)}
    steps, rounds = [], []
    for number in range(num_rounds):
        columns = {"shards": [], "observations": [], "actions": [], "log_probs": []}
        finals = []
        for s, (length, envs) in enumerate(extents):
            shard = {"num_envs": envs, "rewards": [], "terminated": [], "truncated": []}
            for t in range(length):
                for b in range(envs):
                    state, action = present[(s, b)], generator.integers(ACTIONS)
                    reward = float(np.float32(generator.normal()))
                    terminated = bool(generator.random() < p_terminated)
                    truncated = bool(not terminated and generator.random() < p_truncated)
                    following = generator.integers(STATES)
                    steps.append(
                        {
                            "when": (number, s, t, b),
                            "env": (s, b),
                            "state": state,
                            "action": action,
                            "reward": reward,
                            "end": "terminated" if terminated else "truncated" if truncated else None,
                            "following": following,
                        }
                    )
                    columns["observations"].append(int(state))
                    columns["actions"].append(int(action))
                    columns["log_probs"].append(0.0)
                    shard["rewards"].append(reward)
                    shard["terminated"].append(terminated)
                    shard["truncated"].append(truncated)
                    if truncated:
                        finals.append(int(following))
                    ended = terminated or truncated
                    present[(s, b)] = generator.integers(STATES) if ended else following
            columns["observations"] += [int(present[(s, b)]) for b in range(envs)]
            columns["shards"].append(shard)
        columns["observations"] += finals
        rounds.append(columns)
    return steps, rounds


def updates_of(case, steps):
    """(when, step, value of what follows as a function of the table and of epsilon), as the textbook has
    them, in the order in which they can be made."""
    updates = []
    for index, step in enumerate(steps):
        later = [other for other in steps[index + 1 :] if other["env"] == step["env"]]
        if step["end"] == "terminated":
            updates.append((step["when"], 1, step, lambda q, epsilon: 0.0))
            continue
        state = step["following"]
        if case["method"] == "q_learning":
            updates.append((step["when"], 1, step, lambda q, epsilon, s=state: q[s].max()))
        elif step["end"] == "truncated":
            updates.append(
                (
                    step["when"],
                    1,
                    step,
                    lambda q, epsilon, s=state: (1 - epsilon) * q[s].max() + epsilon * q[s].mean(),
                )
            )
        elif later:
            action = later[0]["action"]
            assert later[0]["state"] == state
            # Known as soon as the next action is, before what that step itself teaches.
            updates.append(
                (later[0]["when"], 0, step, lambda q, epsilon, s=state, a=action: q[s, a])
            )
    return sorted(updates, key=lambda update: update[:2])


def tabular_cases():
    generator = np.random.default_rng(13)
    extents = [(5, 2), (4, 1)]
    per_round = sum(length * envs for length, envs in extents)
    cases = []
    for method in ["q_learning", "sarsa"]:
        for name, ends, schedule, initial_value in [
            ("constant", (0.1, 0.1), "constant", 0.0),
            ("decaying, optimistic", (0.1, 0.2), "linear", 2.0),
            ("truncated only", (0.0, 0.3), "constant", 0.5),
            ("no episode ends", (0.0, 0.0), "constant", 0.0),
        ]:
            case = {
                "name": f"{method}, {name}",
                "method": method,
                "num_states": STATES,
                "num_actions": ACTIONS,
                "num_envs": sum(envs for _, envs in extents),
                "discount": 0.9,
                "learning_rate": 0.3,
                "learning_rate_schedule": schedule,
                "initial_value": initial_value,
                "epsilon_start": 0.8,
                "epsilon_end": 0.2,
                "epsilon_decay": 20,
            }
            steps, case["rounds"] = walk(generator, 3, extents, *ends)
            q = np.full((STATES, ACTIONS), initial_value)
            updates = updates_of(case, steps)
            case["expected"] = []
            for number in range(len(case["rounds"])):
                progress = number / len(case["rounds"])
                alpha = case["learning_rate"] * (1 - progress if schedule == "linear" else 1)
                share = min(number * per_round / case["epsilon_decay"], 1.0)
                epsilon = 0.8 + (0.2 - 0.8) * share
                errors = []
                for when, _, step, following in updates:
                    if when[0] == number:
                        place = (step["state"], step["action"])
                        target = step["reward"] + case["discount"] * following(q, epsilon)
                        errors.append(abs(target - q[place]))
                        q[place] += alpha * (target - q[place])
                case["expected"].append(
                    {
                        "table": listed(q.T),
                        "num_updates": len(errors),
                        "td_error": float(np.mean(errors)),
                        "epsilon": epsilon,
                        "learning_rate": alpha,
                    }
                )
            cases.append(case)
    return cases


if __name__ == "__main__":
    write("a2c.json", a2c_cases())
    write("reinforce.json", reinforce_cases())
    write("tabular.json", tabular_cases())
