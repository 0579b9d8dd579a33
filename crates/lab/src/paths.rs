//! Where everything lies. State below `target/lab` goes with `lab down`; caches below `target/lab-cache` stay.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::topology::{Leaf, Machine};

/// The folders of a lab.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The lab of a checkout; `root` is the folder with the workspace's Cargo.toml.
    ///
    /// # Errors
    /// `root` does not exist.
    pub fn new(root: &Path) -> io::Result<Self> {
        Ok(Self { root: root.canonicalize()? })
    }

    /// As seen in a guest, whose disk has the same folders wherever the checkout is.
    pub fn in_guest() -> Self {
        Self { root: "/lab".into() }
    }

    /// The checkout.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// State of the lab.
    pub fn lab(&self) -> PathBuf {
        self.root.join("target/lab")
    }

    /// What survives `lab down`.
    pub fn cache(&self) -> PathBuf {
        self.root.join("target/lab-cache")
    }

    /// A program of the workspace, built in the dev profile.
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("target/debug").join(name)
    }

    /// A static program for machines.
    pub fn static_program(&self, name: &str) -> PathBuf {
        self.root.join("target/x86_64-unknown-linux-musl/installer").join(name)
    }

    /// What the running lab is made of.
    pub fn spec(&self) -> PathBuf {
        self.lab().join("lab.json")
    }

    /// What the control plane was told.
    pub fn seed(&self) -> PathBuf {
        self.lab().join("seed.json")
    }

    /// Shell variables for `metalctl`.
    pub fn env(&self) -> PathBuf {
        self.lab().join("env")
    }

    /// Files that machines fetch.
    pub fn images(&self) -> PathBuf {
        self.lab().join("images")
    }

    /// A log, for instance of `server`, `leaf01-switch` or `m1`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.lab().join("logs").join(format!("{name}.log"))
    }

    /// The folder of all logs.
    pub fn logs(&self) -> PathBuf {
        self.lab().join("logs")
    }

    /// Process ids and sockets.
    pub fn run(&self) -> PathBuf {
        self.lab().join("run")
    }

    /// Socket of the supervisor, as seen from the lab's folder.
    pub fn control(&self) -> PathBuf {
        socket("control")
    }

    /// A token, mode 0600.
    pub fn token(&self, name: &str) -> PathBuf {
        self.lab().join("tokens").join(format!("{name}.token"))
    }

    /// Private key for ssh into machines; the public one has `.pub`.
    pub fn ssh_key(&self) -> PathBuf {
        self.lab().join("ssh/id_ed25519")
    }

    /// State of a leaf's agents.
    pub fn leaf(&self, leaf: Leaf) -> PathBuf {
        self.lab().join(leaf.name())
    }

    /// Disk and firmware variables of a machine.
    pub fn machine(&self, machine: Machine) -> PathBuf {
        self.lab().join("machines").join(machine.to_string())
    }

    /// The database of the control plane.
    pub fn database(&self) -> PathBuf {
        self.lab().join("metal.db")
    }

    /// Makes the folders of a lab that starts; those with secrets are for the owner only.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn create(&self) -> io::Result<()> {
        fs::create_dir_all(self.cache())?;
        for open in [self.lab(), self.images(), self.logs(), self.run()] {
            fs::create_dir_all(open)?;
        }
        for closed in ["tokens", "ssh"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(self.lab().join(closed))?;
        }
        Ok(())
    }
}

/// Path of a socket relative to the lab's folder, because a socket's path may have 107 bytes only.
/// Whoever uses it works in that folder.
pub fn socket(name: &str) -> PathBuf {
    Path::new("run").join(name)
}

/// Writes a file that only the owner may read.
///
/// # Errors
/// The file cannot be written.
pub fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}
