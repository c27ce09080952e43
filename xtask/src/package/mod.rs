//! `cargo xtask package`: Debian packages of the box, with what went into them.

mod deb;
mod licences;
mod measure;
mod sbom;
mod tools;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{cross, onnxruntime, process};
use deb::{Control, Tree};

/// Where packages are left.
const FOLDER: &str = "target/package";
/// What the packages are made of, beside programs.
const SOURCES: &str = "edge/packaging/debian";
const MAINTAINER: &str = "Locus <locus@localhost>";

/// What a package is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Architecture {
    /// Servers and mini PCs.
    Amd64,
    /// Jetsons and single-board computers.
    Arm64,
}

impl Architecture {
    const fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Name of the target for rustc.
    pub(crate) const fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => cross::TRIPLE,
        }
    }

    /// The device profile of a new box.
    const fn profile(self) -> &'static str {
        match self {
            Self::Amd64 => "cpu-x86",
            Self::Arm64 => "cpu-arm",
        }
    }

    fn wheel(self) -> &'static onnxruntime::Wheel {
        match self {
            Self::Arm64 if !self.is_native() => &onnxruntime::ARM64,
            _ => &onnxruntime::CPU,
        }
    }

    /// Whether this machine is one.
    fn is_native(self) -> bool {
        self.triple().starts_with(std::env::consts::ARCH)
    }

    /// Where cargo leaves programs for it.
    fn programs(self) -> PathBuf {
        if self.is_native() { process::root().join("target/debug") } else { cross::built() }
    }
}

/// What to make.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// For which machines [default: this one, and arm64 where `cargo xtask cross` was run]
    #[arg(long)]
    architecture: Option<Architecture>,
    /// Leave out the list of crates within the programs: nothing is compiled a second time for it
    #[arg(long)]
    plain: bool,
    /// Also writes bench/results/package.json: scores of the units and sizes
    #[arg(long)]
    measure: bool,
}

/// Makes the packages, and says where they are.
pub(crate) fn run(options: Options) -> Result<()> {
    let all = [Architecture::Amd64, Architecture::Arm64];
    let wanted: Vec<Architecture> = match options.architecture {
        Some(one) => vec![one],
        None => all.into_iter().filter(|a| a.is_native() || a.programs().join("locusd").exists()).collect(),
    };
    ensure!(
        process::exists("dpkg-deb", "--version"),
        "got no dpkg-deb, expected the package dpkg of Debian or Ubuntu: packages are made there"
    );
    let folder = process::root().join(FOLDER);
    fs::create_dir_all(&folder)?;
    let mut made = Vec::new();
    for architecture in wanted {
        made.extend(make(architecture, &folder, options.plain)?);
    }
    let names: Vec<&str> = made.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    let sums = process::output(Command::new("sha256sum").current_dir(&folder).args(&names))?;
    fs::write(folder.join("SHA256SUMS"), &sums)?;
    print!("{sums}");
    println!("in {FOLDER}");
    if options.measure {
        measure::run(&made)?;
    }
    Ok(())
}

/// The packages of one architecture.
fn make(architecture: Architecture, folder: &Path, plain: bool) -> Result<Vec<PathBuf>> {
    let auditable = match plain {
        true => Err(anyhow!("--plain was asked for")),
        false => tools::AUDITABLE.get(),
    };
    if let Err(error) = &auditable {
        println!("skipped: the programs do not list what they were built of: {error:#}");
    }
    let mut cargo = match &auditable {
        Ok(tool) => {
            let mut cargo = Command::new(tool);
            cargo.current_dir(process::root()).arg("auditable");
            cargo
        }
        Err(_) => process::cargo(),
    };
    cargo.args(["build", "--quiet"]);
    if architecture.is_native() {
        // Features as the tests have them: dependencies are not compiled a second time.
        cargo.args(["--workspace", "--bin", "locusd", "--bin", "locusctl"]);
    } else {
        cross::prepare()?;
        cross::targeting(cargo.args(["--package", "locus-edge", "--bins"]));
    }
    println!("building locusd and locusctl for {}", architecture.debian());
    process::run(&mut cargo)?;
    let mut made = vec![locus(architecture, folder)?];
    match architecture.wheel().get() {
        Ok(library) => made.push(library_package(architecture, &library, folder)?),
        Err(error) => println!("skipped: locus-onnxruntime for {}: {error:#}", architecture.debian()),
    }
    Ok(made)
}

/// The package `locus`.
fn locus(architecture: Architecture, folder: &Path) -> Result<PathBuf> {
    let tree = Tree::new(&folder.join(format!("locus-{}", architecture.debian())))?;
    let sources = process::root().join(SOURCES);
    let programs = architecture.programs();
    let mut glibc = (0, 0);
    for program in ["locusd", "locusctl"] {
        let to = tree.program(&format!("usr/bin/{program}"), &programs.join(program))?;
        let strip = if architecture.is_native() { "strip" } else { cross::STRIP };
        process::run(Command::new(strip).arg(&to))?;
        glibc = glibc.max(newest_glibc(&fs::read(&to)?));
    }
    tree.program("usr/sbin/locus-first-start", &sources.join("locus-first-start"))?;
    tree.file("usr/lib/systemd/system/locusd.service", &sources.join("locusd.service"))?;
    tree.file("usr/lib/udev/rules.d/70-locus.rules", &sources.join("70-locus.rules"))?;
    tree.file("usr/lib/modules-load.d/locus.conf", &sources.join("locus.modules"))?;
    tree.file("usr/share/locus/gpu.conf", &sources.join("gpu.conf"))?;
    tree.text("etc/locus/locusd.toml", &configuration(architecture.profile())?)?;
    documents(&tree, architecture)?;
    words_of_locusctl(&tree)?;
    let description = "answers what a DNA language model makes of a variant\n \
        A box that stands in a hospital and answers over HTTPS, MQTT, serial lines, HL7 v2 and LIS, without the cloud.\n \
        Results are in an encrypted, tamper-evident journal before anybody is answered.\n .\n \
        Research use and decision support only: an answer is a computational prediction, not a diagnosis.";
    tree.control(&Control {
        package: "locus",
        version: VERSION,
        architecture: architecture.debian(),
        maintainer: MAINTAINER,
        depends: &format!("libc6 (>= {}.{}), libgcc-s1, adduser, util-linux", glibc.0, glibc.1),
        recommends: "locus-onnxruntime",
        section: "science",
        description,
    })?;
    tree.maintainer(&sources, "locus", &["postinst", "prerm", "postrm"])?;
    tree.conffiles(&["/etc/locus/locusd.toml"])?;
    tree.build(folder, &format!("locus_{VERSION}_{}.deb", architecture.debian()))
}

/// Every crate of the workspace has it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The package with ONNX Runtime, as its wheel has it.
fn library_package(architecture: Architecture, library: &Path, folder: &Path) -> Result<PathBuf> {
    let tree = Tree::new(&folder.join(format!("locus-onnxruntime-{}", architecture.debian())))?;
    let name = library.file_name().and_then(|name| name.to_str()).context("a library without a name")?;
    tree.file(&format!("usr/lib/locus/{name}"), library)?;
    tree.link("usr/lib/locus/libonnxruntime.so", name)?;
    for notice in architecture.wheel().notices()? {
        let name = notice.file_name().and_then(|name| name.to_str()).context("a notice without a name")?;
        let name = if name == "LICENSE" { "copyright" } else { name };
        tree.file(&format!("usr/share/doc/locus-onnxruntime/{name}"), &notice)?;
    }
    let glibc = newest_glibc(&fs::read(library)?);
    let version = architecture.wheel().version();
    tree.control(&Control {
        package: "locus-onnxruntime",
        version,
        architecture: architecture.debian(),
        maintainer: MAINTAINER,
        depends: &format!("libc6 (>= {}.{}), libgcc-s1, libstdc++6", glibc.0, glibc.1),
        recommends: "",
        section: "libs",
        description: "ONNX Runtime for Locus, on the CPU\n \
            The library of the Python wheel onnxruntime, unchanged. With it a box serves models in INT8; without it locusd\n \
            runs them on tract in FP32.",
    })?;
    tree.maintainer(&process::root().join(SOURCES), "locus-onnxruntime", &["postinst"])?;
    tree.build(folder, &format!("locus-onnxruntime_{version}_{}.deb", architecture.debian()))
}

/// The configuration of a new box.
fn configuration(profile: &str) -> Result<String> {
    let text = fs::read_to_string(process::root().join(SOURCES).join("locusd.toml"))?;
    ensure!(text.contains("@PROFILE@"), "got no @PROFILE@ in locusd.toml, expected the place of the profile");
    Ok(text.replace("@PROFILE@", profile))
}

fn documents(tree: &Tree, architecture: Architecture) -> Result<()> {
    let root = process::root();
    for document in
        ["docs/operating.md", "docs/jetson.md", "docs/threat-model.md", "CHANGELOG.md", "LICENSE-APACHE"]
    {
        let name = Path::new(document).file_name().unwrap_or_default().to_string_lossy();
        tree.file(&format!("usr/share/doc/locus/{name}"), &root.join(document))?;
    }
    let own = fs::read_to_string(root.join("LICENSE-MIT"))?;
    let ours = "Locus is licensed under MIT OR Apache-2.0. LICENSE-APACHE beside this file has the latter, licences.txt what the\n\
        crates in the programs are under.\n\n";
    tree.text("usr/share/doc/locus/copyright", &format!("{ours}{own}"))?;
    let (text, crates) = licences::of_box(architecture.triple())?;
    println!("licences of {crates} crates");
    tree.text("usr/share/doc/locus/licences.txt", &text)?;
    match sbom::of_box(architecture.triple()) {
        Ok(text) => tree.text("usr/share/doc/locus/locus.cdx.json", &text),
        Err(error) => {
            println!("skipped: no SBOM in the package: {error:#}");
            Ok(())
        }
    }
}

/// Completions and man pages, as `locusctl` writes them.
fn words_of_locusctl(tree: &Tree) -> Result<()> {
    let program = process::root().join("target/debug/locusctl");
    let places = [
        ("bash", "usr/share/bash-completion/completions/locusctl"),
        ("zsh", "usr/share/zsh/vendor-completions/_locusctl"),
        ("fish", "usr/share/fish/vendor_completions.d/locusctl.fish"),
    ];
    for (shell, place) in places {
        tree.text(place, &process::output(Command::new(&program).args(["completions", shell]))?)?;
    }
    let pages = tempfile_beside("man")?;
    process::output(Command::new(&program).arg("manual").arg("--out").arg(&pages))?;
    for page in fs::read_dir(&pages)? {
        let page = page?.path();
        let name = page.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tree.file(&format!("usr/share/man/man1/{name}"), &page)?;
    }
    Ok(())
}

/// An empty folder beside the packages.
fn tempfile_beside(name: &str) -> Result<PathBuf> {
    let folder = process::root().join(FOLDER).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The newest version of the C library that a program or library asks for.
fn newest_glibc(bytes: &[u8]) -> (u32, u32) {
    const MARK: &[u8] = b"GLIBC_";
    let places = bytes.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let versions = places.filter_map(|(place, _)| {
        let rest = &bytes[place + MARK.len()..];
        let end = rest.iter().take(8).position(|b| !b.is_ascii_digit() && *b != b'.')?;
        let (major, minor) = std::str::from_utf8(&rest[..end]).ok()?.split_once('.')?;
        Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
    });
    versions.max().unwrap_or((2, 28))
}

/// The time of the last commit: two builds of one state are the same bytes.
fn source_date() -> String {
    let said =
        process::output(Command::new("git").current_dir(process::root()).args(["log", "-1", "--format=%ct"]));
    said.map_or_else(|_| "0".into(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_the_c_library_is_found_by_number() {
        let program = b"\0GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.2.5\0GLIBC_PRIVATE\0GLIBC_";
        assert_eq!(newest_glibc(program), (2, 34));
        assert_eq!(newest_glibc(b"static"), (2, 28));
    }

    #[test]
    fn every_architecture_has_a_configuration_of_its_own() {
        for architecture in [Architecture::Amd64, Architecture::Arm64] {
            let text = configuration(architecture.profile()).unwrap();
            assert!(
                text.contains(&format!("profile = \"{}\"", architecture.profile())) && !text.contains('@')
            );
        }
    }
}
