//! A new Debian in a folder, with its own systemd, in namespaces of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use locus_tests::root;
use tempfile::TempDir;

/// The release that packages are made for.
const RELEASE: &str = "bookworm";
/// What the packages need, so that nothing is fetched while they are installed.
const INCLUDED: &str = "adduser,dbus,init-system-helpers,kmod,libstdc++6,systemd,systemd-sysv,udev";
/// Time in which it is up.
const BOOT: Duration = Duration::from_secs(90);

/// Mounts what a system needs, makes the folder the root and hands over to systemd. `$1` is the folder.
const START: &str = r#"
set -eu
mount --make-rprivate /
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -t sysfs -o ro sysfs "$1/sys"
mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
for folder in run tmp dev; do mount -t tmpfs tmpfs "$1/$folder"; done
for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
    set -- "$1" $node
    mknod -m 666 "$1/dev/$2" c "$3" "$4"
done
mkdir "$1/dev/pts" "$1/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$1/dev/pts"
ln -s pts/ptmx "$1/dev/ptmx"
ip link set lo up
cd "$1"
mkdir -p before
pivot_root . before
umount -l before
exec env -i container=locus PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
"#;

/// A running one.
pub(crate) struct Machine {
    folder: TempDir,
    started: Child,
    /// Its first process, as this machine counts.
    first: u32,
    group: Option<PathBuf>,
}

fn done(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    Err(format!("{:?} ended with {}: {last}", command.get_program(), output.status))
}

/// A Debian as it is after its installation, fetched once.
fn fetched() -> Result<PathBuf, String> {
    let folder = root().join(".locus/debian").join(RELEASE);
    if folder.exists() {
        return Ok(folder);
    }
    let part = folder.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part).map_err(|error| error.to_string())?;
    let include = format!("--include={INCLUDED}");
    done(Command::new("debootstrap").args(["--variant=minbase", &include, RELEASE]).arg(&part))?;
    fs::rename(&part, &folder).map_err(|error| error.to_string())?;
    Ok(folder)
}

/// A group of processes of its own, where this machine has version 2 of them: systemd wants to be at their root.
fn group() -> Result<PathBuf, String> {
    let mounts = fs::read_to_string("/proc/mounts").map_err(|error| error.to_string())?;
    let place = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(fields[1]))
    });
    let place = place.ok_or("cgroups of version 2 are not mounted")?;
    let group = place.join(format!("locus-package-{}", std::process::id()));
    fs::create_dir_all(&group).map_err(|error| format!("{}: {error}", group.display()))?;
    Ok(group)
}

impl Machine {
    /// Starts one; why not, where it cannot be.
    pub(crate) fn start() -> Result<Self, String> {
        if !rustix::process::getuid().is_root() {
            return Err("it needs root".into());
        }
        let system = fetched()?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        done(Command::new("cp").arg("-a").arg(format!("{}/.", system.display())).arg(folder.path()))?;
        let group = group()?;
        let enter = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.display());
        let namespaces =
            ["--mount", "--pid", "--ipc", "--uts", "--net", "--cgroup", "--fork", "--kill-child=KILL"];
        let log = fs::File::create(folder.path().join("console")).map_err(|error| error.to_string())?;
        let mut started = Command::new("sh")
            .args(["-c", &enter, "sh", "unshare"])
            .args(namespaces)
            .args(["sh", "-c", START, "sh"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        let since = Instant::now();
        let parent = started.id();
        loop {
            let first =
                fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
            if let Ok(first) = first.trim().parse() {
                let entered = |command: &[&str]| enter_at(first).args(command).output();
                // Units that fail in such a machine, such as one that loads drivers, are none of its business.
                let up = entered(&["systemctl", "is-active", "--quiet", "multi-user.target"]);
                if up.is_ok_and(|output| output.status.success()) {
                    return Ok(Self { folder, started, first, group: Some(group) });
                }
            }
            let ended = started.try_wait().ok().flatten();
            if ended.is_some() || since.elapsed() > BOOT {
                let said = fs::read_to_string(folder.path().join("console")).unwrap_or_default();
                let _ = started.kill();
                let _ = started.wait();
                let _ = fs::remove_dir(&group);
                let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
                return Err(format!("a Debian does not start in namespaces here: {last}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A file in it.
    pub(crate) fn path(&self, absolute: &str) -> PathBuf {
        self.folder.path().join(absolute.trim_start_matches('/'))
    }

    /// Runs a command in it as root, whatever comes of it: exit code, and all that it said.
    pub(crate) fn run(&self, command: &[&str]) -> (Option<i32>, String) {
        let output = enter_at(self.first).args(command).output().expect("nsenter runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Runs a command that must succeed.
    pub(crate) fn done(&self, command: &[&str]) -> String {
        let (code, said) = self.run(command);
        assert_eq!(code, Some(0), "{command:?}: {said}");
        said
    }

    /// Puts a file into it that everybody reads.
    pub(crate) fn put(&self, from: &Path, to: &str) {
        fs::copy(from, self.path(to)).unwrap_or_else(|error| panic!("{} to {to}: {error}", from.display()));
        self.done(&["chmod", "644", to]);
    }
}

fn enter_at(first: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.args([
        "--target",
        &first.to_string(),
        "--mount",
        "--pid",
        "--ipc",
        "--uts",
        "--net",
        "--cgroup",
        "--wd=/",
        "--",
    ]);
    command.args([
        "env",
        "-i",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL=C.UTF-8",
        "DEBIAN_FRONTEND=noninteractive",
    ]);
    command
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With its first process everything in it ends, mounts included.
        let first = i32::try_from(self.first).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(first) = first {
            let _ = rustix::process::kill_process(first, rustix::process::Signal::KILL);
        }
        let _ = self.started.wait();
        if let Some(group) = self.group.take() {
            let _ = Command::new("find").arg(&group).args(["-depth", "-type", "d", "-delete"]).output();
        }
    }
}
