//! Who may know libtorch: the learner alone.

use std::path::Path;
use std::process::Command;

/// Everything that `package` is built from.
fn dependencies(package: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--prefix",
            "none",
            "--edges",
            "normal,build",
        ])
        .args(["--package", package])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .expect("cargo runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {error}");
    String::from_utf8(output.stdout).expect("text")
}

fn knows_libtorch(package: &str) -> bool {
    let dependencies = dependencies(package);
    assert!(
        dependencies.contains("tonic "),
        "{package} speaks gRPC: {dependencies}"
    );
    ["tch ", "torch-sys "]
        .iter()
        .any(|name| dependencies.lines().any(|line| line.starts_with(name)))
}

#[test]
fn libtorch_is_the_learners_alone() {
    assert!(
        knows_libtorch("rookery-learner"),
        "or else this test could not fail"
    );
    assert!(!knows_libtorch("rookery-actor"));
    assert!(!knows_libtorch("rookery"));
    assert!(!knows_libtorch("own-environment"));
}
