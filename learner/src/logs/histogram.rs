//! Histograms of what a round held.

/// Most buckets of a histogram.
const MAX_BUCKETS: usize = 64;
/// Most columns of one array that get a histogram each.
const MAX_COLUMNS: usize = 16;

/// How often values lie where.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The least value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// Number of values.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_of_squares: f64,
    /// Where each bucket ends, ascending.
    pub limits: Vec<f64>,
    /// Values in each bucket.
    pub counts: Vec<f64>,
}

impl Histogram {
    /// The histogram of the values that are finite; `None` where none is.
    ///
    /// Whole numbers that lie close together, such as the actions of a discrete space, have a bucket
    /// each. Other values have buckets of one width.
    pub fn of(values: impl Iterator<Item = f32> + Clone) -> Option<Self> {
        let values = values.filter(|value| value.is_finite());
        let mut histogram = Self {
            min: 0.0,
            max: 0.0,
            count: 0.0,
            sum: 0.0,
            sum_of_squares: 0.0,
            limits: Vec::new(),
            counts: Vec::new(),
        };
        let mut are_whole = true;
        let (mut min, mut max) = (f32::INFINITY, f32::NEG_INFINITY);
        for value in values.clone() {
            min = if value < min { value } else { min };
            max = if value > max { value } else { max };
            // Cheaper than `fract`. What does not fit is too far from others to have a bucket each.
            are_whole &= value as i32 as f32 == value;
            let value = f64::from(value);
            histogram.count += 1.0;
            histogram.sum += value;
            histogram.sum_of_squares += value * value;
        }
        (histogram.min, histogram.max) = (f64::from(min), f64::from(max));
        if histogram.count == 0.0 {
            return None;
        }
        let extent = histogram.max - histogram.min;
        let (first, width, num_buckets) = if extent == 0.0 {
            (histogram.min - 0.5, 1.0, 1)
        } else if are_whole && extent < MAX_BUCKETS as f64 {
            (histogram.min - 0.5, 1.0, extent as usize + 1)
        } else {
            (histogram.min, extent / MAX_BUCKETS as f64, MAX_BUCKETS)
        };
        histogram.counts = vec![0.0; num_buckets];
        let per_width = 1.0 / width;
        for value in values {
            // The largest value belongs to the last bucket.
            let bucket = ((f64::from(value) - first) * per_width) as usize;
            histogram.counts[bucket.min(num_buckets - 1)] += 1.0;
        }
        histogram.limits = (1..=num_buckets)
            .map(|bucket| first + width * bucket as f64)
            .collect();
        Some(histogram)
    }
}

/// What an update says about the distributions of its data, where somebody wants to know. Who has such
/// data [notes](Self::note) them; that costs nothing where nobody asks, and never changes them.
#[derive(Debug, Default)]
pub struct Distributions {
    are_wanted: bool,
    histograms: Vec<(String, Histogram)>,
}

impl Distributions {
    /// Forgets what was noted, and says whether more is wanted.
    pub(crate) fn begin(&mut self, are_wanted: bool) {
        self.are_wanted = are_wanted;
        self.histograms.clear();
    }

    /// Whether anything that is noted is used.
    #[must_use]
    pub const fn are_wanted(&self) -> bool {
        self.are_wanted
    }

    /// Notes values under `name`.
    pub fn note(&mut self, name: &str, values: &[f32]) {
        self.note_values(name.to_owned(), values.iter().copied());
    }

    /// Notes each of the first columns of rows of `width` values, under `name` where there is but one.
    pub fn note_columns(&mut self, name: &str, rows: &[f32], width: usize) {
        if width == 1 {
            return self.note(name, rows);
        }
        for column in 0..width.min(MAX_COLUMNS) {
            let values = rows.iter().skip(column).step_by(width).copied();
            self.note_values(format!("{name}/{column}"), values);
        }
    }

    fn note_values(&mut self, name: String, values: impl Iterator<Item = f32> + Clone) {
        if self.are_wanted {
            let histogram = Histogram::of(values);
            self.histograms
                .extend(histogram.map(|histogram| (name, histogram)));
        }
    }

    /// Hands out what was noted.
    pub(super) fn take(&mut self) -> Vec<(String, Histogram)> {
        std::mem::take(&mut self.histograms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f32]) -> Histogram {
        Histogram::of(values.iter().copied()).unwrap()
    }

    #[test]
    fn every_finite_value_is_in_a_bucket() {
        let values: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin()).collect();
        let histogram = of(&values);
        assert_eq!(histogram.counts.len(), MAX_BUCKETS);
        assert_eq!(histogram.counts.iter().sum::<f64>(), 1000.0);
        assert_eq!(histogram.count, 1000.0);
        let ends = [histogram.min, *histogram.limits.last().unwrap()];
        for (end, value) in ends.into_iter().zip([
            values.iter().copied().fold(f32::INFINITY, f32::min),
            values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        ]) {
            assert!((end - f64::from(value)).abs() < 1e-9, "{end} {value}");
        }
        let below: f64 = histogram.counts[..32].iter().sum();
        let middle = histogram.limits[31];
        let expected = values.iter().filter(|x| f64::from(**x) < middle).count();
        assert_eq!(below, expected as f64);
    }

    #[test]
    fn whole_numbers_have_a_bucket_each() {
        let histogram = of(&[1.0, 3.0, 1.0, 4.0]);
        assert_eq!(histogram.limits, [1.5, 2.5, 3.5, 4.5]);
        assert_eq!(histogram.counts, [2.0, 0.0, 1.0, 1.0]);
        assert_eq!(histogram.sum, 9.0);
        assert_eq!(histogram.sum_of_squares, 27.0);
    }

    #[test]
    fn values_that_are_equal_or_not_finite_do_no_harm() {
        assert_eq!(of(&[0.25, 0.25]).counts, [2.0]);
        let histogram = of(&[f32::NAN, 1.0, f32::INFINITY, 2.0]);
        assert_eq!(histogram.counts, [1.0, 1.0]);
        assert_eq!(Histogram::of([f32::NAN].into_iter()), None);
        assert_eq!(Histogram::of(std::iter::empty()), None);
    }

    #[test]
    fn what_nobody_wants_is_not_kept() {
        let mut distributions = Distributions::default();
        distributions.note("a", &[1.0]);
        assert_eq!(distributions.take(), []);
        distributions.begin(true);
        distributions.note_columns("b", &[1.0, 5.0, 2.0, 6.0], 2);
        let noted = distributions.take();
        assert_eq!(noted[0].0, "b/0");
        assert_eq!((noted[1].1.min, noted[1].1.max), (5.0, 6.0));
        distributions.begin(false);
        distributions.note("a", &[1.0]);
        assert_eq!(distributions.take(), []);
    }
}
