//! Copies between tensors and the host.

use tch::{Device, Kind, Tensor};

/// Copies a tensor of f32 to the host, in row-major order.
pub(crate) fn to_host(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let mut host = vec![0.0; tensor.numel()];
    tensor.copy_data(&mut host, tensor.numel());
    host
}

/// The values of a contiguous tensor of f32 that lies in this process's memory, in row-major order; none of
/// any other.
pub(crate) fn host(tensor: &Tensor) -> Option<&[f32]> {
    let (start, len) = memory(tensor)?;
    #[expect(
        unsafe_code,
        reason = "libtorch has no safe interface to the memory of a tensor"
    )]
    // SAFETY: as in `host_mut`, and nothing writes to it.
    Some(unsafe { std::slice::from_raw_parts(start, len) })
}

/// As [`host`], to be changed in place.
pub(crate) fn host_mut(tensor: &mut Tensor) -> Option<&mut [f32]> {
    let (start, len) = memory(tensor)?;
    #[expect(
        unsafe_code,
        reason = "libtorch has no safe interface to the memory of a tensor"
    )]
    // SAFETY: a contiguous tensor of f32 on the CPU is `len` aligned and initialised f32 from `start` on, which live
    // for as long as the tensor is borrowed. Views may share the memory, but only the thread that owns the tensors and
    // those that it waits for work on it (libtorch's operators have ended when they return), nothing that holds the
    // slice calls libtorch, and whoever holds several slices took them of memory that does not overlap.
    Some(unsafe { std::slice::from_raw_parts_mut(start, len) })
}

/// Where a contiguous tensor of f32 in this process's memory lies, and how many values it has.
fn memory(tensor: &Tensor) -> Option<(*mut f32, usize)> {
    let is_here = tensor.device() == Device::Cpu;
    if !is_here || tensor.kind() != Kind::Float || !tensor.is_contiguous() {
        return None;
    }
    let start = match tensor.numel() {
        // It may have no memory at all.
        0 => std::ptr::NonNull::dangling().as_ptr(),
        _ => tensor.data_ptr().cast::<f32>(),
    };
    Some((start, tensor.numel()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_on_the_host_are_those_of_the_tensor() {
        let mut tensor = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0]).view([2, 2]);
        host_mut(&mut tensor).unwrap()[2] = 7.0;
        assert_eq!(to_host(&tensor), [1.0, 2.0, 7.0, 4.0]);
        assert_eq!(host(&tensor), Some(&[1.0, 2.0, 7.0, 4.0][..]));
        assert_eq!(
            host_mut(&mut Tensor::zeros([0], (Kind::Float, Device::Cpu))),
            Some(&mut [][..])
        );
        // In another order, and of another kind.
        assert!(host_mut(&mut tensor.tr()).is_none());
        assert!(host_mut(&mut tensor.to_kind(Kind::Double)).is_none());
    }
}
