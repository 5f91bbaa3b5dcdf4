//! The acting half of a network.
pub mod spec;
pub mod layout;
pub mod math;
pub mod forward;
pub mod artifact;
pub use spec::*;
pub use layout::*;
pub use artifact::*;
use crate::normaliser::ObservationNormaliser;
use crate::seeds::Random;
#[derive(Debug, thiserror::Error)]
pub enum PolicyError { #[error(transparent)] Spec(#[from] SpecError), #[error(transparent)] Shape(#[from] forward::ShapeMismatch) }
pub struct Policy {}
#[derive(Default)]
pub struct Workspace {}
impl Policy {
    pub fn new(_s: PolicySpec, _p: &[f32], _n: Option<ObservationNormaliser>) -> Result<Self, PolicyError> { Ok(Self{}) }
    pub fn act(&self, _w: &mut Workspace, _o: &[f32], _r: impl FnMut(usize) -> Random, _a: &mut [f32], _l: &mut [f32]) {}
    pub fn act_greedily(&self, _w: &mut Workspace, _o: &[f32], _a: &mut [f32]) {}
}
