//! The file for the secrets of sessions, by which Wireshark and others decrypt what they recorded.
//!
//! Nothing is written unless a context asks for it by name. The format is that of NSS, one line a secret.

use std::env;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::KeyLog;

use crate::error::Error;

/// The environment variable that names the file, and the name by which a context asks for it.
pub const VARIABLE: &str = "SSLKEYLOGFILE";

/// A file of secrets that only its owner may read.
///
/// Lines that cannot be written are lost: a full disk must not end connections.
#[derive(Debug)]
pub struct KeyLogFile(File);

impl KeyLogFile {
    /// Opens the file at `path`, or the one that the environment names if `path` is [`VARIABLE`] itself.
    ///
    /// There is none if that variable is not set, or empty.
    pub fn open(path: &Path) -> Result<Option<Arc<Self>>, Error> {
        let path: PathBuf = match path.as_os_str() == VARIABLE {
            false => path.into(),
            true => match env::var_os(VARIABLE) {
                Some(path) if !path.is_empty() => path.into(),
                _ => return Ok(None),
            },
        };
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        let file = file.map_err(Error::io(format!("cannot open key_log {:?}", path.display().to_string())))?;
        Ok(Some(Arc::new(Self(file))))
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = format!("{label} ");
        push_hexadecimal(&mut line, client_random);
        line.push(' ');
        push_hexadecimal(&mut line, secret);
        line.push('\n');
        // One call a line, because threads and processes append to the same file.
        let _ = (&self.0).write_all(line.as_bytes());
    }
}

fn push_hexadecimal(line: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(line, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_format_of_nss_and_only_the_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;

        let path = env::temp_dir().join(format!("goev-key-log-{}", std::process::id()));
        let log = KeyLogFile::open(&path).expect("valid").expect("valid");
        log.log("CLIENT_RANDOM", &[0x00, 0xab], &[0xff]);
        log.log("EXPORTER_SECRET", &[1], &[2]);
        let text = std::fs::read_to_string(&path).expect("valid");
        let mode = std::fs::metadata(&path).expect("valid").permissions().mode();
        std::fs::remove_file(&path).expect("valid");
        assert_eq!(text, "CLIENT_RANDOM 00ab ff\nEXPORTER_SECRET 01 02\n");
        assert_eq!(mode & 0o777, 0o600);
    }
}
