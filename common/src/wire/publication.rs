//! Published versions on the wire: cut into chunks and put together again.

use std::collections::BTreeMap;

use bytes::Bytes;
use rookery_proto::v1;

use super::WireError;
use crate::normaliser::ObservationNormaliser;
use crate::unroll::{Column, PolicyVersion};

/// Bytes in a chunk: gRPC keeps a whole message in memory, so large ones are cut.
const CHUNK_BYTES: usize = 1 << 20;

/// One published version, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// Its name.
    pub version: PolicyVersion,
    /// Environment steps that training had consumed before it.
    pub env_steps: u64,
    /// Flat parameters in the policy's layout.
    pub parameters: Vec<f32>,
    /// How observations are normalised for it.
    pub normaliser: Option<ObservationNormaliser>,
    /// Named numbers of the acting side, such as an exploration rate.
    pub acting: BTreeMap<String, f64>,
}

fn f32_bytes(values: &[f32]) -> Bytes {
    Column::from(values.to_vec()).bytes()
}

fn f32_values(field: &'static str, bytes: Bytes) -> Result<Vec<f32>, WireError> {
    let length = bytes.len();
    Column::<f32>::from_bytes(bytes)
        .map(|column| column.to_vec())
        .ok_or_else(|| WireError::new(field, "whole f32 values", format!("{length} bytes")))
}

/// Cuts a publication into the messages that carry it. The chunks share one allocation.
#[must_use]
pub fn publication_chunks(publication: &Publication) -> Vec<v1::ParametersChunk> {
    let data = f32_bytes(&publication.parameters);
    let num_chunks = data.len().div_ceil(CHUNK_BYTES).max(1);
    let header = v1::PublicationHeader {
        env_steps: publication.env_steps,
        normaliser: publication
            .normaliser
            .as_ref()
            .map(|normaliser| v1::ObservationNormaliser {
                mean: f32_bytes(normaliser.mean()),
                inverse_standard_deviation: f32_bytes(normaliser.inverse_standard_deviation()),
                clip: normaliser.clip(),
            }),
        acting: publication.acting.clone().into_iter().collect(),
        total_bytes: data.len() as u64,
        num_chunks: num_chunks as u32,
    };
    let mut header = Some(header);
    (0..num_chunks)
        .map(|chunk| {
            let start = chunk * CHUNK_BYTES;
            v1::ParametersChunk {
                version: Some(publication.version.into()),
                chunk: chunk as u32,
                header: header.take(),
                data: data.slice(start..data.len().min(start + CHUNK_BYTES)),
            }
        })
        .collect()
}

/// Puts publications together again. It claims memory as data arrives, and no more than the policy
/// that was agreed at Join takes.
#[derive(Debug)]
pub struct PublicationAssembler {
    num_parameters: usize,
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    version: PolicyVersion,
    header: v1::PublicationHeader,
    next_chunk: u32,
    data: Vec<u8>,
}

impl PublicationAssembler {
    /// Expects publications of `num_parameters` values.
    #[must_use]
    pub fn new(num_parameters: usize) -> Self {
        Self {
            num_parameters,
            pending: None,
        }
    }

    /// Takes the next chunk; hands out the publication that it completes.
    ///
    /// # Errors
    /// Where the chunk does not continue the one before or does not fit the policy.
    pub fn push(&mut self, chunk: v1::ParametersChunk) -> Result<Option<Publication>, WireError> {
        let version: PolicyVersion = chunk
            .version
            .ok_or_else(|| WireError::missing("version"))?
            .into();
        if let Some(header) = chunk.header {
            let expected = (self.num_parameters * size_of::<f32>()) as u64;
            if header.total_bytes != expected {
                return Err(WireError::new(
                    "header.total_bytes",
                    format!("{expected} for the policy agreed at Join"),
                    header.total_bytes.to_string(),
                ));
            }
            self.pending = Some(Pending {
                version,
                header,
                next_chunk: 0,
                data: Vec::new(),
            });
        }
        let pending = self
            .pending
            .as_mut()
            .ok_or_else(|| WireError::missing("header"))?;
        if (version, chunk.chunk) != (pending.version, pending.next_chunk) {
            return Err(WireError::new(
                "chunk",
                format!(
                    "chunk {} of version {}",
                    pending.next_chunk, pending.version
                ),
                format!("chunk {} of version {version}", chunk.chunk),
            ));
        }
        pending.next_chunk += 1;
        pending.data.extend_from_slice(&chunk.data);
        let complete = pending.next_chunk == pending.header.num_chunks;
        let expected = pending.header.total_bytes;
        if pending.data.len() as u64 > expected
            || complete && (pending.data.len() as u64) < expected
        {
            return Err(WireError::new(
                "data",
                format!("{expected} bytes in {} chunks", pending.header.num_chunks),
                format!("{} in {}", pending.data.len(), pending.next_chunk),
            ));
        }
        match self.pending.take_if(|_| complete) {
            Some(pending) => pending.finish().map(Some),
            None => Ok(None),
        }
    }
}

impl Pending {
    fn finish(self) -> Result<Publication, WireError> {
        let normaliser = self
            .header
            .normaliser
            .map(|normaliser| {
                ObservationNormaliser::new(
                    f32_values("normaliser.mean", normaliser.mean)?,
                    f32_values(
                        "normaliser.inverse_standard_deviation",
                        normaliser.inverse_standard_deviation,
                    )?,
                    normaliser.clip,
                )
                .map_err(|error| {
                    WireError::new("normaliser", "sound statistics", error.to_string())
                })
            })
            .transpose()?;
        Ok(Publication {
            version: self.version,
            env_steps: self.header.env_steps,
            parameters: f32_values("data", Bytes::from(self.data))?,
            normaliser,
            acting: self.header.acting.into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(num_parameters: usize) -> Publication {
        Publication {
            version: PolicyVersion {
                learner_epoch: 2,
                version: 5,
            },
            env_steps: 1234,
            parameters: (0..num_parameters).map(|x| x as f32).collect(),
            normaliser: Some(
                ObservationNormaliser::new(vec![1.0, 2.0], vec![0.5, 0.25], 10.0).unwrap(),
            ),
            acting: BTreeMap::from([("epsilon".to_owned(), 0.1)]),
        }
    }

    #[test]
    fn a_publication_survives_the_wire_in_chunks() {
        for (num_parameters, num_chunks) in
            [(10, 1), (1 << 18, 1), ((1 << 18) + 1, 2), (600_000, 3)]
        {
            let publication = publication(num_parameters);
            let chunks = publication_chunks(&publication);
            assert_eq!(chunks.len(), num_chunks);
            let mut assembler = PublicationAssembler::new(num_parameters);
            let mut complete = Vec::new();
            for _ in 0..2 {
                for chunk in &chunks {
                    complete.extend(assembler.push(chunk.clone()).unwrap());
                }
            }
            assert_eq!(complete, [publication.clone(), publication]);
        }
    }

    #[test]
    fn chunks_out_of_order_or_of_another_size_are_refused() {
        let chunks = publication_chunks(&publication(600_000));
        let mut assembler = PublicationAssembler::new(600_000);
        assert_eq!(
            assembler.push(chunks[1].clone()).unwrap_err().field,
            "header"
        );
        assert_eq!(assembler.push(chunks[0].clone()), Ok(None));
        assert_eq!(
            assembler.push(chunks[2].clone()).unwrap_err().field,
            "chunk"
        );
        let mut assembler = PublicationAssembler::new(599_999);
        assert_eq!(
            assembler.push(chunks[0].clone()).unwrap_err().field,
            "header.total_bytes"
        );
        let mut assembler = PublicationAssembler::new(600_000);
        let mut large = chunks[0].clone();
        large.data = Bytes::from(vec![0; 3_000_000]);
        assert_eq!(assembler.push(large).unwrap_err().field, "data");
    }
}
