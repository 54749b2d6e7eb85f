//! Tokens of the poll: those of sources, and two that belong to no source.

use crate::slots::Token;

pub(super) const WAKER: mio::Token = mio::Token(usize::MAX);
pub(super) const SIGNALS: mio::Token = mio::Token(usize::MAX - 1);

pub(super) fn mio_token(token: Token) -> mio::Token {
    mio::Token(token.to_bits() as usize)
}
