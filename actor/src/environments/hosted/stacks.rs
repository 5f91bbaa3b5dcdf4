//! Whether stacks of images are what their space says. Only single frames travel, and stacks are made of them again,
//! so a stack that is anything else would be changed on its way.

use rookery_common::unroll::FrameLayout;
use rookery_common::wrappers::StackPadding;

/// What each instance has shown last.
#[derive(Debug)]
pub(super) struct Stacks {
    layout: FrameLayout,
    /// `[B, stack, size]`.
    shown: Vec<u8>,
}

impl Stacks {
    pub(super) fn new(layout: FrameLayout, num_envs: usize) -> Self {
        let shown = vec![0; num_envs * layout.stack * layout.size];
        Self { layout, shown }
    }

    fn row(&mut self, index: usize) -> &mut [u8] {
        let width = self.layout.stack * self.layout.size;
        &mut self.shown[index * width..][..width]
    }

    /// Takes what instance `index` shows after a step.
    ///
    /// # Errors
    /// Where it does not go on from what was shown before.
    pub(super) fn follow(&mut self, index: usize, row: &[u8]) -> Result<(), String> {
        let FrameLayout { size, stack, .. } = self.layout;
        let before = self.row(index);
        let older = (stack - 1) * size;
        if before[size..] == row[..older] {
            before.copy_from_slice(row);
            return Ok(());
        }
        let differs =
            |frame: &usize| before[(frame + 1) * size..][..size] != row[frame * size..][..size];
        let frame = (0..stack - 1).find(differs).unwrap_or_default();
        Err(format!(
            "environment {index} showed a stack whose frame {frame} is not frame {} of the stack before; each step must drop \
             the oldest of the {stack} frames and append one. {REMEDY}",
            frame + 1
        ))
    }

    /// Takes what instance `index` shows where an episode begins.
    ///
    /// # Errors
    /// Where it is not a first frame behind the padding.
    pub(super) fn begin(&mut self, index: usize, row: &[u8]) -> Result<(), String> {
        let FrameLayout {
            size,
            stack,
            padding,
        } = self.layout;
        let (older, first) = row.split_at((stack - 1) * size);
        let is_padding = |frame: &[u8]| match padding {
            StackPadding::Reset => frame == first,
            StackPadding::Zero => frame.iter().all(|pixel| *pixel == 0),
        };
        if older.chunks_exact(size).all(is_padding) {
            self.row(index).copy_from_slice(row);
            return Ok(());
        }
        let expected = match padding {
            StackPadding::Reset => "its first frame repeated",
            StackPadding::Zero => "zeros before its first frame",
        };
        Err(format!(
            "environment {index} began an episode with another stack than {expected}. {REMEDY}"
        ))
    }

    /// Takes what instance `index` shows in the middle of an episode.
    pub(super) fn take(&mut self, index: usize, row: &[u8]) {
        self.row(index).copy_from_slice(row);
    }
}

/// What to do about stacks that are none.
const REMEDY: &str = "Show single frames, and stack them by {kind = \"frame_stack\", size = ..} in environment.wrappers";

#[cfg(test)]
mod tests {
    use super::*;

    fn stacks(padding: StackPadding) -> Stacks {
        let layout = FrameLayout {
            size: 2,
            stack: 3,
            padding,
        };
        Stacks::new(layout, 2)
    }

    #[test]
    fn t27_a_stack_begins_behind_its_padding_and_moves_by_a_frame() {
        let mut zeros = stacks(StackPadding::Zero);
        zeros.begin(1, &[0, 0, 0, 0, 1, 2]).unwrap();
        zeros.follow(1, &[0, 0, 1, 2, 3, 4]).unwrap();
        zeros.follow(1, &[1, 2, 3, 4, 5, 6]).unwrap();
        // The other instance has seen nothing of this.
        zeros.follow(0, &[0, 0, 0, 0, 9, 9]).unwrap();
        let error = zeros.follow(1, &[3, 4, 5, 5, 7, 8]).unwrap_err();
        assert!(
            error.starts_with(
                "environment 1 showed a stack whose frame 1 is not frame 2 of the stack before"
            ),
            "{error}"
        );
        let error = zeros.begin(0, &[1, 2, 1, 2, 1, 2]).unwrap_err();
        assert!(error.contains("zeros before its first frame"), "{error}");

        let mut repeated = stacks(StackPadding::Reset);
        repeated.begin(0, &[1, 2, 1, 2, 1, 2]).unwrap();
        repeated.follow(0, &[1, 2, 1, 2, 3, 4]).unwrap();
        let error = repeated.begin(0, &[0, 0, 0, 0, 1, 2]).unwrap_err();
        assert!(error.contains("its first frame repeated"), "{error}");
        repeated.take(0, &[7, 7, 8, 8, 9, 9]);
        repeated.follow(0, &[8, 8, 9, 9, 1, 1]).unwrap();
    }
}
