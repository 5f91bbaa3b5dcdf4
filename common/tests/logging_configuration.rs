//! What can be said about experiment logs, and what is refused.

use rookery_common::configuration::Configuration;

#[test]
fn a_tracking_server_can_be_named_and_unset() {
    let text = r#"
        logging.points = 50
        logging.mlflow.tracking_uri = "https://mlflow.example/team/"
        logging.mlflow.experiment = "carts and poles"
        logging.mlflow.token_file = "secret/token"
    "#;
    let configuration = Configuration::parse(text).unwrap();
    let uri = configuration.logging.mlflow.tracking_uri.as_ref().unwrap();
    assert_eq!(uri.to_string(), "https://mlflow.example:443/team");
    assert_eq!(
        Configuration::parse(&configuration.to_toml()).unwrap(),
        configuration
    );
    let unset = Configuration::parse("logging.mlflow.tracking_uri = \"none\"").unwrap();
    assert_eq!(unset, Configuration::default());
}

#[test]
fn what_cannot_be_logged_is_refused_all_at_once() {
    let error = Configuration::parse(
        r#"
        logging.points = 0
        logging.histograms = 1_000_001
        logging.tensorboard = "yes"
        logging.mlflow.experiment = " "
        logging.mlflow.tracking_uri = "http://me:secret@host:5000"
        logging.mlflow.token = "secret"
        "#,
    )
    .unwrap_err()
    .to_string();
    for words in [
        "`logging.points` (configuration): expected at least 1 and at most 1000000",
        "`logging.histograms` (configuration): expected at least 0 and at most 1000000",
        "`logging.tensorboard` (configuration): expected true or false",
        "`logging.mlflow.experiment` (configuration): expected a name of one line",
        "MLFLOW_TRACKING_USERNAME",
        "`logging.mlflow.token` (configuration): unknown key",
    ] {
        assert!(error.contains(words), "{words} is not in {error}");
    }
    // Errors end up in logs.
    assert!(error.contains("http://...@host:5000"), "{error}");
    assert!(!error.contains("me:secret"), "{error}");
}
