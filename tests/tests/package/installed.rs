//! The packages in a new Debian: installed, asked, upgraded, broken, removed, purged.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use locus_tests::{Rig, facts, program, root};
use serde_json::Value;

use super::machine::Machine;

/// What `cargo xtask package` made for this machine: the box, and ONNX Runtime.
fn packages() -> Option<[PathBuf; 2]> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let entries = fs::read_dir(root().join("target/package")).ok()?;
    let all: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let of = |beginning: &str| {
        let is_it = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(beginning) && name.ends_with(&format!("_{architecture}.deb"))
        };
        all.iter().find(is_it).cloned()
    };
    Some([of("locus_")?, of("locus-onnxruntime_")?])
}

/// The same package as another version, with what `change` does to its files.
fn next(package: &Path, version: &str, change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    let dpkg = |arguments: &[&std::ffi::OsStr]| {
        let output = Command::new("dpkg-deb").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    dpkg(&["-R".as_ref(), package.as_ref(), tree.as_ref()]);
    let control = fs::read_to_string(tree.join("DEBIAN/control")).unwrap();
    let lines = control.lines().map(|line| match line.starts_with("Version: ") {
        true => format!("Version: {version}\n"),
        false => format!("{line}\n"),
    });
    fs::write(tree.join("DEBIAN/control"), lines.collect::<String>()).unwrap();
    change(&tree);
    dpkg(&[
        "--root-owner-group".as_ref(),
        "-Znone".as_ref(),
        "--build".as_ref(),
        tree.as_ref(),
        folder.path().join("next.deb").as_ref(),
    ]);
    folder
}

/// A box in the machine.
struct Installed {
    machine: Machine,
    asked: usize,
}

impl Installed {
    fn as_locus(&self, command: &[&str]) -> String {
        self.machine.done(&[&["runuser", "-u", "locus", "--"], command].concat())
    }

    /// Asks the box as its own user does, over HTTPS.
    fn ask(&mut self) -> Value {
        self.asked += 1;
        let fact = &facts().variants[self.asked % 12];
        let request = serde_json::to_string(&fact.request(&format!("package-{}", self.asked))).unwrap();
        fs::write(self.machine.path("/srv/request.json"), request).unwrap();
        let said = self.as_locus(&["locusctl", "ask", "--json", "--request", "/srv/request.json"]);
        let answer: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert!(answer["receipt"]["index"].is_u64(), "{said}");
        answer
    }

    fn process(&self) -> u32 {
        let said = self.machine.done(&["systemctl", "show", "--value", "--property=MainPID", "locusd"]);
        said.trim().parse().unwrap()
    }

    fn is_active(&self) -> bool {
        self.machine.run(&["systemctl", "is-active", "--quiet", "locusd"]).0 == Some(0)
    }

    /// The journal as somebody sees it who has the disk, by the workbench's own program: how many records it verifies.
    fn verified(&self) -> String {
        let state = self.machine.path("/var/lib/locus");
        let output = program("locusctl")
            .args(["journal", "verify", "--dir"])
            .arg(state.join("journal"))
            .arg("--device-key")
            .arg(state.join("keys/device.key.pub"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(&format!("{} records", self.asked)), "{said}");
        said
    }
}

#[test]
#[ignore = "installs packages into a new Debian; minutes, root, network"]
fn a_package_installs_serves_upgrades_and_goes_and_the_journal_stays() {
    let Some([package, library]) = packages() else {
        println!(
            "skipped: the installation of packages: there is none in target/package; `cargo xtask package` makes them"
        );
        return;
    };
    let machine = match Machine::start() {
        Ok(machine) => machine,
        Err(why) => {
            println!("skipped: the installation of packages: {why}");
            return;
        }
    };
    let rig = Rig::new("").unwrap();
    let mut all_said = String::new();
    let mut b = Installed { machine, asked: 0 };

    // Installed: nothing runs, and what to do is said.
    for (from, to) in [(&package, "/srv/locus.deb"), (&library, "/srv/library.deb")] {
        b.machine.put(from, to);
    }
    let said = b.machine.done(&["dpkg", "-i", "/srv/locus.deb", "/srv/library.deb"]);
    assert!(said.contains("What is left to do") && said.contains("hospital.pub"), "{said}");
    assert!(!b.is_active());
    assert_eq!(
        b.machine.done(&["stat", "-c", "%a %U %G", "/var/lib/locus", "/etc/locus"]),
        "700 locus locus\n750 root locus\n"
    );

    // udev reads its rules without a complaint, on whatever line there is.
    let rules = b.machine.run(&["udevadm", "test", "/sys/class/tty/tty0"]).1;
    assert!(rules.contains("tty0") && !rules.contains("70-locus.rules:"), "{rules}");

    // The first start: keys, their fingerprint, and no secret.
    b.machine.put(&rig.path("publisher.pub"), "/etc/locus/publisher.pub");
    let configuration = b.machine.path("/etc/locus/locusd.toml");
    let text = fs::read_to_string(&configuration).unwrap().replace("CHANGE-ME", "st-anna");
    fs::write(&configuration, text).unwrap();
    let (code, said) = b.machine.run(&["locus-first-start"]);
    assert!(code == Some(3) && said.contains("hospital.pub"), "{said}");
    b.machine.put(&rig.path("hospital.pub"), "/etc/locus/hospital.pub");
    let said = b.machine.done(&["locus-first-start"]);
    assert!(said.contains("SHA-256") && said.contains("locusctl flash"), "{said}");
    all_said.push_str(&said);
    assert!(b.is_active());

    // Served, by ONNX Runtime of the package, behind everything that the unit closes.
    b.machine.put(&rig.path("signed.locus"), "/srv/model.locus");
    all_said.push_str(&b.as_locus(&["locusctl", "flash", "/srv/model.locus"]));
    let answer = b.ask();
    assert_eq!(answer["engine"]["provider"], "CPUExecutionProvider", "{answer}");
    let status = b.machine.done(&["cat", &format!("/proc/{}/status", b.process())]);
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"] {
        assert!(status.contains(line), "{line:?} is not in {status}");
    }
    let security =
        b.machine.done(&["systemd-analyze", "security", "--no-pager", "--threshold=25", "locusd.service"]);
    println!("{}", security.lines().last().unwrap_or_default());

    // Upgraded: another process, the same journal, closed and continued.
    let before = b.process();
    let newer = next(&package, "99.0.1", |_| {});
    b.machine.put(&newer.path().join("next.deb"), "/srv/newer.deb");
    b.machine.done(&["dpkg", "-i", "/srv/newer.deb"]);
    assert!(b.is_active() && b.process() != before);
    b.ask();
    let log = b.machine.done(&["journalctl", "--no-pager", "-u", "locusd"]);
    assert!(!log.contains("was not closed properly"), "{log}");

    // An upgrade that does not start says so, and the way back works.
    let broken = next(&package, "99.0.2", |tree| {
        fs::write(tree.join("usr/bin/locusd"), "#!/bin/sh\nexit 1\n").unwrap()
    });
    b.machine.put(&broken.path().join("next.deb"), "/srv/broken.deb");
    let (code, said) = b.machine.run(&["dpkg", "-i", "/srv/broken.deb"]);
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("does not start after the upgrade from 99.0.1 to 99.0.2"), "{said}");
    b.machine.done(&["dpkg", "-i", "/srv/newer.deb"]);
    assert!(b.is_active());
    b.ask();

    // Removed: configuration, keys and results stay, closed and whole. Purged: the results still do.
    b.machine.done(&["dpkg", "-r", "locus"]);
    assert!(!b.is_active() && configuration.exists() && !b.machine.path("/usr/bin/locusd").exists());
    b.verified();
    let said = b.machine.done(&["dpkg", "--purge", "locus"]);
    assert!(said.contains("no purge removes results") && !configuration.exists(), "{said}");
    b.verified();

    // Installed again, it is the same box. Decommissioned on purpose, its folder goes with the package.
    b.machine.done(&["dpkg", "-i", "/srv/newer.deb"]);
    let text = fs::read_to_string(&configuration).unwrap().replace("CHANGE-ME", "st-anna");
    fs::write(&configuration, text).unwrap();
    b.machine.done(&["locus-first-start"]);
    b.ask();
    b.machine.done(&["systemctl", "stop", "locusd"]);
    b.verified();
    all_said.push_str(&b.machine.done(&["journalctl", "--no-pager", "-u", "locusd"]));
    b.as_locus(&["locusctl", "decommission", "--confirm", "box-1", "--discard-results"]);
    let said = b.machine.done(&["dpkg", "--purge", "locus"]);
    assert!(said.contains("/var/backups/locus") && !b.machine.path("/var/lib/locus").exists(), "{said}");
    assert!(b.machine.path("/var/backups/locus/device.key.pub").exists());
    assert!(b.machine.path("/var/backups/locus/audit").exists());
    for secret in ["PRIVATE KEY", "LOCUS-INDEX-", "LOCUS-IDENTITY-"] {
        assert!(!all_said.contains(secret), "a secret was shown");
    }
}
