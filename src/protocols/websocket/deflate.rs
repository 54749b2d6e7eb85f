//! permessage-deflate without context takeover (RFC 7692): each message is compressed alone.
//!
//! So each thread needs one inflater and one deflater for any number of connections; a connection owns neither. The
//! inflater never stores more output than the limit and one byte.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::utf8::Utf8;
use super::violation::Violation;

/// The end of every flush: an empty block without its first byte. The sender removes it (RFC 7692, section 7.2.1).
const FLUSH: usize = 4;
/// That end, and one more empty block that is marked as the last. Only after complete data does it end the stream
/// exactly at its own end, and it adds nothing.
const TAIL: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];
/// Ratio of the first output buffer to the input. Text is rarely denser.
const FIRST_ROOM: usize = 4;

/// The first level with Huffman codes made for the message: a quarter smaller than level 1. Level 9 gains only a
/// tenth more.
const LEVEL: u32 = 2;

const LEAST_BITS: u8 = 9;
const MOST_BITS: u8 = 15;
const SIZES: usize = (MOST_BITS - LEAST_BITS) as usize + 1;

thread_local! {
    // The largest window reads data written with a smaller one. It is also the only size that is reset without an
    // allocation.
    static INFLATER: RefCell<Decompress> = RefCell::new(Decompress::new_with_window_bits(false, MOST_BITS));
    static DEFLATERS: RefCell<[Option<Compress>; SIZES]> = const { RefCell::new([const { None }; SIZES]) };
}

/// The agreement of both sides about permessage-deflate; neither takes over its context.
///
/// The size of the peer's window does not matter, because the inflater reads any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    window_bits: u8,
}

impl Deflate {
    /// Our own window has two to the power of `window_bits` bytes. 9 to 15 are valid, others give `None` (8 cannot be
    /// written).
    pub fn new(window_bits: u8) -> Option<Self> {
        (LEAST_BITS..=MOST_BITS).contains(&window_bits).then_some(Self { window_bits })
    }

    /// Appends the compressed `message`. Returns false if it would not be smaller; then the bytes after the old end
    /// are useless.
    pub(super) fn deflate(self, message: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.reserve(message.len() + FLUSH);
        DEFLATERS.with_borrow_mut(|deflaters| {
            let fresh = || Compress::new_with_window_bits(Compression::new(LEVEL), false, self.window_bits);
            let deflater = deflaters[usize::from(self.window_bits - LEAST_BITS)].get_or_insert_with(fresh);
            deflater.reset();
            let written = deflater.compress_vec(message, out, FlushCompress::Sync);
            out.truncate(out.len().saturating_sub(FLUSH).max(start));
            // If the room was too small for all the output, the part of it is no smaller than the message.
            written.is_ok() && out.len() - start < message.len()
        })
    }
}

/// The most bytes that `message` bytes can take when compressed: the bound that zlib gives for all its settings.
pub(super) fn most_compressed(message: usize) -> usize {
    message.saturating_add(message / 8).saturating_add(message / 128).saturating_add(64)
}

/// Inflates `payload` to at most `limit` bytes; `text`, if given, must find them valid.
pub(super) fn inflate(payload: &[u8], limit: usize, text: Option<&mut Utf8>) -> Result<Vec<u8>, Violation> {
    INFLATER.with_borrow_mut(|inflater| inflate_with(inflater, payload, limit, text))
}

fn inflate_with(
    inflater: &mut Decompress,
    payload: &[u8],
    limit: usize,
    mut text: Option<&mut Utf8>,
) -> Result<Vec<u8>, Violation> {
    let mut out = Vec::new();
    inflater.reset(false);
    // Some senders use an empty payload for the empty message, though it should be one byte.
    if payload.is_empty() {
        return Ok(out);
    }
    for (mut rest, is_tail) in [(payload, false), (&TAIL[..], true)] {
        loop {
            make_room(&mut out, payload.len(), limit)?;
            let (read, written) = (inflater.total_in(), out.len());
            let status =
                inflater.decompress_vec(rest, &mut out, FlushDecompress::None).map_err(|_| Violation::Deflate)?;
            rest = &rest[(inflater.total_in() - read) as usize..];
            if is_tail && out.len() > written {
                return Err(Violation::Deflate);
            }
            if let Some(text) = &mut text {
                text.feed(&out[written..])?;
            }
            if out.len() > limit {
                return Err(Violation::InflatesTooFar { limit });
            }
            match status {
                Status::StreamEnd if rest.is_empty() => return Ok(out),
                // A last block may come before the end; the next byte begins another stream (section 7.2.3.4).
                Status::StreamEnd => inflater.reset(false),
                Status::Ok | Status::BufError if out.len() == out.capacity() => {}
                Status::Ok | Status::BufError if rest.is_empty() => break,
                Status::Ok | Status::BufError => return Err(Violation::Deflate),
            }
        }
    }
    Err(Violation::Deflate)
}

/// Makes room for at least one byte, but for no more than one byte above the limit.
fn make_room(out: &mut Vec<u8>, came: usize, limit: usize) -> Result<(), Violation> {
    if out.len() == out.capacity() {
        let wanted = out.len().max(came.saturating_mul(FIRST_ROOM)).max(64);
        let room = wanted.min(limit.saturating_add(1) - out.len());
        out.try_reserve_exact(room).map_err(|_| Violation::NoMemory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn deflated(message: &[u8], window_bits: u8) -> Option<Vec<u8>> {
        let mut out = b"before".to_vec();
        let pays = Deflate::new(window_bits).expect("it is valid").deflate(message, &mut out);
        assert!(out.starts_with(b"before"));
        pays.then(|| out.split_off(6))
    }

    /// Raw DEFLATE of any level, flushed, with the end of the flush removed or not.
    fn raw(message: &[u8], level: u32, flush: FlushCompress, cut: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(most_compressed(message.len()) + message.len());
        let mut deflater = Compress::new_with_window_bits(Compression::new(level), false, 15);
        deflater.compress_vec(message, &mut out, flush).expect("it is valid");
        out.truncate(out.len() - cut);
        out
    }

    fn words(count: usize) -> Vec<u8> {
        (0..count)
            .flat_map(|at| format!("{{\"name\": \"user{}\", \"at\": {at}}}, ", at * at % 97).into_bytes())
            .collect()
    }

    #[test]
    fn what_is_deflated_is_inflated_with_every_window() {
        for (window_bits, count) in (9..=15).flat_map(|bits| [1, 3, 20, 500, 5000].map(|count| (bits, count))) {
            let message = words(count);
            let Some(payload) = deflated(&message, window_bits) else {
                assert!(count == 1, "{} bytes do not get smaller", message.len());
                continue;
            };
            assert!(payload.len() < message.len());
            assert_eq!(inflate(&payload, message.len(), None), Ok(message.clone()));
            // Checks that the deflater's window is no larger than announced.
            let mut small = Decompress::new_with_window_bits(false, window_bits);
            let mut out = Vec::with_capacity(message.len() + 1);
            for piece in payload.chunks(7).chain([&TAIL[..]]) {
                small.decompress_vec(piece, &mut out, FlushDecompress::None).expect("it is within the window");
            }
            assert_eq!(out, message);
        }
        assert_eq!((Deflate::new(8), Deflate::new(16)), (None, None));
    }

    #[test]
    fn each_window_has_a_deflater_of_its_own() {
        // Only a large window reaches back to the first half.
        let next = |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        let half: Vec<u8> = std::iter::successors(Some(1), next).take(1000).map(|state| (state >> 33) as u8).collect();
        let message = half.repeat(2);
        assert!(deflated(&message, 15).is_some());
        assert_eq!(deflated(&message, 9), None);
    }

    #[test]
    fn what_does_not_get_smaller_is_not_deflated() {
        let noise: Vec<u8> = (0..3000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        assert_eq!(deflated(&noise[..200], 15), None);
        assert_eq!(deflated(b"abc", 15), None);
        assert_eq!(deflated(b"", 15), None);
    }

    #[test]
    fn a_message_is_deflated_if_that_makes_it_smaller_by_a_byte() {
        let mut equal = 0;
        for message in (1..60).flat_map(|len| (0..8).map(move |zeros| [&words(9)[..len], &vec![0; zeros]].concat())) {
            let size = raw(&message, LEVEL, FlushCompress::Sync, FLUSH).len();
            assert_eq!(deflated(&message, 15).is_some(), size < message.len(), "{size} of {}", message.len());
            equal += usize::from(size == message.len());
        }
        assert!(equal > 0);
    }

    #[test]
    fn the_bound_of_a_compressed_message_is_that_of_zlib() {
        assert_eq!([0, 127, 128, 12_800].map(most_compressed), [64, 206, 209, 12_800 + 1600 + 100 + 64]);
    }

    #[test]
    fn room_is_made_up_to_the_limit_and_one_byte() {
        for (len, limit, room) in [(0, 1000, 64), (64, 1000, 128), (64, 100, 101), (100, 100, 101)] {
            let mut out = vec![0; len];
            out.shrink_to_fit();
            make_room(&mut out, 1, limit).expect("there is memory");
            assert_eq!(out.capacity(), room, "{len} {limit}");
        }
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let hello = Ok(b"Hello".to_vec());
        let whole = |payload: &[u8]| inflate(payload, 100, None);
        assert_eq!(whole(b"\xf2\x48\xcd\xc9\xc9\x07\0"), hello, "one block");
        assert_eq!(whole(b"\0\x05\0\xfa\xffHello\0"), hello, "not compressed");
        assert_eq!(whole(b"\xf3\x48\xcd\xc9\xc9\x07\0\0"), hello, "the last block and an empty one");
        assert_eq!(whole(b"\xf3\x48\xcd\xc9\xc9\x07\0"), hello, "the last block alone");
        assert_eq!(whole(b"\xf2\x48\x05\0\0\0\xff\xff\xca\xc9\xc9\x07\0"), hello, "two blocks");
        // The sender removes the last four bytes of an empty block, which may be marked as the last.
        assert_eq!(whole(b"\xf2\x48\xcd\xc9\xc9\x07\0\0\0\xff\xff\x01"), hello, "an empty last block");
        assert_eq!(whole(b"\x01"), Ok(vec![]), "an empty message in an empty last block");
        assert_eq!(whole(b"\0"), Ok(vec![]), "an empty message");
        assert_eq!(whole(b""), Ok(vec![]), "an empty message without its byte");
    }

    #[test]
    fn all_levels_and_flushes_are_read() {
        let message = words(300);
        for level in 0..=9 {
            for (flush, cut) in [(FlushCompress::Sync, 4), (FlushCompress::Full, 4), (FlushCompress::Finish, 0)] {
                let payload = raw(&message, level, flush, cut);
                assert_eq!(inflate(&payload, message.len(), None), Ok(message.clone()));
                let twice = [payload.clone(), if cut > 0 { vec![0, 0, 0xff, 0xff] } else { vec![] }, payload].concat();
                assert_eq!(inflate(&twice, 2 * message.len(), None), Ok(message.repeat(2)));
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_as_soon_as_it_is_too_large() {
        let bomb = raw(&vec![0; 10_000_000], 9, FlushCompress::Sync, 4);
        let mut out = Vec::new();
        for limit in [0, 1, 1000, 9_999_999] {
            assert_eq!(inflate(&bomb, limit, None), Err(Violation::InflatesTooFar { limit }));
            make_room(&mut out, bomb.len(), limit).expect("there is memory");
            assert!(out.capacity() <= limit + 1);
            out = Vec::new();
        }
        assert_eq!(inflate(&bomb, 10_000_000, None).map(|out| out.len()), Ok(10_000_000));
    }

    #[test]
    fn text_is_looked_at_before_all_of_it_is_inflated() {
        let text = [&b"\xff"[..], &vec![b' '; 1_000_000]].concat();
        let payload = raw(&text, 6, FlushCompress::Sync, 4);
        // If it were inflated to its end, the error would be that of the limit.
        let mut utf8 = Utf8::default();
        assert_eq!(inflate(&payload, 500_000, Some(&mut utf8)), Err(Violation::TextNotUtf8));
    }

    proptest! {
        #[test]
        fn data_that_is_cut_short_or_goes_on_is_refused(
            message in prop::collection::vec(0..40_u8, 1..200), level in 0..10_u32,
        ) {
            let payload = raw(&message, level, FlushCompress::Sync, 4);
            for end in 1..payload.len() {
                let read = inflate(&payload[..end], 1000, None);
                // At the end of a block it is whole.
                prop_assert!(read.is_err() || read.is_ok_and(|read| message.starts_with(&read)));
            }
            prop_assert_eq!(inflate(&[&payload[..], &[6]].concat(), 1000, None), Err(Violation::Deflate));
        }

        #[test]
        fn any_bytes_are_inflated_within_the_limit_or_refused(
            payload in prop::collection::vec(any::<u8>(), 0..100), limit in 0..300_usize,
        ) {
            if let Ok(out) = inflate(&payload, limit, None) {
                prop_assert!(out.len() <= limit);
            }
        }

        #[test]
        fn whatever_is_deflated_comes_back(
            message in prop::collection::vec(0..5_u8, 0..3000), window_bits in 9..16_u8,
        ) {
            if let Some(payload) = deflated(&message, window_bits) {
                prop_assert!(payload.len() <= most_compressed(message.len()));
                prop_assert_eq!(inflate(&payload, message.len(), None), Ok(message));
            }
        }
    }
}
