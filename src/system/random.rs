//! Unpredictable bytes, as the masks of WebSocket clients must be (RFC 6455 section 10.3).

use std::cell::RefCell;

use crate::error::Error;
use crate::system::fork;

/// Number of bytes that one system call fetches.
const AT_ONCE: usize = 1024;

struct Stock {
    bytes: [u8; AT_ONCE],
    used: usize,
    /// The process that filled the stock: a forked child must not use the bytes that its parent uses.
    birth: u32,
}

thread_local! {
    static STOCK: RefCell<Stock> = const { RefCell::new(Stock { bytes: [0; AT_ONCE], used: AT_ONCE, birth: 0 }) };
}

/// Four random bytes.
pub(crate) fn four() -> Result<[u8; 4], Error> {
    STOCK.with_borrow_mut(|stock| {
        if stock.used == AT_ONCE || fork::is_foreign(stock.birth) {
            let filled = getrandom::fill(&mut stock.bytes);
            filled.map_err(|error| Error::state(format!("the system has no random bytes: {error}")))?;
            (stock.used, stock.birth) = (0, fork::generation());
        }
        let at = stock.used;
        stock.used += 4;
        Ok(std::array::from_fn(|index| stock.bytes[at + index]))
    })
}
