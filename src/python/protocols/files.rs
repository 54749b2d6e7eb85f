//! `request.respond_file`: the status, the fields and the part of a file that answer a request.
//!
//! `src/protocols/http/conditions.rs` has the rules. This module knows files: their times, tags and types.

use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::protocols::http::{Representation, Selected, Tag, parse_date, select};
use crate::python::values::files;
use crate::system::clock::system_seconds;

/// The fields that only the file and the request determine.
const MADE_HERE: [&str; 3] = ["content-length", "content-range", "accept-ranges"];

/// The fields about a body, which an answer without the file has not (RFC 9110 sections 8.3 to 8.5, 15.4.5).
const OF_BODY: [&str; 3] = ["content-type", "content-encoding", "content-language"];

/// A file that changed within this time may change again without a new time of change.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// The answer to one request: the body is `count` bytes of the file from `offset` on.
pub struct FileAnswer {
    pub status: u16,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub file: File,
    pub offset: u64,
    pub count: u64,
}

/// The fields that a user gave, and those that follow.
struct Fields(Vec<(Vec<u8>, Vec<u8>)>);

impl Fields {
    fn get(&self, wanted: &str) -> Option<&[u8]> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes())).map(|(_, value)| value.as_slice())
    }

    fn add(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.push((name.into(), value.into()));
    }

    /// Adds a field unless the user gave one.
    fn add_if_missing(&mut self, name: &str, value: &[u8]) {
        if self.get(name).is_none() {
            self.add(name, value);
        }
    }

    fn remove(&mut self, names: &[&str]) {
        self.0.retain(|(other, _)| !names.iter().any(|name| other.eq_ignore_ascii_case(name.as_bytes())));
    }

    fn refuse(&self, names: &[&str]) -> PyResult<()> {
        match names.iter().find(|name| self.get(name).is_some()) {
            Some(name) => Err(PyValueError::new_err(format!("headers: respond_file() makes {name} by itself"))),
            None => Ok(()),
        }
    }
}

/// Selects the answer to the request with this head, of the part of `file` that `offset` and `count` name.
pub fn answer(
    head: &[u8],
    method: &[u8],
    file: &Bound<'_, PyAny>,
    (offset, count): (i64, Option<i64>),
    fields: Vec<(Vec<u8>, Vec<u8>)>,
) -> PyResult<FileAnswer> {
    let mut fields = Fields(fields);
    fields.refuse(&MADE_HERE)?;
    let (opened, metadata) = files::file_or_path(file)?;
    let (offset, count) = files::part(metadata.len(), offset, count)?;

    // The clock of the answer's date.
    let now = UNIX_EPOCH + Duration::from_secs(system_seconds());
    let changed = changed(&metadata);
    let is_settled = now.duration_since(changed).is_ok_and(|age| age >= SETTLED_AFTER);
    // RFC 9110 section 8.8.2.1: not later than the date of the answer.
    fields.add_if_missing("Last-Modified", HttpDate::from(changed.min(now)).to_string().as_bytes());
    fields.add_if_missing("ETag", tag_of(&metadata, changed, (offset, count), is_settled).as_bytes());
    let (date, tag) = (fields.get("last-modified").unwrap_or_default(), fields.get("etag").unwrap_or_default());
    let modified = parse_date(date).ok_or_else(|| malformed("Last-Modified", "a date of HTTP", date))?;
    let tag = Tag::parse(tag).ok_or_else(|| malformed("ETag", "in quotes", tag))?;

    let selected = select(head, method, &Representation { length: count, tag, modified, is_date_strong: is_settled });
    let status = match &selected {
        Selected::Whole => 200,
        Selected::Part(_) => 206,
        Selected::NotModified => 304,
        Selected::Failed => 412,
        Selected::Unsatisfiable => 416,
    };
    let part = match selected {
        Selected::Whole => 0..count,
        Selected::Part(part) => part,
        Selected::NotModified | Selected::Failed | Selected::Unsatisfiable => 0..0,
    };
    match status {
        206 => fields.add("Content-Range", format!("bytes {}-{}/{count}", part.start, part.end.saturating_sub(1))),
        // RFC 9110 section 15.5.17
        416 => fields.add("Content-Range", format!("bytes */{count}")),
        _ => {}
    }
    if status < 300 {
        fields.add("Accept-Ranges", "bytes");
        if fields.get("content-type").is_none() {
            let guessed = guessed_type(file, fields.get("content-encoding").is_some())?;
            fields.add("Content-Type", guessed);
        }
    } else {
        fields.remove(&OF_BODY);
    }
    let (offset, count) = (offset + part.start, part.end - part.start);
    Ok(FileAnswer { status, fields: fields.0, file: opened, offset, count })
}

fn malformed(name: &str, form: &str, value: &[u8]) -> PyErr {
    PyValueError::new_err(format!("headers: {name} must be {form}, not '{}'", value.escape_ascii()))
}

/// The time of the last change; files from before 1970 are as of then.
fn changed(metadata: &Metadata) -> SystemTime {
    let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
    let since = Duration::new(seconds, u32::try_from(metadata.mtime_nsec()).unwrap_or(0));
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

/// A tag of the time of change and the size: weak while the file could change without a new time (RFC 9110 section
/// 8.8.1).
fn tag_of(metadata: &Metadata, changed: SystemTime, (offset, count): (u64, u64), is_settled: bool) -> String {
    let nanos = changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let prefix = if is_settled { "" } else { "W/" };
    let part = if count == metadata.len() { String::new() } else { format!("-{offset:x}-{count:x}") };
    format!("{prefix}\"{nanos:x}-{:x}{part}\"", metadata.len())
}

/// The type that the `mimetypes` module knows for the name of a file. A compressed file has the type of its compression,
/// unless a `Content-Encoding` says that it stands for its content.
fn guessed_type(file: &Bound<'_, PyAny>, is_encoded: bool) -> PyResult<String> {
    let unknown = "application/octet-stream";
    let Some(name) = name_of(file)? else { return Ok(unknown.into()) };
    let py = file.py();
    // With a slash in front no name is taken for a URL.
    let guessed = py.import("mimetypes")?.call_method1("guess_type", (format!("/{name}"),))?;
    let (kind, encoding): (Option<String>, Option<String>) = guessed.extract()?;
    Ok(match (kind, encoding.as_deref()) {
        (Some(kind), None) => kind,
        (Some(kind), Some(_)) if is_encoded => kind,
        (_, Some("gzip")) => "application/gzip".into(),
        (_, Some("bzip2")) => "application/x-bzip2".into(),
        (_, Some("xz")) => "application/x-xz".into(),
        _ => unknown.into(),
    })
}

/// The last part of the name of a file; `None` for a descriptor.
fn name_of(file: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let name = if file.hasattr("fileno")? { file.getattr("name").ok() } else { Some(file.clone()) };
    let Some(name) = name else { return Ok(None) };
    let is_name =
        name.is_instance_of::<PyString>() || name.is_instance_of::<PyBytes>() || name.hasattr("__fspath__")?;
    if !is_name {
        return Ok(None);
    }
    let bytes = file.py().import("os")?.call_method1("fsencode", (name,))?.cast_into::<PyBytes>()?;
    let last = Path::new(std::ffi::OsStr::from_bytes(bytes.as_bytes())).file_name();
    Ok(last.map(|last| last.to_string_lossy().into_owned()))
}
