//! Copies between tensors and the host.

use tch::{Device, Kind, Tensor};

/// Copies a tensor of f32 to the host, in row-major order.
pub(crate) fn to_host(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let mut host = vec![0.0; tensor.numel()];
    tensor.copy_data(&mut host, tensor.numel());
    host
}

/// The values of a contiguous tensor of f32 that lies in this process's memory, in row-major order, to be
/// changed in place; none of any other.
pub(crate) fn host_mut(tensor: &mut Tensor) -> Option<&mut [f32]> {
    let is_here = tensor.device() == Device::Cpu;
    if !is_here || tensor.kind() != Kind::Float || !tensor.is_contiguous() {
        return None;
    }
    let len = tensor.numel();
    if len == 0 {
        return Some(&mut []);
    }
    let start = tensor.data_ptr().cast::<f32>();
    #[expect(
        unsafe_code,
        reason = "libtorch has no safe interface to the memory of a tensor"
    )]
    // SAFETY: a contiguous tensor of f32 on the CPU is `len` aligned and initialised f32 from `data_ptr` on, which live
    // for as long as the tensor is borrowed. Views may share the memory, but only this thread works on it (the compute
    // thread owns every tensor, and libtorch's operators have ended when they return), and nothing that holds the slice
    // calls libtorch.
    Some(unsafe { std::slice::from_raw_parts_mut(start, len) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_on_the_host_are_those_of_the_tensor() {
        let mut tensor = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0]).view([2, 2]);
        host_mut(&mut tensor).unwrap()[2] = 7.0;
        assert_eq!(to_host(&tensor), [1.0, 2.0, 7.0, 4.0]);
        assert_eq!(
            host_mut(&mut Tensor::zeros([0], (Kind::Float, Device::Cpu))),
            Some(&mut [][..])
        );
        // In another order, and of another kind.
        assert!(host_mut(&mut tensor.tr()).is_none());
        assert!(host_mut(&mut tensor.to_kind(Kind::Double)).is_none());
    }
}
