//! Where MuJoCo's library is found.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use thiserror::Error;

use super::library::Library;

/// The environment variable that names the library's file; nothing else is then looked at.
pub const LIBRARY_VARIABLE: &str = "MUJOCO_LIBRARY";

/// The versions that the tests were passed with, by the number that `mj_version` gives. The first
/// is the one to install.
pub(super) const VERSIONS: [(i32, &str); 2] = [(4_000_000, "4.0.0"), (3_017_000, "3.17.0")];

/// Why there is no MuJoCo.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LibraryError {
    /// No file was found.
    #[error(
        "MuJoCo's library was not found; looked for {}. Install it with `pip install mujoco=={}` in \
         a virtual environment that is active or is called `.venv` here or in a folder above, or set \
         {LIBRARY_VARIABLE} to the file",
        .looked_for.join(", "),
        VERSIONS[0].1
    )]
    Missing {
        /// The places, as text.
        looked_for: Vec<String>,
    },
    /// A file cannot be loaded, or is something else.
    #[error(
        "`{path}` cannot be used as MuJoCo's library: {reason}. Install it again with `pip install \
         --force-reinstall mujoco=={}`, or set {LIBRARY_VARIABLE} to another file",
        VERSIONS[0].1
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A version that nothing was tested with.
    #[error(
        "`{path}` is MuJoCo {}; expected {}. Install one with `pip install mujoco=={}`, or set \
         {LIBRARY_VARIABLE} to its file",
        version_text(*.got),
        VERSIONS.map(|(_, name)| name).join(" or "),
        VERSIONS[0].1
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What its `mj_version` gives.
        got: i32,
    },
}

/// The library, which is looked for until it is found once.
static LOADED: Mutex<Option<&'static Library>> = Mutex::new(None);

/// The MuJoCo of this process.
///
/// # Errors
/// Where it is not there or cannot be used.
pub(super) fn library() -> Result<&'static Library, LibraryError> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = *loaded {
        return Ok(library);
    }
    let path = find(
        env::var_os(LIBRARY_VARIABLE).as_deref(),
        env::var_os("VIRTUAL_ENV").as_deref().map(Path::new),
        &env::current_dir().unwrap_or_default(),
    )?;
    let library = Library::open(&path)?;
    tracing::info!(path = %path.display(), version = library.version(), "loaded MuJoCo");
    *loaded = Some(library);
    Ok(library)
}

/// Says whether MuJoCo can be used in this process, and its version.
///
/// # Errors
/// What stands in the way, with the remedy.
pub fn version() -> Result<&'static str, LibraryError> {
    library().map(Library::version)
}

/// The first file there is: the one named, that of the active virtual environment, that of a
/// `.venv` in this folder or one above it, or the system's.
fn find(
    named: Option<&OsStr>,
    active: Option<&Path>,
    folder: &Path,
) -> Result<PathBuf, LibraryError> {
    if let Some(named) = named {
        return Ok(named.into());
    }
    let mut looked_for = vec![format!("the file that {LIBRARY_VARIABLE} names")];
    let beside = folder.ancestors().map(|folder| folder.join(".venv"));
    for environment in active.map(Path::to_owned).into_iter().chain(beside) {
        looked_for.push(
            environment
                .join("lib/python*/site-packages/mujoco/libmujoco.so.*")
                .display()
                .to_string(),
        );
        if let Some(path) = wheel(&environment) {
            return Ok(path);
        }
    }
    for folder in ["/usr/local/lib", "/usr/lib", "/opt/mujoco/lib"] {
        for (_, version) in VERSIONS {
            let path = Path::new(folder).join(format!("libmujoco.so.{version}"));
            if path.exists() {
                return Ok(path);
            }
        }
        looked_for.push(format!("{folder}/libmujoco.so.*"));
    }
    Err(LibraryError::Missing { looked_for })
}

/// The library of the wheel that is installed in a virtual environment.
fn wheel(environment: &Path) -> Option<PathBuf> {
    let interpreters = fs::read_dir(environment.join("lib")).ok()?;
    let mut files: Vec<_> = interpreters
        .flatten()
        .filter_map(|interpreter| {
            fs::read_dir(interpreter.path().join("site-packages/mujoco")).ok()
        })
        .flat_map(Iterator::flatten)
        .map(|file| file.path())
        .filter(|path| {
            let name = path.file_name().map(OsStr::to_string_lossy);
            name.is_some_and(|name| name.starts_with("libmujoco.so"))
        })
        .collect();
    files.sort();
    files.pop()
}

/// What `mj_version` means: 3,017,000 is 3.17.0, and before that 337 was 3.3.7.
fn version_text(number: i32) -> String {
    let (major, minor, patch) = if number >= 1_000_000 {
        (number / 1_000_000, number / 1000 % 1000, number % 1000)
    } else {
        (number / 100, number / 10 % 10, number % 10)
    };
    format!("{major}.{minor}.{patch}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of its own, which is gone afterwards.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("rookery-mujoco-{name}-{}", std::process::id());
            let path = env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// Puts an empty file there.
        fn with(self, file: &str) -> Self {
            let path = self.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
            self
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const WHEEL: &str = "lib/python3.12/site-packages/mujoco/libmujoco.so.4.0.0";

    #[test]
    fn the_file_that_is_named_is_taken_before_all_others() {
        let active = Folder::new("named").with(WHEEL);
        let named = OsStr::new("/some/libmujoco.so");
        let found = find(Some(named), Some(&active.0), &active.0).unwrap();
        assert_eq!(found, Path::new(named));
    }

    #[test]
    fn the_active_environment_goes_before_one_beside() {
        let active = Folder::new("active").with(WHEEL);
        let beside = Folder::new("beside").with(&format!(".venv/{WHEEL}"));
        let found = find(None, Some(&active.0), &beside.0).unwrap();
        assert_eq!(found, active.0.join(WHEEL));
        let found = find(None, None, &beside.0.join("some/folder/below")).unwrap();
        assert_eq!(found, beside.0.join(".venv").join(WHEEL));
    }

    #[test]
    fn where_there_is_none_the_error_says_where_it_was_looked_for_and_what_to_do() {
        let folder = Folder::new("none").with("lib/python3.12/site-packages/mujoco/__init__.py");
        let error = find(None, Some(&folder.0), Path::new("/nowhere")).unwrap_err();
        let message = error.to_string();
        for part in [
            "/nowhere/.venv/lib/python*/site-packages/mujoco/libmujoco.so.*",
            folder.0.to_str().unwrap(),
            "the file that MUJOCO_LIBRARY names",
            "`pip install mujoco==4.0.0`",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn what_is_no_library_is_refused() {
        let folder = Folder::new("empty").with("libmujoco.so.4.0.0");
        let path = folder.0.join("libmujoco.so.4.0.0");
        let message = Library::open(&path).unwrap_err().to_string();
        assert!(
            message.contains("cannot be used as MuJoCo's library"),
            "{message}"
        );
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }

    #[test]
    fn versions_are_told_as_people_know_them() {
        let error = |got| LibraryError::Version {
            path: "libmujoco.so".into(),
            got,
        };
        let message = error(337).to_string();
        assert!(
            message.starts_with("`libmujoco.so` is MuJoCo 3.3.7; expected 4.0.0 or 3.17.0. "),
            "{message}"
        );
        assert!(error(5_001_002).to_string().contains("MuJoCo 5.1.2"));
    }
}
