#!/usr/bin/env python3
"""The dashboards: what they show stands below, `make dashboards` writes them to dashboards/ as Grafana reads them."""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH = 24  # of Grafana's grid


def rate(metric, by=None):
    per_second = f"rate({metric}[$__rate_interval])"
    return f"sum by ({by}) ({per_second})" if by else f"sum({per_second})"


def quantile(share, metric):
    return f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket[$__rate_interval])))"


def mean(metric):
    return f"{rate(metric + '_sum')} / ({rate(metric + '_count')} > 0)"


def quantiles(metric):
    return [(quantile(0.1, metric), "10 %"), (quantile(0.5, metric), "median"), (quantile(0.9, metric), "90 %")]


def share_of_time(metric, by):
    """Of all time that a stage took, stage by stage."""
    return f"{rate(metric, by)} / ignoring ({by}) group_left () ({rate(metric)} > 0)"


def panel(kind, title, queries, about="", unit="short", width=8, height=8, stacked=False, fields=None, options=None):
    """One panel; `queries` are (expression, legend)."""
    custom = {"fillOpacity": 10, "showPoints": "never", "spanNulls": True}
    if stacked:
        custom |= {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 60, "lineWidth": 0}
    defaults = {"unit": unit, **(fields or {})} | ({"custom": custom} if kind == "timeseries" else {})
    targets = [
        {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
        for number, (expression, legend) in enumerate(queries)
    ]
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options or {},
        "targets": targets,
    }


def graph(title, queries, about="", **settings):
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return panel("timeseries", title, queries, about, options=options, **settings)


def stat(title, expression, about="", **settings):
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area", "colorMode": "value"}
    return panel("stat", title, [(expression, "")], about, width=4, height=4, options=options, **settings)


def table(title, expression, about=""):
    made = panel("table", title, [(expression, "")], about, width=24, height=7)
    made["targets"][0] |= {"instant": True, "format": "table"}
    return made


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "gridPos": {"w": WIDTH, "h": 1}}


SHARE = {"min": 0, "max": 1}

BOARDS = {
    "run": (
        "Rookery: run",
        "What the policy learns.",
        [
            row("Progress"),
            stat("Environment steps", "rookery_env_steps_total"),
            stat("Steps per second", "rookery:env_steps:rate5m"),
            stat("Training return", "rookery:episode_return:mean5m", "Mean raw return of the episodes of five minutes."),
            stat("Evaluation return", "rookery_evaluation_return", "Without exploration, newest version that was played."),
            stat("Episodes", "rookery_episodes_total"),
            stat("Updates", "rookery_updates_total"),
            graph(
                "Return",
                [("rookery:episode_return:mean5m", "mean, training"), ("rookery_evaluation_return", "mean, evaluation")],
                "Raw returns; training explores, evaluation does not.",
                width=12,
            ),
            graph(
                "Spread of the training return",
                quantiles("rookery_episode_return"),
                "Estimated from the histogram's buckets: coarse.",
                width=12,
            ),
            graph("Length of episodes", quantiles("rookery_episode_length_steps"), "In environment steps."),
            graph("Environment steps per second", [(rate("rookery_env_steps_total"), "trained on")]),
            graph(
                "Gradient steps per second",
                [
                    (rate("rookery_gradient_steps_total"), "taken"),
                    (rate("rookery_gradient_steps_skipped_total"), "skipped: not finite"),
                ],
            ),
            row("Health"),
            table(
                "What looks sick",
                "rookery_diagnosis > 0",
                "Empty while the run looks well. The learner's log has the figures and the remedy of each rule.",
            ),
            graph(
                "Diagnoses",
                [("sum by (rule) (rookery_diagnosis)", "{{rule}}")],
                "1 while a rule is raised.",
                width=24,
                fields={"min": 0, "max": 1},
            ),
            row("Learning"),
            graph(
                "Policy loss",
                [
                    ("rookery_ppo_policy_loss", "PPO"),
                    ("rookery_impala_policy_loss", "IMPALA"),
                    ("rookery_a2c_policy_loss", "A2C"),
                    ("rookery_reinforce_policy_loss", "REINFORCE"),
                ],
                "Its size says little; its becoming constant or not finite does.",
            ),
            graph("Value loss", [("rookery:value_loss", "values or critics")]),
            graph(
                "Explained variance",
                [("rookery:explained_variance_ratio", "values")],
                "1 is perfect, below 0 is worse than the mean.",
                fields={"max": 1},
            ),
            graph(
                "Entropy",
                [("rookery:entropy_nats", "policy"), ("rookery_sac_target_entropy_nats", "SAC's target")],
                "In nats. Falls while a policy makes up its mind; at zero too early, it has stopped exploring.",
            ),
            graph(
                "Distance to the policy that acted",
                [
                    ("rookery_ppo_approx_kl_nats", "PPO: approximate KL, nats"),
                    ("rookery_ppo_initial_log_ratio", "PPO: |log ratio| before the first step"),
                    ("rookery_impala_log_ratio", "IMPALA: |log ratio|"),
                    ("rookery_a2c_log_ratio", "A2C: |log ratio|"),
                    ("rookery_reinforce_log_ratio", "REINFORCE: |log ratio|"),
                ],
            ),
            graph(
                "Clipped",
                [
                    ("rookery_ppo_clip_fraction_ratio", "PPO's ratio"),
                    ("rookery_vtrace_rho_clip_fraction_ratio", "V-trace: rho"),
                    ("rookery_vtrace_c_clip_fraction_ratio", "V-trace: c"),
                ],
                "Share of the rows.",
                unit="percentunit",
                fields=SHARE,
            ),
            graph(
                "Norm of gradients, before clipping",
                [
                    ("rookery_ppo_gradient_norm", "PPO"),
                    ("rookery_impala_gradient_norm", "IMPALA"),
                    ("rookery_a2c_gradient_norm", "A2C"),
                    ("rookery_reinforce_gradient_norm", "REINFORCE"),
                    ("rookery_off_policy_gradient_norm", "DQN, SAC"),
                ],
            ),
            graph(
                "Step size",
                [
                    ("rookery_ppo_learning_rate", "PPO"),
                    ("rookery_impala_learning_rate", "IMPALA"),
                    ("rookery_a2c_learning_rate", "A2C"),
                    ("rookery_reinforce_learning_rate", "REINFORCE"),
                    ("rookery_tabular_learning_rate_ratio", "table"),
                ],
                unit="sci",
            ),
            graph(
                "Waits for the end of its episode",
                [("rookery_reinforce_unfinished_steps", "steps, REINFORCE")],
            ),
            row("Off policy"),
            graph(
                "Action values",
                [
                    ("rookery_q_value_mean", "mean"),
                    ("rookery_q_value_max", "largest"),
                    ("rookery_td3_policy_value", "TD3: of its policy's actions"),
                ],
                "Far above any return that is possible: they are overestimated.",
            ),
            graph(
                "Temporal-difference error",
                [
                    ("rookery_td_error", "mean size"),
                    ("rookery_dqn_loss", "DQN's loss"),
                    ("rookery_critic_loss", "critics of SAC and TD3"),
                ],
            ),
            graph(
                "Exploration",
                [
                    ("rookery_dqn_epsilon_ratio", "DQN: epsilon"),
                    ("rookery_tabular_epsilon_ratio", "table: epsilon"),
                    ("rookery_sac_temperature", "SAC: temperature"),
                ],
            ),
            graph("Transitions in the store", [("rookery_replay_size", "can be sampled")]),
            graph("Age of what is sampled", [("rookery_replay_age_steps", "steps of its environment")]),
            graph(
                "Use of what is stored",
                [
                    ("rookery_replay_samples_per_insert_ratio", "samples for each transition"),
                    ("rookery_replay_importance_weight_ratio", "mean importance weight"),
                ],
            ),
        ],
    ),
    "machine": (
        "Rookery: machine",
        "Where the time goes, and which side holds the other up.",
        [
            row("Bottleneck"),
            table(
                "What limits the run",
                "rookery_bottleneck > 0",
                "The stage by the learner's own verdict over the last 20 seconds; its log has the advice.",
            ),
            stat(
                "Busy",
                "rookery_bottleneck_busy_ratio",
                "Share of its side's time that the stage takes; of wire and queue that in which neither side works.",
                unit="percentunit",
                fields=SHARE,
            ),
            stat(
                "Actors that would do",
                "rookery_suggested_actors",
                "As many of the same kind collect as fast as the learner learns.",
            ),
            stat("Actors", "rookery_actors"),
            graph(
                "Verdict",
                [("sum by (stage) (rookery_bottleneck)", "{{stage}}")],
                "1 for the stage that limits the run.",
                stacked=True,
                width=12,
                fields=SHARE,
            ),
            stat(
                "Learner waits",
                "rookery:learner_starved:ratio5m",
                "Share of its time without anything to learn from. High: more actors make the run faster.",
                unit="percentunit",
                fields=SHARE,
            ),
            stat(
                "Actors wait for room",
                "rookery:queue_full:ratio5m",
                "Share of their time in an asynchronous run. High: fewer actors would do, or the learner needs more.",
                unit="percentunit",
                fields=SHARE,
            ),
            stat(
                "Collectors wait",
                rate('rookery_actor_stage_seconds_total{stage="wait"}')
                + f" / ({rate('rookery_actor_stage_seconds_total')} > 0)",
                "Share of their time for parameters, leases or answers. A synchronous run's sides take turns.",
                unit="percentunit",
                fields=SHARE,
            ),
            stat("Environment steps per second", "rookery:env_steps:rate5m"),
            stat("Unrolls queued", "rookery_unrolls_queued"),
            stat("Bytes queued", "rookery_queue_bytes", unit="bytes"),
            graph(
                "Learner: where the time goes",
                [(share_of_time("rookery_learner_stage_seconds_sum", "stage"), "{{stage}}")],
                "Of the compute thread. wait: nothing to learn from.",
                unit="percentunit",
                fields=SHARE,
                stacked=True,
                width=12,
            ),
            graph(
                "Actors: where the time goes",
                [(share_of_time("rookery_actor_stage_seconds_total", "stage"), "{{stage}}")],
                "Of all collector threads. wait: for parameters, a lease or an answer.",
                unit="percentunit",
                fields=SHARE,
                stacked=True,
                width=12,
            ),
            row("Learner"),
            graph(
                "Time of an update, by stage",
                [
                    (
                        "histogram_quantile(0.95, sum by (le, stage) "
                        "(rate(rookery_learner_stage_seconds_bucket[$__rate_interval])))",
                        "{{stage}}",
                    )
                ],
                "19 of 20 take no longer.",
                unit="s",
            ),
            graph("Unrolls wait for their update", quantiles("rookery_queue_wait_seconds"), unit="s"),
            graph("Unrolls wait for room", quantiles("rookery_back_pressure_seconds"), unit="s"),
            graph(
                "Policy lag",
                [(mean("rookery_policy_lag_updates"), "mean"), (quantile(0.95, "rookery_policy_lag_updates"), "95 %")],
                "Updates between the version that acted and the one that learns from it.",
            ),
            graph("Updates per second", [(rate("rookery_updates_total"), "updates")]),
            graph(
                "Writing checkpoints",
                [(mean("rookery_checkpoint_seconds"), "time of one"), (quantile(0.95, "rookery_checkpoint_seconds"), "95 %")],
                unit="s",
            ),
            row("Network"),
            graph(
                "Unrolls",
                [(rate("rookery_received_bytes_total"), "received"), (rate("rookery_actor_sent_bytes_total"), "sent")],
                unit="Bps",
            ),
            graph(
                "Parameters",
                [(rate("rookery_published_bytes_total"), "published")],
                "Each version once; it goes to every actor.",
                unit="Bps",
            ),
            graph(
                "Age of the newest checkpoint",
                [("time() - rookery_checkpoint_last_success_timestamp_seconds", "age")],
                unit="s",
            ),
        ],
    ),
    "fleet": (
        "Rookery: fleet",
        "Who works for the run, and what becomes of what they send.",
        [
            row("Now"),
            stat("Actors", "rookery_actors"),
            stat("Evaluators", "rookery_evaluators"),
            stat("Shards", "rookery_shards"),
            stat("Shards leased", "rookery_shards_leased"),
            stat("Checkpoints written", 'rookery_checkpoints_total{result="written"}'),
            stat(
                "Resets on the way",
                "rookery_unrolls_discontinuous_total",
                "Above 0 the result depends on who collected what.",
            ),
            table("Alerts", 'ALERTS{alertname=~"Rookery.*"}', "docs/operations.md says what to do."),
            row("Fleet"),
            graph("Sessions", [("rookery_actors", "actors"), ("rookery_evaluators", "evaluators")]),
            graph("Shards", [("rookery_shards", "of the run"), ("rookery_shards_leased", "leased")]),
            graph(
                "Processes that answer",
                [('sum by (job) (up{job=~"rookery-.*"})', "{{job}}")],
                "As Prometheus finds them.",
            ),
            graph(
                "Sessions begun",
                [("sum by (job) (increase(rookery_actor_joins_total[$__rate_interval]))", "{{job}}")],
                "The first of a process, and every return to the learner.",
            ),
            graph(
                "Environment steps per second, by actor",
                [("rate(rookery_actor_env_steps_total[$__rate_interval])", "{{instance}}")],
            ),
            graph(
                "Versions behind",
                [("scalar(rookery_policy_version) - rookery_actor_policy_version", "{{instance}}")],
                "Between the learner's newest and the actor's.",
            ),
            row("Unrolls"),
            graph("Received, by result", [(rate("rookery_unrolls_total", "result"), "{{result}}")], unit="ops"),
            graph("Refused, by reason", [(rate("rookery_unrolls_refused_total", "reason"), "{{reason}}")], unit="ops"),
            graph("Trained on", [(rate("rookery_unrolls_trained_total"), "unrolls")], unit="ops"),
            graph(
                "Sent, by actor", [("rate(rookery_actor_unrolls_total[$__rate_interval])", "{{instance}}")], unit="ops"
            ),
            graph("Acknowledged, as actors see it", [(rate("rookery_actor_acks_total", "result"), "{{result}}")], unit="ops"),
            graph("Refused, as actors see it", [(rate("rookery_actor_refusals_total", "reason"), "{{reason}}")], unit="ops"),
            row("Evaluators and builds"),
            graph("Evaluations", [("rookery_actor_evaluation_return", "{{instance}}")], "Mean raw return."),
            graph("Evaluations made", [("rookery_actor_evaluations_total", "{{instance}}")]),
            graph(
                "Builds",
                [("count by (program, version) (rookery_build_info)", "{{program}} {{version}}")],
                "More than one version: an upgrade is half done.",
            ),
            graph(
                "Points that experiment logs lost",
                [(rate("rookery_log_points_dropped_total", "log"), "{{log}}")],
                "By TensorBoard's files or MLflow; metrics.jsonl has them.",
                unit="ops",
            ),
        ],
    ),
}


def lay_out(panels):
    """Numbers the panels and puts them beside and below each other."""
    x = y = height = 0
    for number, each in enumerate(panels, start=1):
        place = each["gridPos"]
        if x + place["w"] > WIDTH or each["type"] == "row":
            x, y, height = 0, y + height, 0
        each["id"] = number
        each["gridPos"] = {"x": x, "y": y, **place}
        x, height = x + place["w"], max(height, place["h"])
    return panels


def board(name):
    title, about, panels = BOARDS[name]
    made = {
        "uid": f"rookery-{name}",
        "title": title,
        "description": about,
        "tags": ["rookery"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "links": [{"title": "Rookery", "type": "dashboards", "tags": ["rookery"], "asDropdown": False, "keepTime": True}],
        "panels": lay_out(panels),
    }
    return json.dumps(made, indent=1) + "\n"


def main():
    FOLDER.mkdir(exist_ok=True)
    for name in BOARDS:
        path, made = FOLDER / f"{name}.json", board(name)
        if sys.argv[1:] != ["--check"]:
            path.write_text(made)
        elif not path.is_file() or path.read_text() != made:
            sys.exit(f"{path.name} is not what boards.py makes: run `make dashboards`")


main()
