//! One Debian package: a tree of files, and `dpkg-deb`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::source_date;
use crate::process;

/// What `dpkg` is told of a package.
pub(super) struct Control<'a> {
    pub(super) package: &'a str,
    pub(super) version: &'a str,
    pub(super) architecture: &'a str,
    pub(super) maintainer: &'a str,
    pub(super) depends: &'a str,
    /// Empty where there is none.
    pub(super) recommends: &'a str,
    pub(super) section: &'a str,
    pub(super) description: &'a str,
}

/// The files of a package, where they will be.
pub(super) struct Tree {
    folder: PathBuf,
}

impl Tree {
    /// An empty one in a folder, which is emptied.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder.join("DEBIAN"))?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn place(&self, place: &str) -> Result<PathBuf> {
        let to = self.folder.join(place);
        fs::create_dir_all(to.parent().context("a place without a folder")?)?;
        Ok(to)
    }

    fn put(&self, place: &str, from: &Path, mode: u32) -> Result<PathBuf> {
        let to = self.place(place)?;
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))?;
        Ok(to)
    }

    /// A file that everybody reads.
    pub(super) fn file(&self, place: &str, from: &Path) -> Result<()> {
        self.put(place, from, 0o644).map(|_| ())
    }

    /// A program; where it is now.
    pub(super) fn program(&self, place: &str, from: &Path) -> Result<PathBuf> {
        self.put(place, from, 0o755)
    }

    /// A file with this text.
    pub(super) fn text(&self, place: &str, text: &str) -> Result<()> {
        let to = self.place(place)?;
        fs::write(&to, text)?;
        Ok(fs::set_permissions(&to, fs::Permissions::from_mode(0o644))?)
    }

    /// A link to a file beside it.
    pub(super) fn link(&self, place: &str, to: &str) -> Result<()> {
        Ok(symlink(to, self.place(place)?)?)
    }

    /// Files that an upgrade asks about before it changes what the operator changed.
    pub(super) fn conffiles(&self, places: &[&str]) -> Result<()> {
        self.text("DEBIAN/conffiles", &(places.join("\n") + "\n"))
    }

    /// Scripts that `dpkg` runs: `PACKAGE.NAME` in a folder.
    pub(super) fn maintainer(&self, sources: &Path, package: &str, names: &[&str]) -> Result<()> {
        for name in names {
            self.program(&format!("DEBIAN/{name}"), &sources.join(format!("{package}.{name}")))?;
        }
        Ok(())
    }

    pub(super) fn control(&self, control: &Control<'_>) -> Result<()> {
        let recommends = match control.recommends {
            "" => String::new(),
            packages => format!("Recommends: {packages}\n"),
        };
        let kib: u64 =
            self.files()?.iter().filter_map(|file| file.metadata().ok()).map(|m| m.len()).sum::<u64>() >> 10;
        let Control { package, version, architecture, maintainer, depends, section, description, .. } =
            control;
        self.text(
            "DEBIAN/control",
            &format!(
                "Package: {package}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: {maintainer}\n\
                 Installed-Size: {kib}\nDepends: {depends}\n{recommends}Section: {section}\nPriority: optional\n\
                 Description: {description}\n"
            ),
        )
    }

    /// Every file but those that are for `dpkg`.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let (mut folders, mut files) = (vec![self.folder.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                match path.is_dir() && !path.is_symlink() {
                    true if path.ends_with("DEBIAN") => {}
                    true => folders.push(path),
                    false => files.push(path),
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// Makes the package.
    pub(super) fn build(self, folder: &Path, name: &str) -> Result<PathBuf> {
        let plain = self.files()?.into_iter().filter(|file| !file.is_symlink());
        let plain: Vec<PathBuf> =
            plain.filter_map(|f| f.strip_prefix(&self.folder).map(Path::to_owned).ok()).collect();
        let sums = process::output(Command::new("md5sum").current_dir(&self.folder).args(plain))?;
        self.text("DEBIAN/md5sums", &sums)?;
        self.folders_for_everybody()?;
        let package = folder.join(name);
        process::run(
            Command::new("dpkg-deb")
                .env("SOURCE_DATE_EPOCH", source_date())
                .args(["--root-owner-group", "-Zxz", "-z3", "--build"])
                .args([&self.folder, &package]),
        )?;
        Ok(package)
    }

    /// Folders have the modes of a system's, whatever this process makes them with.
    fn folders_for_everybody(&self) -> Result<()> {
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                }
            }
        }
        Ok(())
    }
}
