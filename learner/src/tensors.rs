//! Copies between tensors and the host.

use tch::{Device, Tensor};

/// Copies a tensor of f32 to the host, in row-major order.
pub(crate) fn to_host(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let mut host = vec![0.0; tensor.numel()];
    tensor.copy_data(&mut host, tensor.numel());
    host
}
