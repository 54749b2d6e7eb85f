//! Heads of frames, read and written, and the mask of a payload (RFC 6455, section 5).
//!
//! This module looks at each frame alone; [`super::messages`] checks their order.

use super::settings::Settings;
use super::violation::Violation;

/// The most bytes of payload in a control frame.
pub(super) const CONTROL_MOST: usize = 125;
/// The longest head: flags and opcode, the longest form of the length, the key.
pub(super) const LONGEST_HEAD: usize = 2 + 8 + KEY;
const KEY: usize = 4;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
const MASKED: u8 = 0x80;
const IN_TWO_BYTES: u8 = 126;
const IN_EIGHT_BYTES: u8 = 127;

/// The kind of a frame that is not a continuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A message of UTF-8 text.
    Text = 1,
    /// A message of bytes.
    Binary = 2,
    /// The last frame of one side.
    Close = 8,
    /// Asks for a pong with the same payload.
    Ping = 9,
    /// Answers a ping, or shows unasked that the sender is alive.
    Pong = 10,
}

impl Opcode {
    /// Whether the frame may come between the fragments of a message.
    #[inline]
    pub fn is_control(self) -> bool {
        self as u8 >= Opcode::Close as u8
    }
}

/// The head of a frame as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// `None` for a continuation of an earlier frame.
    pub opcode: Option<Opcode>,
    /// Whether the frame is the last of its message.
    pub fin: bool,
    pub compressed: bool,
    pub key: [u8; KEY],
    /// Length of the payload, bytes.
    pub len: u64,
    /// Length of this head, bytes.
    pub width: usize,
}

impl Start {
    /// The head at the front of `input`; `None` if it is not complete.
    #[inline]
    pub fn read(input: &[u8], settings: &Settings) -> Result<Option<Self>, Violation> {
        let [first, second, rest @ ..] = input else { return Ok(None) };
        let (fin, compressed) = (first & FIN != 0, first & RSV1 != 0);
        let opcode = opcode_of(first & 0x0f)?;
        let may_be_compressed = settings.deflate.is_some() && matches!(opcode, Some(Opcode::Text | Opcode::Binary));
        if first & RSV2_AND_3 != 0 || compressed && !may_be_compressed {
            return Err(Violation::ReservedBits);
        }
        let masked = second & MASKED != 0;
        if masked == settings.client {
            return Err(if masked { Violation::Masked } else { Violation::Unmasked });
        }
        let short = second & !MASKED;
        if opcode.is_some_and(Opcode::is_control) {
            if !fin {
                return Err(Violation::ControlInFragments);
            }
            if usize::from(short) > CONTROL_MOST {
                return Err(Violation::ControlTooLong);
            }
        }
        let Some((len, rest)) = length_of(short, rest)? else { return Ok(None) };
        let (key, rest) = match rest.split_first_chunk::<KEY>() {
            _ if !masked => ([0; KEY], rest),
            Some((key, rest)) => (*key, rest),
            None => return Ok(None),
        };
        Ok(Some(Self { opcode, fin, compressed, key, len, width: input.len() - rest.len() }))
    }
}

#[inline]
fn opcode_of(nibble: u8) -> Result<Option<Opcode>, Violation> {
    Ok(Some(match nibble {
        0 => return Ok(None),
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Err(Violation::ReservedOpcode(nibble)),
    }))
}

/// The length and the bytes after it. The length must have the shortest form.
#[inline]
fn length_of(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    let (len, rest, shortest) = match short {
        IN_EIGHT_BYTES => {
            let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (u64::from_be_bytes(*len), rest, 1 << 16)
        }
        IN_TWO_BYTES => {
            let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (u16::from_be_bytes(*len).into(), rest, u64::from(IN_TWO_BYTES))
        }
        _ => return Ok(Some((short.into(), rest))),
    };
    if len >> 63 != 0 {
        return Err(Violation::LengthWithTopBit);
    }
    if len < shortest { Err(Violation::LengthNotMinimal(len)) } else { Ok(Some((len, rest))) }
}

/// The bytes that are written before a payload.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    bytes: [u8; LONGEST_HEAD],
    len: u8,
}

impl Head {
    pub(super) fn new(opcode: Opcode, compressed: bool, len: usize, mask_key: Option<[u8; KEY]>) -> Self {
        let mut head = Self { bytes: [0; LONGEST_HEAD], len: 0 };
        let mask_bit = if mask_key.is_some() { MASKED } else { 0 };
        head.push(&[FIN | if compressed { RSV1 } else { 0 } | opcode as u8]);
        match (len, u16::try_from(len)) {
            (0..=CONTROL_MOST, _) => head.push(&[mask_bit | len as u8]),
            (_, Ok(len)) => {
                head.push(&[mask_bit | IN_TWO_BYTES]);
                head.push(&len.to_be_bytes());
            }
            _ => {
                head.push(&[mask_bit | IN_EIGHT_BYTES]);
                head.push(&(len as u64).to_be_bytes());
            }
        }
        if let Some(key) = mask_key {
            head.push(&key);
        }
        head
    }

    fn push(&mut self, bytes: &[u8]) {
        let from = usize::from(self.len);
        self.bytes[from..from + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Applies the mask to `payload`, or removes it, and rotates `key` to the byte that comes next.
#[inline]
pub(super) fn mask(payload: &mut [u8], key: &mut [u8; KEY]) {
    let [a, b, c, d] = *key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= key;
    }
    key.rotate_left(payload.len() % KEY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_the_same_at_all_phases_and_lengths() {
        let key = [0x12, 0x9a, 0xf0, 0x07];
        let plain: Vec<u8> = (0..200_u8).collect();
        let naive: Vec<u8> = plain.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect();
        for len in 0..plain.len() {
            for cut in 0..=len.min(40) {
                let (mut payload, mut turned) = (plain[..len].to_vec(), key);
                let (left, right) = payload.split_at_mut(cut);
                mask(left, &mut turned);
                mask(right, &mut turned);
                assert_eq!(payload, naive[..len], "{len} bytes cut at {cut}");
            }
        }
    }

    #[test]
    fn a_head_is_read_back_at_every_edge_of_its_length() {
        let lens = [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 30];
        for (len, client) in lens.into_iter().flat_map(|len| [(len, false), (len, true)]) {
            let settings = Settings { client, max_message: 0, deflate: None };
            let key = (!client).then_some([1, 2, 3, 4]);
            let head = Head::new(Opcode::Binary, false, len, key);
            let start = Start::read(head.bytes(), &settings).expect("it is legal").expect("it is whole");
            assert_eq!((start.len, start.width, start.key), (len as u64, head.bytes().len(), key.unwrap_or_default()));
            assert_eq!((start.opcode, start.fin, start.compressed), (Some(Opcode::Binary), true, false));
            for cut in 0..head.bytes().len() {
                assert!(Start::read(&head.bytes()[..cut], &settings).expect("it is legal").is_none());
            }
        }
    }
}
