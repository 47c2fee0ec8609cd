//! An ext4 file system of its own on a loop device, and how its power is cut.
//!
//! The cut is ext4's shutdown ioctl without a flush of the journal (`FS_IOC_SHUTDOWN`, flag 2):
//! from then on nothing reaches the device, and what was dirty in memory is gone when the file
//! system is unmounted. No safe library has that call, so `xfs_io` of xfsprogs makes it, as it does
//! in xfstests. Where that is not installed, the kernel's own switch for tests does nearly the
//! same: `trigger_fs_error` in /sys aborts the journal and, mounted with `errors=remount-ro`, keeps
//! all dirty pages from the device; unlike a cut it leaves an error mark, which `e2fsck` takes
//! away.
//!
//! What the device itself was told stays: it is a file of the file system below. So a disk that
//! lies about its syncs is not in this.
//!
//! Invariant: a cut goes to no other file system than the one that was mounted here: before it, the
//! mount table must name our device at our directory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where system programs are that are not in everybody's search path.
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
const IMAGE_BYTES: u64 = 64 << 20;

/// How the power is cut here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Ioctl,
    Error,
}

impl Cut {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Ioctl => "the ext4 shutdown ioctl",
            Self::Error => "an aborted journal (no xfs_io for the ioctl)",
        }
    }
}

/// Runs a program; its words are shown if it fails.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let path = PLACES.iter().map(|place| Path::new(place).join(program)).find(|path| path.exists());
    let path = path.ok_or_else(|| format!("there is no {program}"))?;
    let output = Command::new(path).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A mounted file system that goes away with this.
#[derive(Debug)]
pub(super) struct Device {
    /// `/dev/loopN`.
    node: String,
    mount: PathBuf,
    pub(super) cut: Cut,
}

impl Device {
    /// Makes one beneath `dir`, or says why that can't be done here.
    pub(super) fn make(dir: &Path) -> Result<Self, String> {
        let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        if !is_root {
            return Err("it needs root".to_owned());
        }
        let (image, mount) = (dir.join("image"), dir.join("mount"));
        fs::create_dir_all(&mount).map_err(|error| error.to_string())?;
        let file = fs::File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES));
        file.map_err(|error| error.to_string())?;
        let image = image.to_str().ok_or("a path that is no text")?;
        run("mkfs.ext4", &["-q", "-F", image])?;
        let device = run("losetup", &["--find", "--show", image])?;
        let name = device.strip_prefix("/dev/loop").unwrap_or_default();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("losetup named no loop device: {device}"));
        }
        let has_ioctl = run("xfs_io", &["-V"]).is_ok();
        let cut = if has_ioctl { Cut::Ioctl } else { Cut::Error };
        let made = Self { node: device, mount, cut };
        made.mount()?;
        if cut == Cut::Error && !made.switch().exists() {
            return Err("neither xfs_io nor the kernel's switch for tests".to_owned());
        }
        Ok(made)
    }

    /// Where files go.
    pub(super) fn root(&self) -> &Path {
        &self.mount
    }

    fn mount(&self) -> Result<(), String> {
        let mount = self.mount.to_str().ok_or("a path that is no text")?;
        run("mount", &["-t", "ext4", "-o", "errors=remount-ro", &self.node, mount])?;
        if self.is_mounted() { Ok(()) } else { Err("it is not mounted where it should be".into()) }
    }

    /// Whether our device is at our directory, as the kernel sees it.
    fn is_mounted(&self) -> bool {
        let Ok(mount) = self.mount.canonicalize() else { return false };
        let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mut lines = table.lines().map(|line| line.split(' '));
        lines.any(|mut words| words.next() == Some(&*self.node) && words.next() == mount.to_str())
    }

    fn switch(&self) -> PathBuf {
        let name = self.node.strip_prefix("/dev/").unwrap_or_default();
        Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error")
    }

    /// Cuts the power: what was not synced is gone.
    pub(super) fn cut(&self) {
        assert!(self.is_mounted(), "nothing else may be cut off");
        match self.cut {
            Cut::Ioctl => {
                let mount = self.mount.to_str().unwrap();
                run("xfs_io", &["-x", "-c", "shutdown", mount]).unwrap();
            }
            Cut::Error => fs::write(self.switch(), "power cut").unwrap(),
        }
        let written = fs::write(self.mount.join("after-the-cut"), "x");
        assert!(written.is_err(), "the power was not cut: {written:?}");
    }

    /// Switches it on again, when nobody has a file of it open any more.
    pub(super) fn restart(&self) {
        run("umount", &[self.mount.to_str().unwrap()]).unwrap();
        if self.cut == Cut::Error {
            // It answers 1 when it has mended something, here the mark.
            drop(run("e2fsck", &["-p", &self.node]));
        }
        self.mount().unwrap();
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.is_mounted() {
            drop(run("umount", &[self.mount.to_str().unwrap_or_default()]));
        }
        drop(run("losetup", &["-d", &self.node]));
    }
}
