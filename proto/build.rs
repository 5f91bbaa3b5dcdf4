//! Generates the types of `rookery.v1` without a `protoc` binary.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "rookery/v1/unroll.proto",
        "rookery/v1/learner.proto",
        "rookery/v1/control.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    // `Bytes` fields are split off the received message without a copy.
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
