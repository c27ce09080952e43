//! Finds and loads the ONNX Runtime library, once per process. The one place of this crate that reads the
//! environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::session::Unavailable;

/// Names the library where neither an option nor a profile does.
pub const LIBRARY_VARIABLE: &str = "LOCUS_ONNXRUNTIME";
/// Where `cargo xtask` puts libraries, below the project's folder: `<version>/libonnxruntime.so.<version>`.
const PROJECT_FOLDER: &str = ".locus/onnxruntime";

/// The library of this process. ONNX Runtime allows one environment, and a library cannot be exchanged.
static LOADED: Mutex<Option<Library>> = Mutex::new(None);

/// A loaded library.
#[derive(Clone)]
pub(crate) struct Library {
    path: PathBuf,
    pub(crate) environment: Environment,
    /// For example `onnxruntime 1.24.4`.
    pub(crate) version: String,
    /// What the library says of its own build: its commit, which its file's name may hide.
    pub(crate) build: &'static str,
}

/// Where the library is: the option, else the variable, else the newest one in the project's folder.
///
/// # Errors
/// [`Unavailable`] when none of the three names a file.
pub fn library_path(option: Option<&Path>) -> Result<PathBuf, Unavailable> {
    let stated = option.map(Path::to_owned).or_else(|| std::env::var_os(LIBRARY_VARIABLE).map(PathBuf::from));
    if let Some(path) = stated {
        return if path.is_file() {
            Ok(path)
        } else {
            let path = path.display();
            Err(Unavailable::new(format!("the ONNX Runtime library {path} is not there; correct the path")))
        };
    }
    let here = std::env::current_dir().unwrap_or_default();
    here.ancestors().find_map(newest_below).ok_or_else(|| {
        Unavailable::new(format!(
            "no ONNX Runtime library: {LIBRARY_VARIABLE} is not set and there is none in {PROJECT_FOLDER} that only \
             this user and root can change; put libonnxruntime.so 1.22 or newer there"
        ))
    })
}

/// The first library of a profile's list that is there and that only this user and root can change; `None` where the
/// variable names one: it counts more.
pub(crate) fn of_profile(candidates: &[PathBuf]) -> Option<PathBuf> {
    let named = std::env::var_os(LIBRARY_VARIABLE).is_some();
    candidates.iter().find(|path| !named && path.is_file() && ours(path)).cloned()
}

/// Libraries that the GPU providers need, by the beginnings of their names, each after those that it needs itself.
const GPU_LIBRARIES: [&str; 10] = [
    "libcudart.so.",
    "libnvrtc.so.",
    "libcublasLt.so.",
    "libcublas.so.",
    "libcurand.so.",
    "libcufft.so.",
    "libcudnn.so.",
    "libnvinfer.so.",
    "libnvinfer_plugin.so.",
    "libnvonnxparser.so.",
];

/// The files of `folders` that the GPU providers need, in the order to load them. A provider looks for them by name
/// only; one that is loaded is found wherever it came from.
fn gpu_libraries(folders: &[PathBuf]) -> Vec<PathBuf> {
    let safe: Vec<&PathBuf> = folders.iter().filter(|folder| ours(folder)).collect();
    let files = |folder: &PathBuf| -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = match fs::read_dir(folder) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(_) => Vec::new(),
        };
        files.sort();
        files
    };
    let all: Vec<Vec<PathBuf>> = safe.into_iter().map(files).collect();
    let first_of = |beginning: &&str| {
        let is_it = |path: &&PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // `libcudart.so.12`, the name that others ask for, sorts before `libcudart.so.12.6.68`.
            name.starts_with(*beginning) && path.is_file() && ours(path)
        };
        all.iter().flatten().find(is_it).cloned()
    };
    GPU_LIBRARIES.iter().filter_map(first_of).collect()
}

/// Loads what the GPU providers need from a profile's folders. What cannot be loaded is left to the system: the
/// provider says what it misses when it starts.
pub(super) fn preload(folders: &[PathBuf]) {
    for path in gpu_libraries(folders) {
        if let Err(error) = ort::util::preload_dylib(&path) {
            tracing::warn!(path = %path.display(), %error, "a library of the profile's folders cannot be loaded");
        }
    }
}

/// The library of the highest version in a project's folder. Loading a library runs its code, and the folders above
/// the working folder may be anybody's: every folder on the way, and the file, must be this user's or root's.
fn newest_below(project: &Path) -> Option<PathBuf> {
    let folder = project.join(PROJECT_FOLDER);
    if !(ours(folder.parent()?) && ours(&folder)) {
        return None;
    }
    let versions = fs::read_dir(&folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let library_of = |folder: PathBuf| {
        let mut files = fs::read_dir(&folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        let library = files.find(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("libonnxruntime.so") && path.is_file() && ours(path)
        })?;
        let name = folder.file_name()?.to_str()?;
        let version: Vec<u64> = name.split('.').map(|part| part.parse().unwrap_or(0)).collect();
        Some((version, library))
    };
    versions.filter(|folder| ours(folder)).filter_map(library_of).max().map(|(_, path)| path)
}

/// Whether only this user and root can change what `path` leads to: its own entry, which may be a link that somebody
/// else made, and what that points at.
#[cfg(unix)]
fn ours(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    const OTHERS_WRITE: u32 = 0o002;
    let Ok(me) = fs::metadata("/proc/self").map(|process| process.uid()) else { return false };
    let safe = |found: fs::Metadata| {
        (found.uid() == 0 || found.uid() == me) && (found.is_symlink() || found.mode() & OTHERS_WRITE == 0)
    };
    fs::symlink_metadata(path).is_ok_and(safe) && fs::metadata(path).is_ok_and(safe)
}

#[cfg(not(unix))]
fn ours(_path: &Path) -> bool {
    true
}

/// Loads the library, or hands out the one that is loaded.
///
/// # Errors
/// [`Unavailable`] when there is none, it is none or too old, or another one is loaded already.
pub(crate) fn load(option: Option<&Path>) -> Result<Library, Unavailable> {
    let path = library_path(option)?;
    let path = path.canonicalize().unwrap_or(path);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = loaded.as_ref() {
        if library.path == path {
            return Ok(library.clone());
        }
        let (got, have) = (path.display(), library.path.display());
        return Err(Unavailable::new(format!(
            "this process has loaded {have} and cannot load {got} as well; restart with one library"
        )));
    }
    let failed = |detail: String| {
        let path = path.display();
        Unavailable::new(format!(
            "{path} cannot be used as ONNX Runtime ({detail}); give a library of 1.22 or newer"
        ))
    };
    let builder = ort::init_from(&path).map_err(|error| failed(error.to_string()))?;
    let environment = builder.with_name("locus").with_telemetry(false).build();
    let environment = environment.map_err(|error| failed(error.to_string()))?;
    environment.set_log_level(LogLevel::Warning);
    let library = Library { version: version_of(&path), build: ort::info(), path: path.clone(), environment };
    tracing::info!(path = %path.display(), version = %library.version, "ONNX Runtime loaded");
    *loaded = Some(library.clone());
    Ok(library)
}

/// The version in the file's name (`libonnxruntime.so.1.24.4`), the only place where every build writes it.
fn version_of(path: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name.split_once(".so.").map(|(_, version)| version) {
        Some(version) if version.contains('.') => format!("onnxruntime {version}"),
        _ => "onnxruntime".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A project with libraries of these versions.
    fn project(versions: &[&str]) -> tempfile::TempDir {
        let project = tempfile::tempdir().unwrap();
        for version in versions {
            let folder = project.path().join(PROJECT_FOLDER).join(version);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("libonnxruntime.so.{version}")), b"x").unwrap();
            fs::write(folder.join("libonnxruntime_providers_shared.so"), b"x").unwrap();
        }
        project
    }

    #[test]
    fn the_newest_version_counts_numerically() {
        let project = project(&["1.9.0", "1.24.4", "1.22.1"]);
        fs::create_dir_all(project.path().join(PROJECT_FOLDER).join("9.9.9")).unwrap();
        let newest = newest_below(project.path()).unwrap();
        assert!(newest.ends_with("1.24.4/libonnxruntime.so.1.24.4"), "{newest:?}");
        assert_eq!(version_of(&newest), "onnxruntime 1.24.4");
        assert_eq!(version_of(Path::new("/usr/lib/libonnxruntime.so")), "onnxruntime");
        assert!(newest_below(&project.path().join("absent")).is_none());
    }

    #[cfg(unix)]
    #[test]
    fn a_library_that_another_user_can_change_is_passed_over() {
        use std::os::unix::fs::{PermissionsExt, chown, symlink};
        let file = format!("{PROJECT_FOLDER}/1.24.4/libonnxruntime.so.1.24.4");
        let on_the_way = [".locus", PROJECT_FOLDER, &format!("{PROJECT_FOLDER}/1.24.4"), &file];
        for place in on_the_way {
            let project = project(&["1.24.4"]);
            assert!(newest_below(project.path()).is_some());
            let place = project.path().join(place);
            fs::set_permissions(&place, fs::Permissions::from_mode(0o757)).unwrap();
            assert!(newest_below(project.path()).is_none(), "{}", place.display());
            fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
            // Only root can give a file away.
            if chown(&place, Some(65_534), None).is_ok() {
                assert!(newest_below(project.path()).is_none(), "{}", place.display());
            }
        }
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("library");
        fs::write(&target, b"x").unwrap();
        let project = project(&["1.24.4"]);
        let link = project.path().join(&file);
        fs::remove_file(&link).unwrap();
        symlink(&target, &link).unwrap();
        assert!(newest_below(project.path()).is_some());
        fs::set_permissions(&target, fs::Permissions::from_mode(0o646)).unwrap();
        assert!(newest_below(project.path()).is_none(), "behind a link of our own");
    }

    #[test]
    fn a_profile_s_first_library_that_is_there_is_taken() {
        let project = project(&["1.24.4"]);
        let there = project.path().join(PROJECT_FOLDER).join("1.24.4/libonnxruntime.so.1.24.4");
        let found =
            of_profile(&["/nonexistent/libonnxruntime.so".into(), there.clone(), "/etc/passwd".into()]);
        let named = std::env::var_os(LIBRARY_VARIABLE).is_some();
        assert_eq!(found, (!named).then_some(there));
        assert_eq!(of_profile(&[]), None);
    }

    #[test]
    fn gpu_libraries_are_found_in_the_order_that_they_need_each_other() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in
            ["libcublas.so.12", "libcudart.so.12.6.68", "libcudart.so.12", "libcublasLt.so.12", "libm.so.6"]
        {
            fs::write(one.path().join(name), b"x").unwrap();
        }
        for name in ["libnvinfer.so.10", "libcudart.so.11"] {
            fs::write(other.path().join(name), b"x").unwrap();
        }
        let folders = [one.path().to_owned(), other.path().to_owned(), "/nonexistent".into()];
        let expected = [
            one.path().join("libcudart.so.12"),
            one.path().join("libcublasLt.so.12"),
            one.path().join("libcublas.so.12"),
            other.path().join("libnvinfer.so.10"),
        ];
        assert_eq!(gpu_libraries(&folders), expected);
        preload(&folders);
    }

    #[test]
    fn a_stated_path_that_is_not_there_is_said_and_nothing_else_is_tried() {
        let error = library_path(Some(Path::new("/nonexistent/libonnxruntime.so"))).unwrap_err();
        assert!(error.reason.contains("/nonexistent/libonnxruntime.so"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_library_is_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so.1.99.0");
        fs::write(&path, b"not a shared object").unwrap();
        assert!(load(Some(&path)).is_err());
    }
}
