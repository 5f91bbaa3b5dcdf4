//! One flat tensor of parameters, or of a gradient, with a view for each tensor of its layout.

use std::cell::OnceCell;

use pulp::Arch;
use rookery_common::policy::layout::Layout;
use tch::{Device, Kind, Tensor};

use super::NetworkError;
use crate::tensors::{host, host_mut, to_host};

/// A flat vector and its named tensors, which are views of it: what is written to one is read from
/// the other. It is no part of any graph; gradients of it are derived by hand.
#[derive(Debug)]
pub struct Flat {
    values: Tensor,
    views: Vec<Tensor>,
    /// The same with the first two axes exchanged, where there are two; made when they are wanted, for few of
    /// such vectors are multiplied with.
    transposed: OnceCell<Vec<Tensor>>,
}

impl Flat {
    /// Zeros in the order of `layout`.
    #[must_use]
    pub fn zeros(layout: &Layout, device: Device) -> Self {
        let values = Tensor::zeros([layout.len() as i64], (Kind::Float, device));
        let views: Vec<Tensor> = layout
            .tensors()
            .iter()
            .map(|slot| {
                let range = slot.range();
                let shape: Vec<i64> = slot.shape().iter().map(|extent| *extent as i64).collect();
                values
                    .narrow(0, range.start as i64, range.len() as i64)
                    .view(shape.as_slice())
            })
            .collect();
        Self {
            values,
            views,
            transposed: OnceCell::new(),
        }
    }

    /// The values of `host` in the order of `layout`.
    ///
    /// # Errors
    /// [`NetworkError::Parameters`] where their number differs.
    pub fn from_host(layout: &Layout, host: &[f32], device: Device) -> Result<Self, NetworkError> {
        let mut flat = Self::zeros(layout, device);
        flat.import(host)?;
        Ok(flat)
    }

    /// Overwrites all values.
    ///
    /// # Errors
    /// [`NetworkError::Parameters`] where their number differs; nothing changes.
    pub fn import(&mut self, host: &[f32]) -> Result<(), NetworkError> {
        let (expected, got) = (self.values.numel(), host.len());
        if expected != got {
            return Err(NetworkError::Parameters { expected, got });
        }
        self.values.copy_(&Tensor::from_slice(host));
        Ok(())
    }

    /// Copies all values to the host.
    #[must_use]
    pub fn export(&self) -> Vec<f32> {
        to_host(&self.values)
    }

    /// Copies the first `len` values to the host.
    #[must_use]
    pub fn export_prefix(&self, len: usize) -> Vec<f32> {
        to_host(&self.values.narrow(0, 0, len as i64))
    }

    /// The flat vector.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// The flat vector, to be changed in place.
    pub fn values_mut(&mut self) -> &mut Tensor {
        &mut self.values
    }

    /// The tensor of the layout with this index.
    pub fn view(&self, index: usize) -> &Tensor {
        &self.views[index]
    }

    /// The transposed matrix with this index: a view that is made once, since making one costs as much as
    /// the arithmetic of a small product.
    ///
    /// # Panics
    /// Where there is no matrix at this index.
    pub fn transposed(&self, index: usize) -> &Tensor {
        let transposed = self.transposed.get_or_init(|| {
            let views = self.views.iter().map(|view| match view.dim() {
                2 => view.tr(),
                _ => view.shallow_clone(),
            });
            views.collect()
        });
        let view = &transposed[index];
        assert_eq!(view.dim(), 2, "a matrix is transposed");
        view
    }

    /// Moves every value towards that of `source` by the share `tau`: 1 copies (Lillicrap and
    /// others 2016, "Continuous control with deep reinforcement learning", algorithm 1).
    pub fn follow(&mut self, source: &Self, tau: f64) {
        if tau >= 1.0 {
            self.values.copy_(&source.values);
            return;
        }
        let Some((values, source)) = host_mut(&mut self.values).zip(host(&source.values)) else {
            let _ = self.values.lerp_(&source.values, tau);
            return;
        };
        // In this thread: to wake libtorch's costs as much as this.
        let tau = tau as f32;
        Arch::new().dispatch(|| {
            for (value, source) in values.iter_mut().zip(source) {
                *value += tau * (source - *value);
            }
        });
    }

    /// Where the values live.
    #[must_use]
    pub fn device(&self) -> Device {
        self.values.device()
    }
}
