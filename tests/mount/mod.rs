//! File systems for tests, which need root.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Something mounted, until it is dropped.
pub struct Mount(PathBuf);

impl Mount {
    pub fn new(path: &Path, arguments: &[&str]) -> Self {
        let output = Command::new("mount").args(arguments).arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(path.to_owned())
    }

    /// A disk with so much room: `size=8k`, say.
    pub fn full_at(path: &Path, limit: &str) -> Self {
        Self::new(path, &["-t", "tmpfs", "-o", limit, "tmpfs"])
    }

    pub fn change(&self, options: &str) {
        assert!(self.is_changed(options));
    }

    pub fn is_changed(&self, options: &str) -> bool {
        let options = format!("remount,{options}");
        Command::new("mount").args(["-o", &options]).arg(&self.0).stderr(Stdio::null()).status().unwrap().success()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
