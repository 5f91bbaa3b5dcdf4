//! Every key with its default, as `--print-config` shows it.

use insta::assert_snapshot;
use rookery_common::configuration::Configuration;

#[test]
#[expect(clippy::too_many_lines, reason = "the text has a line for each key")]
fn the_defaults_can_run_and_are_what_is_printed() {
    let configuration = Configuration::default();
    assert_eq!(configuration.validate(), []);
    assert_snapshot!(configuration.to_toml(), @r#"
    [a2c]
    adam_beta1 = 0.0
    adam_beta2 = 0.99
    adam_epsilon = 0.00001
    discount = 0.99
    entropy_coefficient = 0.0
    gae_lambda = 1.0
    learning_rate = 0.0007
    learning_rate_schedule = "constant"
    max_gradient_norm = 0.5
    normalise_advantages = false
    value_coefficient = 0.5

    [actor]
    give_up_after = "10m"
    learner = "127.0.0.1:50051"
    metrics_listen = "none"
    program = "none"
    reconnect_backoff_initial = "50ms"
    reconnect_backoff_max = "5s"
    threads = 1

    [actor.host]
    groups = 2
    max_restarts = 5
    python = "python3"
    python_path = []
    shared = false
    spin = "100us"
    startup_timeout = "2m"
    step_timeout = "1m"

    [checkpoint]
    every = "30s"
    every_updates = "none"
    keep = 3

    [dqn]
    adam_epsilon = 0.00000001
    discount = 0.99
    distribution = "expectation"
    double = true
    dueling = false
    epsilon_alpha = 7.0
    epsilon_base = 0.4
    epsilon_decay = 10000
    epsilon_end = 0.05
    epsilon_per_shard = false
    epsilon_start = 1.0
    gradient_steps = 16
    huber_threshold = 1.0
    learning_rate = 0.001
    learning_rate_schedule = "constant"
    max_gradient_norm = 10.0
    minibatch_size = 64
    noisy = false
    noisy_sigma = 0.5
    num_atoms = 51
    num_quantiles = 51
    target_tau = 1.0
    target_update_every = 500
    v_max = 10.0
    v_min = -10.0

    [environment]
    id = "CartPole-v1"
    num_envs = 8
    python_wrappers = []
    wrappers = []

    [environment.arguments]

    [evaluation]
    episodes = 20
    every_env_steps = "none"
    keep_recordings = 100
    record_every = "none"
    recordings = "none"

    [impala]
    adam_beta1 = 0.9
    adam_beta2 = 0.999
    adam_epsilon = 0.00001
    c_clip = 1.0
    discount = 0.99
    entropy_coefficient = 0.01
    entropy_schedule = "constant"
    lambda = 1.0
    learning_rate = 0.0006
    learning_rate_schedule = "linear"
    max_gradient_norm = 0.5
    policy_rho_clip = 1.0
    rho_clip = 1.0
    value_coefficient = 0.5

    [learner]
    device = "auto"
    lease_timeout = "10s"
    listen = "127.0.0.1:50051"
    max_message = "64MiB"
    metrics_listen = "none"
    shutdown_deadline = "8s"
    threads = 1

    [logging]
    histograms = 100
    points = 1000
    tensorboard = true

    [logging.mlflow]
    experiment = "rookery"
    tls_ca = "none"
    token_file = "none"
    tracking_uri = "none"

    [normalisation]
    observation_clip = 10.0
    observations = false
    reward_clip = 10.0
    rewards = false

    [policy]
    activation = "tanh"
    channel_multiplier = 1
    encoder = "mlp"
    hidden = [64, 64]
    initial_log_std = 0.0
    recurrent = "none"
    recurrent_units = 64
    shared_trunk = false

    [ppo]
    adam_beta1 = 0.9
    adam_beta2 = 0.999
    adam_epsilon = 0.00001
    advantage = "gae"
    advantage_normalisation = "minibatch"
    clip_range = 0.2
    clip_range_schedule = "constant"
    discount = 0.99
    entropy_coefficient = 0.0
    entropy_schedule = "constant"
    epochs = 10
    gae_lambda = 0.95
    learning_rate = 0.0003
    learning_rate_schedule = "linear"
    max_gradient_norm = 0.5
    minibatch_size = 64
    target_kl = "none"
    value_clip_range = "none"
    value_coefficient = 0.5
    vtrace_c_clip = 1.0
    vtrace_rho_clip = 1.0

    [reinforce]
    adam_beta1 = 0.9
    adam_beta2 = 0.999
    adam_epsilon = 0.00001
    baseline = true
    discount = 0.99
    entropy_coefficient = 0.0
    learning_rate = 0.001
    learning_rate_schedule = "constant"
    max_gradient_norm = 0.5
    normalise_returns = false
    value_coefficient = 0.5

    [replay]
    capacity = 1000000
    capacity_bytes = "4GiB"
    hindsight = "none"
    hindsight_goals = 4
    in_checkpoint = true
    minimum_size = 1000
    n_step = 1
    prioritised = false
    priority_alpha = 0.6
    priority_beta_end = 1.0
    priority_beta_start = 0.4
    priority_epsilon = 0.000001
    samples_per_insert = "none"
    samples_per_insert_tolerance = "none"

    [rollout]
    envs_per_shard = 4
    unroll_length = 128

    [run]
    algorithm = "ppo"
    directory = "runs"
    name = ""
    seed = 1
    solved_return = "none"
    stop_when_solved = false
    total_env_steps = 1000000

    [sac]
    adam_epsilon = 0.00000001
    critic_learning_rate = 0.001
    discount = 0.99
    gradient_steps = 16
    initial_temperature = 1.0
    learning_rate = 0.0003
    learns_temperature = true
    max_gradient_norm = "none"
    minibatch_size = 256
    noise_hold = 1
    policy_delay = 1
    target_entropy = "none"
    target_tau = 0.005
    temperature_learning_rate = 0.0003

    [schedule]
    kind = "synchronous"
    lag = 0
    max_policy_lag = "none"
    max_queue_bytes = "none"
    unrolls_per_update = "none"

    [security]
    insecure = false
    tls_ca = "none"
    tls_certificate = "none"
    tls_client_ca = "none"
    tls_client_certificate = "none"
    tls_client_key = "none"
    tls_domain = "none"
    tls_key = "none"
    token_file = "none"

    [tabular]
    discount = 0.99
    epsilon_decay = 10000
    epsilon_end = 0.05
    epsilon_start = 1.0
    initial_value = 0.0
    learning_rate = 0.1
    learning_rate_schedule = "constant"

    [td3]
    adam_epsilon = 0.00000001
    critic_learning_rate = 0.001
    discount = 0.99
    exploration_noise = 0.1
    gradient_steps = 16
    learning_rate = 0.001
    max_gradient_norm = "none"
    minibatch_size = 256
    noise_hold = 1
    policy_delay = 2
    target_noise = 0.2
    target_noise_clip = 0.5
    target_tau = 0.005

    [telemetry]
    log = "info"
    log_format = "text"
    "#);
}
