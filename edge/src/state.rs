//! What lies where in the state folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::vfs::{self, Access, OsVfs, Vfs, write_atomic};

/// Largest endpoints file, in bytes.
const MAX_ENDPOINTS_BYTES: u64 = 64 << 10;

/// Paths in the state folder.
#[derive(Clone, Debug)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// The state folder at a path; nothing is made yet.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Bytes that are free where the state folder lies: a journal without room stops the box.
    ///
    /// # Errors
    /// The folder is gone.
    pub fn free_bytes(&self) -> io::Result<u64> {
        vfs::free_bytes(&self.root)
    }

    /// Models and the record of what serves.
    pub fn slots(&self) -> PathBuf {
        self.root.join("slots")
    }

    /// Reference packs and the record of which one is read.
    pub fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    /// The trust document, where the configuration names one.
    pub fn trust(&self) -> PathBuf {
        self.root.join("trust")
    }

    /// Every attempt to change what the box runs or trusts.
    pub fn audit(&self) -> PathBuf {
        self.root.join("audit")
    }

    /// Encrypted results.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Says that the keys were destroyed on purpose.
    pub fn decommissioned(&self) -> PathBuf {
        self.root.join("decommissioned")
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Key that signs the journal.
    pub fn device_key(&self) -> PathBuf {
        self.root.join("keys/device.key")
    }

    /// Its public half.
    pub fn device_public(&self) -> PathBuf {
        self.root.join("keys/device.key.pub")
    }

    /// Key that hashes ids.
    pub fn index_key(&self) -> PathBuf {
        self.root.join("keys/index.key")
    }

    /// Certificate of the box's own authority.
    pub fn authority(&self) -> PathBuf {
        self.root.join("access/ca.crt")
    }

    /// Its private key.
    pub fn authority_key(&self) -> PathBuf {
        self.root.join("access/ca.key")
    }

    /// Who may use the box.
    pub fn registry(&self) -> PathBuf {
        self.root.join("access/registry.json")
    }

    /// Held while the registry is changed.
    pub fn registry_lock(&self) -> PathBuf {
        self.root.join("access/lock")
    }

    /// What was revoked, as a list for a broker of the site.
    pub fn revoked(&self) -> PathBuf {
        self.root.join("access/revoked.crl")
    }

    /// The token of `locusctl` on this machine.
    pub fn local_token(&self) -> PathBuf {
        self.root.join("access/local.token")
    }

    /// Certificate that the box issued to itself.
    pub fn certificate(&self) -> PathBuf {
        self.root.join("access/server.crt")
    }

    /// Its private key.
    pub fn certificate_key(&self) -> PathBuf {
        self.root.join("access/server.key")
    }

    /// What the certificate says, for the decision when it is issued anew.
    pub fn certificate_record(&self) -> PathBuf {
        self.root.join("access/server.json")
    }

    /// Engines that TensorRT built.
    pub fn engine_cache(&self) -> PathBuf {
        self.root.join("engines")
    }

    /// What a running daemon leaves and takes away.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Marks of models that have not proved themselves since the daemon started.
    pub fn unproven(&self) -> PathBuf {
        self.root.join("run/unproven")
    }

    /// Socket that `locusctl` speaks to the daemon on.
    pub fn control_socket(&self) -> PathBuf {
        self.root.join("run/control.sock")
    }

    /// Where the running daemon listens.
    pub fn endpoints(&self) -> PathBuf {
        self.root.join("run/endpoints.json")
    }
}

/// Where a running daemon listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Its process.
    pub pid: u32,
    /// Broker that it is connected to, or is.
    pub mqtt: Option<String>,
    /// Where the embedded broker speaks TLS.
    #[serde(default)]
    pub mqtts: Option<String>,
    /// HTTPS base address.
    pub http: Option<String>,
    /// Serial devices.
    pub serial: Vec<PathBuf>,
    /// Addresses for HL7 v2 over MLLP.
    #[serde(default)]
    pub mllp: Vec<String>,
}

impl Endpoints {
    /// Writes them for `locusctl` to find.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, state: &StateDir) -> io::Result<()> {
        let path = state.endpoints();
        let json = serde_json::to_vec(self)?;
        OsVfs.create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        write_atomic(&OsVfs, &path, &json, Access::Group)
    }

    /// Reads what a running daemon wrote.
    ///
    /// # Errors
    /// No daemon runs, or the file cannot be read.
    pub fn read(state: &StateDir) -> io::Result<Self> {
        Ok(serde_json::from_slice(&OsVfs.read(&state.endpoints(), MAX_ENDPOINTS_BYTES)?)?)
    }
}
