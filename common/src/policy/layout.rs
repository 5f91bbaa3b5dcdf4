//! Where each named tensor lies in one flat vector of parameters.

use std::ops::Range;

/// One tensor of a [`Layout`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSlot {
    name: String,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl TensorSlot {
    /// The tensor's name, unique in its layout.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Extent of each axis; elements lie in row-major order.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Index of its first element in the flat vector.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.range.start
    }

    /// Indices of its elements in the flat vector.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

/// An ordered list of named tensors that lie in one flat vector without gaps.
///
/// The actor's policy and the learner's networks are both built on it: the learner takes
/// [`PolicySpec::layout`](super::PolicySpec::layout) and pushes its critic behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<TensorSlot>,
}

impl Layout {
    /// A layout without tensors.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a tensor and returns the offset of its first element.
    ///
    /// # Panics
    /// If the name is taken.
    pub fn push(&mut self, name: impl Into<String>, shape: &[usize]) -> usize {
        let name = name.into();
        assert!(
            self.find(&name).is_none(),
            "tensor {name} is laid out twice"
        );
        let offset = self.len();
        self.tensors.push(TensorSlot {
            name,
            shape: shape.to_vec(),
            range: offset..offset + shape.iter().product::<usize>(),
        });
        offset
    }

    /// Number of elements in the flat vector.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tensors.last().map_or(0, |tensor| tensor.range.end)
    }

    /// Whether the flat vector has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tensors in the order in which they lie.
    #[must_use]
    pub fn tensors(&self) -> &[TensorSlot] {
        &self.tensors
    }

    /// The tensor with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&TensorSlot> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The tensor that holds this element of the flat vector.
    #[must_use]
    pub fn containing(&self, index: usize) -> Option<&TensorSlot> {
        self.tensors
            .iter()
            .find(|tensor| tensor.range.contains(&index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_lie_one_behind_the_other() {
        let mut layout = Layout::new();
        assert!(layout.is_empty());
        assert_eq!(layout.push("a", &[2, 3]), 0);
        assert_eq!(layout.push("scalar", &[]), 6);
        assert_eq!(layout.push("b", &[4]), 7);
        assert_eq!(layout.len(), 11);
        assert_eq!(layout.find("b").unwrap().range(), 7..11);
        assert_eq!(layout.find("c"), None);
        assert_eq!(layout.containing(6).unwrap().name(), "scalar");
        assert_eq!(layout.containing(11), None);
    }

    #[test]
    #[should_panic(expected = "tensor a is laid out twice")]
    fn a_name_is_taken_once() {
        let mut layout = Layout::new();
        layout.push("a", &[1]);
        layout.push("a", &[1]);
    }
}
