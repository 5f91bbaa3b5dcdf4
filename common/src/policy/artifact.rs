//! A policy as a file: everything that is needed to act, in one safetensors file that any tool of
//! the ecosystem can open, without code in it.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};

use super::{Policy, PolicyError, PolicySpec};
use crate::normaliser::ObservationNormaliser;
use crate::spaces::EnvironmentSpec;

/// The key of the description in the file's metadata.
const METADATA: &str = "rookery";
/// A header beyond this is no policy: it would cost memory before anything is checked.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// A policy with all that it takes to use it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyArtifact {
    /// The network.
    pub spec: PolicySpec,
    /// The environment that it was trained in.
    pub environment: EnvironmentSpec,
    /// The version that it was published as.
    pub version: u64,
    /// Environment steps of training.
    pub env_steps: u64,
    /// The flat parameters in the spec's layout.
    pub parameters: Vec<f32>,
    /// How observations are normalised for it.
    pub normaliser: Option<ObservationNormaliser>,
}

/// Why a policy's file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The file system's reason.
        source: io::Error,
    },
    /// It is no safetensors file.
    #[error("not a safetensors file: {0}")]
    Tensors(#[from] SafeTensorError),
    /// Its description is absent or malformed.
    #[error("the file's metadata `{METADATA}` {0}; was it written by rookery?")]
    Metadata(String),
    /// A tensor is absent or has another type or shape.
    #[error("tensor `{name}`: expected f32 of shape {expected:?}, got {got}")]
    Tensor {
        /// Its name.
        name: String,
        /// The shape that the description implies.
        expected: Vec<usize>,
        /// What is there.
        got: String,
    },
    /// The parts do not make a policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// What the metadata says.
#[derive(Serialize, Deserialize)]
struct Description {
    spec: PolicySpec,
    environment: EnvironmentSpec,
    version: u64,
    env_steps: u64,
    normaliser: Option<ObservationNormaliser>,
}

impl PolicyArtifact {
    /// The policy, ready to act.
    ///
    /// # Errors
    /// Where the parameters are not finite or not as many as the spec asks for.
    pub fn policy(&self) -> Result<Policy, PolicyError> {
        Policy::new(self.spec.clone(), &self.parameters, self.normaliser.clone())
    }

    /// The file's content: a tensor for each of the layout's, and the description as JSON.
    ///
    /// # Errors
    /// Where the parameters are not as many as the spec asks for.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ArtifactError> {
        let layout = self.spec.layout();
        if layout.len() != self.parameters.len() {
            return Err(ArtifactError::Tensor {
                name: "all".to_owned(),
                expected: vec![layout.len()],
                got: format!("{} values", self.parameters.len()),
            });
        }
        let views = layout
            .tensors()
            .iter()
            .map(|slot| {
                let values = &self.parameters[slot.range()];
                let view = TensorView::new(
                    Dtype::F32,
                    slot.shape().to_vec(),
                    bytemuck::cast_slice(values),
                )?;
                Ok((slot.name().to_owned(), view))
            })
            .collect::<Result<Vec<_>, SafeTensorError>>()?;
        let description = Description {
            spec: self.spec.clone(),
            environment: self.environment.clone(),
            version: self.version,
            env_steps: self.env_steps,
            normaliser: self.normaliser.clone(),
        };
        let description = serde_json::to_string(&description)
            .map_err(|error| ArtifactError::Metadata(format!("cannot be written ({error})")))?;
        let metadata = HashMap::from([(METADATA.to_owned(), description)]);
        Ok(safetensors::serialize(views, Some(metadata))?)
    }

    /// Reads a file that [`PolicyArtifact::to_bytes`] has made.
    ///
    /// # Errors
    /// Names what is missing or does not fit; nothing is executed, whatever the file holds.
    pub fn read(path: &Path) -> Result<Self, ArtifactError> {
        let io_error = |source| ArtifactError::Io {
            path: path.to_owned(),
            source,
        };
        let mut header = [0; 8];
        fs::File::open(path)
            .and_then(|mut file| file.read_exact(&mut header))
            .map_err(io_error)?;
        if u64::from_le_bytes(header) > MAX_HEADER_BYTES {
            return Err(SafeTensorError::HeaderTooLarge.into());
        }
        Self::from_bytes(&fs::read(path).map_err(io_error)?)
    }

    /// Reads the content of a file.
    ///
    /// # Errors
    /// As [`PolicyArtifact::read`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ArtifactError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let description = metadata
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(METADATA))
            .ok_or_else(|| ArtifactError::Metadata("is missing".to_owned()))?;
        let description: Description = serde_json::from_str(description)
            .map_err(|error| ArtifactError::Metadata(format!("is malformed ({error})")))?;
        description.spec.validate().map_err(PolicyError::from)?;
        description
            .environment
            .validate_parts()
            .map_err(|error| ArtifactError::Metadata(format!("is malformed ({error})")))?;
        let tensors = SafeTensors::deserialize(bytes)?;
        let layout = description.spec.layout();
        let mut parameters = vec![0.0; layout.len()];
        for slot in layout.tensors() {
            let mismatch = |got: String| ArtifactError::Tensor {
                name: slot.name().to_owned(),
                expected: slot.shape().to_vec(),
                got,
            };
            let view = tensors
                .tensor(slot.name())
                .map_err(|_| mismatch("nothing".to_owned()))?;
            if view.dtype() != Dtype::F32 || view.shape() != slot.shape() {
                return Err(mismatch(format!(
                    "{:?} of shape {:?}",
                    view.dtype(),
                    view.shape()
                )));
            }
            bytemuck::cast_slice_mut(&mut parameters[slot.range()]).copy_from_slice(view.data());
        }
        Ok(Self {
            spec: description.spec,
            environment: description.environment,
            version: description.version,
            env_steps: description.env_steps,
            parameters,
            normaliser: description.normaliser,
        })
    }
}
