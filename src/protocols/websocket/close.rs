//! The payload of a close frame: a code and a reason text (RFC 6455 sections 5.5.1 and 7.4).

use super::frame::CONTROL_MOST;
use super::violation::Violation;

/// The most bytes of the reason in a close frame.
pub const MOST_REASON: usize = CONTROL_MOST - 2;

/// The payload of a close frame; `reason` must have at most 123 bytes.
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// Whether a close frame may carry `code`: a code of the registry that may be sent, or one from 3000 to 4999.
pub fn is_sendable_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The code and the reason in the payload of a close frame.
pub(super) fn parse_close(payload: &[u8]) -> Result<(Option<u16>, &str), Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok((None, "")) } else { Err(Violation::HalfCloseCode) };
    };
    let code = u16::from_be_bytes(*code);
    if !is_sendable_code(code) {
        return Err(Violation::CloseCode(code));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Violation::ReasonNotUtf8)?;
    Ok((Some(code), reason))
}
