//! `cargo xtask cuda`: the CUDA toolkit from its Python wheels in `.locus/cuda`, and `locus` built with it.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fmt::Write as _,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::process;

/// The toolkit's release, and the wheels of it that candle's kernels are compiled and linked with.
const VERSION: &str = "13.0";
const WHEELS: [&str; 9] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
    "nvidia-cuda-nvrtc==13.0.88",
    "nvidia-cublas==13.0.2.14",
    "nvidia-curand==10.4.0.35",
    // Sums over several GPUs: a release that has what the bindings name.
    "nvidia-nccl-cu13==2.30.7",
];
/// Compute capability that is built for where no GPU says its own: H100.
const CAPABILITY: &str = "90";
/// The features of `locus` that are built: no engine of its own, which would double the time.
const FEATURES: [&str; 3] = ["--no-default-features", "--features", "cuda"];

/// What the toolkit is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The program.
    Build,
    /// The workbench's tests, on a GPU.
    Test,
    /// Training beside PyTorch, on a GPU.
    Bench,
}

/// Sets the toolkit up where it is not, and builds with it. What needs a GPU says so where there is none.
pub(crate) fn run(goal: Goal) -> Result<()> {
    let gpus = gpus();
    if goal != Goal::Build && gpus.is_empty() {
        println!("skipped: no NVIDIA GPU answers here (`nvidia-smi` lists none), so nothing was run on one");
        return Ok(());
    }
    let home = ensure()?;
    let capability = env::var("CUDA_COMPUTE_CAP").ok().or_else(|| capability(&gpus));
    let capability = capability.unwrap_or_else(|| {
        println!("no GPU here: building for compute capability {CAPABILITY}; CUDA_COMPUTE_CAP names another");
        CAPABILITY.into()
    });
    let target = process::root().join("target/cuda");
    let library = home.join("lib");
    let mut cargo = process::cargo();
    cargo.env("CUDA_HOME", &home).env("CUDA_PATH", &home).env("CUDA_COMPUTE_CAP", &capability);
    cargo.env("NVCC_CCBIN", env::var_os("NVCC_CCBIN").unwrap_or_else(|| "g++".into()));
    cargo.env("PATH", joined(&home.join("bin"), "PATH")?);
    cargo.env("LIBRARY_PATH", joined(&library, "LIBRARY_PATH")?);
    cargo.env("LD_LIBRARY_PATH", joined(&library, "LD_LIBRARY_PATH")?);
    match goal {
        Goal::Test => {
            println!("testing the workbench on {}", gpus.join("; "));
            cargo.args(["test", "-p", "locus-host", "--lib"]).args(FEATURES).arg("--target-dir").arg(&target);
            process::run(&mut cargo)
        }
        Goal::Bench => {
            println!("training on {} beside PyTorch", gpus.join("; "));
            cargo.args(["run", "-p", "locus-bench", "--features", "cuda", "--target-dir"]).arg(&target);
            process::run(cargo.args(["--", "training-gpu"]))
        }
        Goal::Build => {
            println!(
                "building locus for compute capability {capability}; the first time takes a quarter of an hour of one core or more"
            );
            cargo.args(["rustc", "-p", "locus-host", "--bin", "locus"]).args(FEATURES);
            cargo.arg("--target-dir").arg(&target).arg("--");
            // The program finds the toolkit's libraries by itself, wherever it is started.
            cargo.arg("-C").arg(format!("link-arg=-Wl,-rpath,{}", library.display()));
            process::run(&mut cargo)?;
            println!("{}: `--device cuda` trains on the GPU", target.join("debug/locus").display());
            Ok(())
        }
    }
}

/// A folder before what a variable holds.
fn joined(first: &Path, variable: &str) -> Result<OsString> {
    let rest = env::var_os(variable).unwrap_or_default();
    let rest = env::split_paths(&rest).filter(|p| !p.as_os_str().is_empty());
    Ok(env::join_paths(std::iter::once(first.to_owned()).chain(rest))?)
}

/// What `nvidia-smi` says of each GPU: name and compute capability.
fn gpus() -> Vec<String> {
    let query = ["--query-gpu=name,compute_cap", "--format=csv,noheader"];
    let said = process::output(Command::new("nvidia-smi").args(query)).unwrap_or_default();
    said.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// The lowest compute capability of these GPUs, as in `90`: newer ones run what is built for it.
fn capability(gpus: &[String]) -> Option<String> {
    let of = |gpu: &String| gpu.rsplit(',').next()?.trim().replace('.', "").parse::<u32>().ok();
    gpus.iter().filter_map(of).min().map(|c| c.to_string())
}

/// Where the toolkit is, fetched where it is not.
fn ensure() -> Result<PathBuf> {
    let folder = process::root().join(".locus/cuda");
    let whole = folder.join(VERSION);
    let home = whole.join("nvidia/cu13");
    if whole.exists() {
        println!("CUDA {VERSION} is in .locus/cuda");
        return Ok(home);
    }
    println!("fetching CUDA {VERSION} (nine Python wheels, 0.9 GB) into .locus/cuda");
    let part = folder.join("part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("cannot remove {}", part.display()))?;
    }
    fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    let python = if process::exists("python3", "--version") { "python3" } else { "python" };
    process::output(
        Command::new(python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--no-cache-dir",
            ])
            .args(["--only-binary=:all:", "--target"])
            .arg(&part)
            .args(WHEELS),
    )
    .context("the CUDA wheels are not to be had: Python 3 with pip and a Python package index are needed")?;
    prepare(&part.join("nvidia/cu13"))?;
    // A rename within one folder: a half-fetched toolkit is never found.
    fs::rename(&part, &whole).with_context(|| format!("cannot rename {}", part.display()))?;
    Ok(home)
}

/// Makes of unpacked wheels what compilers and linkers expect of a toolkit.
fn prepare(home: &Path) -> Result<()> {
    let library = home.join("lib");
    // NCCL comes in a folder of its own.
    symlink("../../nccl/lib/libnccl.so.2", library.join("libnccl.so.2"))?;
    for entry in fs::read_dir(&library)
        .with_context(|| format!("no {}: other wheels than expected", library.display()))?
    {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // `libcublas.so.13` is linked with as `libcublas.so`.
        if let Some((stem, _)) = name.split_once(".so.")
            && !library.join(format!("{stem}.so")).exists()
        {
            symlink(&name, library.join(format!("{stem}.so")))?;
        }
    }
    symlink("lib", home.join("lib64"))?;
    driver_stub(home)
}

/// The driver's library comes with the driver, not with the toolkit. A stand-in satisfies the linker: it has the functions
/// that `cuda.h` names, and each says that it is a stub.
fn driver_stub(home: &Path) -> Result<()> {
    /// `CUDA_ERROR_STUB_LIBRARY`.
    const STUB: u32 = 34;
    let header = home.join("include/cuda.h");
    let text = fs::read_to_string(&header).with_context(|| format!("no {}", header.display()))?;
    let mut code = String::new();
    for name in functions(&text) {
        writeln!(code, "int {name}(void) {{ return {STUB}; }}")?;
    }
    let folder = home.join("stubs");
    fs::create_dir_all(&folder)?;
    let (source, stub) = (folder.join("cuda.c"), folder.join("libcuda.so.1"));
    fs::write(&source, code)?;
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    process::output(
        Command::new(compiler)
            .args(["-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", "-o"])
            .arg(&stub)
            .arg(&source),
    )
    .context("a C compiler is needed")?;
    // Under the name for linking only, so that no program ever loads it in the driver's place.
    symlink("../stubs/libcuda.so.1", home.join("lib/libcuda.so"))?;
    if !stub.exists() {
        bail!("got no {}, expected the compiler to make it", stub.display());
    }
    Ok(())
}

/// The driver's functions in its header: `cu` and a capital letter.
fn functions(header: &str) -> BTreeSet<&str> {
    let words = header.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|w| w.starts_with("cu") && w[2..].starts_with(|c: char| c.is_ascii_uppercase())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_their_versions_are_found_and_types_are_not() {
        let header =
            "#define cuMemAlloc cuMemAlloc_v2\nCUresult CUDAAPI cuInit(unsigned int Flags);\ncudaError_t cu;";
        assert_eq!(
            functions(header).into_iter().collect::<Vec<_>>(),
            ["cuInit", "cuMemAlloc", "cuMemAlloc_v2"]
        );
    }

    #[test]
    fn the_oldest_gpu_says_what_is_built_for() {
        let gpus = ["NVIDIA H100 80GB HBM3, 9.0".to_owned(), "NVIDIA A100-SXM4, 40GB, 8.0".to_owned()];
        assert_eq!(capability(&gpus).as_deref(), Some("80"));
        assert_eq!((capability(&[]), capability(&["Tesla, N/A".to_owned()])), (None, None));
    }
}
