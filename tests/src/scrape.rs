//! Reading a metrics endpoint as Prometheus does.

use std::collections::BTreeMap;

use crate::http::call;

/// What one endpoint says.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// Kind of each metric: `counter`, `gauge` or `histogram`.
    pub kinds: BTreeMap<String, String>,
    /// Help of each metric.
    pub help: BTreeMap<String, String>,
    /// Value of each series, named as it is written: `name{label="value"}`.
    pub samples: BTreeMap<String, f64>,
}

impl Scrape {
    /// The value of one series.
    ///
    /// # Panics
    /// Where there is none.
    pub fn value(&self, series: &str) -> f64 {
        *self
            .samples
            .get(series)
            .unwrap_or_else(|| panic!("no series `{series}` in {self:#?}"))
    }
}

/// Reads `http://<address>/metrics`.
///
/// # Panics
/// Where it cannot be reached or is not Prometheus' text format.
pub fn scrape(address: &str) -> Scrape {
    let metrics = call(address, "GET", "/metrics", None)
        .unwrap_or_else(|error| panic!("no metrics at {address}: {error}"));
    parse(&metrics)
}

/// Reads Prometheus' text format, version 0.0.4.
fn parse(text: &str) -> Scrape {
    let mut scrape = Scrape::default();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and its help");
            scrape.help.insert(name.to_owned(), help.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and its type");
            let known = ["counter", "gauge", "histogram"];
            assert!(known.contains(&kind), "unknown type in `{line}`");
            let before = scrape.kinds.insert(name.to_owned(), kind.to_owned());
            assert!(before.is_none(), "two types for {name}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            let value = value
                .parse()
                .unwrap_or_else(|_| panic!("no number in `{line}`"));
            let before = scrape.samples.insert(series.to_owned(), value);
            assert!(before.is_none(), "two values for {series}");
            let name = series.split('{').next().unwrap_or_default();
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .filter(|base| scrape.kinds.contains_key(*base))
                .unwrap_or(name);
            assert!(scrape.kinds.contains_key(base), "no type before `{line}`");
        }
    }
    scrape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_kinds_and_help_are_read() {
        let scrape = parse(
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{b=\"c d\"} 3\n\n\
             # TYPE e histogram\ne_bucket{le=\"+Inf\"} 2\ne_sum 0.5\ne_count 2\n",
        );
        assert_eq!(scrape.value("a_total{b=\"c d\"}"), 3.0);
        assert_eq!(scrape.kinds["e"], "histogram");
        assert_eq!(scrape.help["a_total"], "Things.");
    }

    #[test]
    #[should_panic(expected = "no type before")]
    fn a_series_without_a_type_is_refused() {
        parse("lonely 1\n");
    }
}
