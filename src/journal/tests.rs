//! A journal with a real file: batches, limits, other files, the end.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::mpsc;

use super::*;
use crate::recorder::{Recorder, Time};

const PATIENCE: Duration = Duration::from_secs(10);

/// Lines that are the records themselves.
struct Plain;

impl Render for Plain {
    fn render(&mut self, record: &[u8], _: Time, out: &mut Vec<u8>) {
        out.extend_from_slice(record);
        out.push(b'\n');
    }
}

/// A folder of one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("goev-journal-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("it can be made");
        Self(path)
    }
    fn file(&self) -> PathBuf {
        self.0.join("log")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: PathBuf, capacity: usize) -> (Arc<Journal>, mpsc::Receiver<String>) {
    let (sender, told) = mpsc::channel();
    let settings = Settings { place: Place::Path(path), capacity, sample: 1.0, needs: 0, linger: Settings::LINGER };
    let tell = move |text: &str| _ = sender.send(text.to_owned());
    (Journal::open(settings, Box::new(Plain), Box::new(tell)).expect("it opens"), told)
}

#[test]
fn lines_of_all_lanes_come_whole_and_in_the_order_of_each() {
    let folder = Folder::new("order");
    let (journal, _) = open(folder.file(), 1 << 20);
    let threads: Vec<_> = (0..4)
        .map(|poller| {
            let lane = journal.lane(poller);
            thread::spawn(move || (0..5000).for_each(|number| lane.put(&[format!("{poller} {number}").as_bytes()])))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    assert!(journal.flush(PATIENCE));
    let counted = journal.counted();
    let text = fs::read_to_string(folder.file()).expect("it is text");
    assert_eq!((counted.written + counted.dropped, counted.waiting), (20_000, 0));
    assert_eq!(counted.written as usize, text.lines().count());
    for poller in 0..4 {
        let prefix = format!("{poller} ");
        let numbers = text.lines().filter_map(|line| line.strip_prefix(&prefix)?.parse::<u32>().ok());
        assert!(numbers.is_sorted());
    }
}

#[test]
fn a_lonely_line_is_written_soon_although_nobody_asks() {
    let folder = Folder::new("soon");
    let (journal, _) = open(folder.file(), 1 << 20);
    journal.lane(0).put(&[b"a", b"b"]);
    let mut waits = 0;
    while journal.counted().written == 0 && waits < 1000 {
        thread::sleep(Duration::from_millis(10));
        waits += 1;
    }
    assert_eq!(fs::read(folder.file()).expect("it is there"), b"ab\n");
}

#[test]
fn records_that_do_not_fit_are_dropped_and_told_of() {
    let folder = Folder::new("full");
    let (journal, told) = open(folder.file(), 100);
    let lane = journal.lane(0);
    lane.put(&[&[b'x'; 200]]);
    assert_eq!((journal.counted().dropped, journal.counted().waiting), (1, 0));
    lane.put(&[b"fits"]);
    assert!(journal.flush(PATIENCE));
    assert!(told.recv_timeout(PATIENCE).expect("it tells").ends_with("lost 1 lines: the file takes them too slowly"));
    assert_eq!(fs::read(folder.file()).expect("it is there"), b"fits\n");
}

#[test]
fn a_full_disk_drops_and_the_next_file_gets_the_rest() {
    let folder = Folder::new("disk");
    std::os::unix::fs::symlink("/dev/full", folder.file()).expect("it can be made");
    let (journal, told) = open(folder.file(), 1 << 20);
    let lane = journal.lane(0);
    (0..3).for_each(|_| lane.put(&[b"lost"]));
    assert!(journal.flush(PATIENCE));
    let counted = journal.counted();
    assert_eq!((counted.written, counted.dropped, counted.waiting), (0, 3, 0));
    assert!(counted.errors > 0);
    assert!(told.recv_timeout(PATIENCE).expect("it tells").contains("No space left on device"));
    fs::remove_file(folder.file()).expect("it is there");
    journal.reopen().expect("the folder is there");
    lane.put(&[b"kept"]);
    assert!(journal.close(PATIENCE));
    assert_eq!(fs::read(folder.file()).expect("it is there"), b"kept\n");
    lane.put(&[b"late"]);
    assert_eq!(journal.counted(), Counted { written: 1, dropped: 4, ..journal.counted() });
}

#[test]
fn a_fifo_that_nobody_reads_keeps_a_bound_and_gives_up_at_the_end() {
    let folder = Folder::new("fifo");
    let path = std::ffi::CString::new(folder.file().to_str().expect("it is text")).expect("no zero");
    // SAFETY: the path is a string that ends with a zero.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    let (journal, _) = open(folder.file(), 100_000);
    let lane = journal.lane(0);
    let line = [b'x'; 99];
    for _ in 0..3000 {
        lane.put(&[&line]);
    }
    assert!(!journal.flush(Duration::from_millis(200)));
    assert!(journal.counted().waiting <= 100_000);
    assert!(!journal.close(Duration::ZERO));
    let counted = journal.counted();
    assert_eq!((counted.written + counted.dropped, counted.waiting), (3000, 0));
    assert!(counted.written > 0 && counted.dropped > 0, "{counted:?}");
}

#[test]
fn a_reader_that_comes_late_gets_whole_lines() {
    let folder = Folder::new("late");
    let path = std::ffi::CString::new(folder.file().to_str().expect("it is text")).expect("no zero");
    // SAFETY: the path is a string that ends with a zero.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    let (journal, _) = open(folder.file(), 10 << 20);
    let lane = journal.lane(0);
    (0..20_000).for_each(|number| lane.put(&[format!("line {number}").as_bytes()]));
    let reader =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(folder.file()).expect("it opens");
    let (mut text, mut piece) = (Vec::new(), [0; 8192]);
    let ended = thread::spawn(move || journal.close(PATIENCE));
    while !ended.is_finished() {
        match std::io::Read::read(&mut &reader, &mut piece) {
            Ok(count) => text.extend_from_slice(&piece[..count]),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
    while let Ok(count @ 1..) = std::io::Read::read(&mut &reader, &mut piece) {
        text.extend_from_slice(&piece[..count]);
    }
    assert!(ended.join().expect("it ends"));
    let expected: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    assert!(text == expected.as_bytes());
}

#[test]
fn a_sample_has_its_share() {
    let folder = Folder::new("sample");
    for share in [0.001, 0.1, 0.5, 0.9] {
        let settings = Settings {
            place: Place::Path(folder.file()),
            capacity: 100,
            sample: share,
            needs: 0,
            linger: Settings::LINGER,
        };
        let journal = Journal::open(settings, Box::new(Plain), Box::new(|_| ())).expect("it opens");
        let lane = journal.lane(0);
        let drawn = (0..100_000).filter(|_| lane.draws()).count() as f64;
        assert!((drawn / 100_000.0 - share).abs() < 0.001, "{drawn} of {share}");
    }
}

#[test]
fn a_place_that_cannot_be_opened_is_an_error() {
    let settings = Settings {
        place: Place::Path("/nowhere/log".into()),
        capacity: 1,
        sample: 1.0,
        needs: 0,
        linger: Settings::LINGER,
    };
    let error = Journal::open(settings, Box::new(Plain), Box::new(|_| ())).err().expect("there is no such folder");
    assert_eq!(error.to_string(), "cannot open the log /nowhere/log: No such file or directory (os error 2)");
}
