//! Where a learner listens, in its run directory for as long as it runs: whoever has the folder need
//! not know the address.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use rookery_common::security::Address;

/// The file, which goes when this value goes.
#[derive(Debug)]
pub(crate) struct AddressFile(PathBuf);

impl AddressFile {
    /// Writes down how this host reaches what listens at `address`.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn write(run_directory: &Path, address: &Address) -> io::Result<Self> {
        let path = run_directory.join("learner_address");
        let temporary = run_directory.join(".learner_address");
        fs::write(&temporary, format!("{}\n", from_here(address)))?;
        fs::rename(&temporary, &path)?;
        Ok(Self(path))
    }
}

impl Drop for AddressFile {
    fn drop(&mut self) {
        // One that stays is found to lead nowhere.
        let _ = fs::remove_file(&self.0);
    }
}

/// The address with which a process of this host connects: a listener on all of the host's numbers is
/// found at the loopback's.
fn from_here(address: &Address) -> Address {
    let mut address = address.clone();
    if let Address::Tcp { host, .. } = &mut address {
        match host.parse() {
            Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => *host = Ipv4Addr::LOCALHOST.to_string(),
            Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => *host = Ipv6Addr::LOCALHOST.to_string(),
            _ => {}
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_stands_there_until_the_learner_goes() {
        let folder = tempfile::tempdir().unwrap();
        for (listens, written) in [
            (Address::tcp("0.0.0.0", 5), "127.0.0.1:5\n"),
            (Address::tcp("::", 5), "[::1]:5\n"),
            (Address::tcp("10.1.2.3", 5), "10.1.2.3:5\n"),
            (Address::Unix("/run/a.sock".into()), "unix:///run/a.sock\n"),
        ] {
            let file = AddressFile::write(folder.path(), &listens).unwrap();
            let path = folder.path().join("learner_address");
            assert_eq!(fs::read_to_string(&path).unwrap(), written);
            drop(file);
            assert!(!path.exists());
        }
    }
}
