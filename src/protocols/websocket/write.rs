//! Whole frames to send.

use super::frame::{self, Head, Opcode};
use super::settings::Settings;

/// Smaller messages are sent uncompressed: a packet of that size costs the same, and a deflater costs microseconds.
const WORTH_DEFLATING: usize = 256;

/// Appends one whole frame. A message is compressed if that was agreed and makes it smaller.
///
/// A client must give an unpredictable `mask_key`; a server must give none.
pub fn frame(kind: Opcode, payload: &[u8], settings: &Settings, mask_key: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(head(kind, payload.len(), mask_key).bytes());
    let mut body = out.len();
    let deflate = settings.deflate.filter(|_| !kind.is_control() && payload.len() >= WORTH_DEFLATING);
    if deflate.is_some_and(|deflate| deflate.deflate(payload, out)) {
        // The compressed payload is smaller, so its head is no longer than the room left for it.
        let head = Head::new(kind, true, out.len() - body, mask_key);
        let end = start + head.bytes().len();
        out[start..end].copy_from_slice(head.bytes());
        out.drain(end..body);
        body = end;
    } else {
        out.truncate(body);
        out.extend_from_slice(payload);
    }
    if let Some(mut key) = mask_key {
        frame::mask(&mut out[body..], &mut key);
    }
}

/// The head of an uncompressed payload of `len` bytes. With a `mask_key` the caller must mask the payload.
pub fn head(kind: Opcode, len: usize, mask_key: Option<[u8; 4]>) -> Head {
    Head::new(kind, false, len, mask_key)
}

#[cfg(test)]
mod tests {
    use super::super::deflate::Deflate;
    use super::*;

    #[test]
    fn messages_of_some_length_are_compressed_and_control_frames_never() {
        let settings = Settings { client: false, max_message: 1000, deflate: Deflate::new(15) };
        for (kind, len, is_compressed) in [
            (Opcode::Text, WORTH_DEFLATING - 1, false),
            (Opcode::Text, WORTH_DEFLATING, true),
            (Opcode::Binary, WORTH_DEFLATING, true),
            (Opcode::Ping, 125, false),
            (Opcode::Pong, WORTH_DEFLATING, false),
        ] {
            let mut out = Vec::new();
            frame(kind, &vec![b'a'; len], &settings, None, &mut out);
            assert_eq!((out[0] & 0x40 != 0, out.len() < len), (is_compressed, is_compressed), "{kind:?} {len}");
        }
    }
}
