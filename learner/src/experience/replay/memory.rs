//! How much memory there is, so that a store that cannot fit is refused before the run and not
//! killed in the middle of it.

use std::fs;

/// Bytes of memory that this process can have: the machine's, or less where a container (cgroup v2)
/// limits it. `None` where the system does not tell.
#[must_use]
pub fn machine_memory() -> Option<u64> {
    let read = |path| fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| total_of(&text));
    let container = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    [machine, container].into_iter().flatten().min()
}

/// The bytes behind `MemTotal` in Linux's `/proc/meminfo`.
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_in_bytes() {
        let text = "MemTotal:       24635280 kB\nMemFree:        22114520 kB\n";
        assert_eq!(total_of(text), Some(24_635_280 * 1024));
        assert_eq!(total_of("MemFree: 1 kB"), None);
        assert_eq!(total_of("MemTotal: much"), None);
    }
}
