//! `rookery digest`: the name of a run's final parameters, by which two runs are compared.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use rookery_common::hash::sha256_hex;
use safetensors::{Dtype, SafeTensors};

use crate::failure::Failure;
use crate::run_directory::RunDirectory;

/// The tensor that holds every parameter.
const PARAMETERS: &str = "parameters";

/// Print the SHA-256 of a run's newest parameters
///
/// Two runs with the same digest have learned the same, bit for bit: the policy's and the value
/// function's parameters are equal.
#[derive(Clone, Debug, Args)]
pub(crate) struct DigestArguments {
    /// The run's folder
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
}

/// Prints the digest.
///
/// # Errors
/// Where the run has no whole checkpoint.
pub(crate) fn digest(arguments: &DigestArguments) -> anyhow::Result<()> {
    let run = RunDirectory::existing(&arguments.run)?;
    println!("{}", parameters_sha256(&run.learner_file())?);
    Ok(())
}

/// Lower-case hexadecimal SHA-256 of the little-endian bytes of the parameters in a checkpoint.
///
/// # Errors
/// Where the file cannot be read or does not hold them.
pub(crate) fn parameters_sha256(path: &Path) -> anyhow::Result<String> {
    with_parameters(path, sha256_hex)
}

/// The parameters in a checkpoint.
///
/// # Errors
/// Where the file cannot be read or does not hold them.
pub(crate) fn read_parameters(path: &Path) -> anyhow::Result<Vec<f32>> {
    with_parameters(path, |bytes| {
        let (values, _) = bytes.as_chunks();
        values
            .iter()
            .map(|value| f32::from_le_bytes(*value))
            .collect()
    })
}

/// Hands over the bytes of the parameters in a checkpoint.
fn with_parameters<T>(path: &Path, use_: impl FnOnce(&[u8]) -> T) -> anyhow::Result<T> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!(
            "cannot read {}: {error}; has the run written a checkpoint yet?",
            path.display()
        ))
    };
    let bytes = fs::read(path).map_err(unreadable)?;
    let tensors = SafeTensors::deserialize(&bytes)
        .with_context(|| format!("{} is not a safetensors file", path.display()))?;
    let parameters = tensors
        .tensor(PARAMETERS)
        .with_context(|| format!("{} lacks the tensor `{PARAMETERS}`", path.display()))?;
    if parameters.dtype() != Dtype::F32 {
        anyhow::bail!(
            "tensor `{PARAMETERS}` of {}: expected f32, got {:?}",
            path.display(),
            parameters.dtype()
        );
    }
    Ok(use_(parameters.data()))
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    #[test]
    fn the_digest_is_that_of_the_bytes_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learner.safetensors");
        let data: Vec<u8> = [1.0_f32, -2.5, 0.0]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let other = [0_u8; 8];
        let tensors = [
            (
                "adam.first_moment",
                TensorView::new(Dtype::F32, vec![2], &other).unwrap(),
            ),
            (
                PARAMETERS,
                TensorView::new(Dtype::F32, vec![3], &data).unwrap(),
            ),
        ];
        fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
        // python3 -c "import hashlib, struct; print(hashlib.sha256(struct.pack('<3f', 1, -2.5, 0)).hexdigest())"
        assert_eq!(
            parameters_sha256(&path).unwrap(),
            "738e86d615200bd3391d7ae379779a8e4644bade56d93d0634aa07004fa697f3"
        );
        assert_eq!(read_parameters(&path).unwrap(), [1.0, -2.5, 0.0]);
    }

    #[test]
    fn a_file_without_parameters_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learner.safetensors");
        fs::write(&path, b"not tensors").unwrap();
        assert!(
            parameters_sha256(&path)
                .unwrap_err()
                .to_string()
                .contains("not a safetensors")
        );
        let data = [0_u8; 8];
        let view = TensorView::new(Dtype::F32, vec![2], &data).unwrap();
        fs::write(
            &path,
            safetensors::serialize([("other", view)], None).unwrap(),
        )
        .unwrap();
        assert!(
            parameters_sha256(&path)
                .unwrap_err()
                .to_string()
                .contains("lacks the tensor")
        );
    }
}
