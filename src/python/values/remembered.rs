//! The head of the last answer with fields in a dict. Most handlers answer with the same few texts each time.
//!
//! A dict may change, and a `str` never does. So a head is the same as before if each item of the dict is the same object as
//! before. The texts are kept alive meanwhile, so no other object gets their address.

use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::PyDict;

use super::arguments::item_at;
use crate::protocols::http::Head;

/// The most fields, and the most bytes, of a head that is kept.
const MOST_FIELDS: usize = 8;
const MOST_BYTES: usize = 1024;

/// The texts of the fields of a head, in their order; all of them are `str` itself.
pub type Texts = Vec<(Py<PyAny>, Py<PyAny>)>;

/// The heads that a poller remembers.
#[derive(Default)]
pub struct Remembered {
    last: Option<(Texts, Head)>,
    /// The address of the dict of the last head that was written. Fields that come once are not worth the memory.
    seen: usize,
}

impl Remembered {
    /// A copy of the kept head, if it is that of this status and of these items.
    pub fn find(&self, status: u16, fields: &Bound<'_, PyDict>, buffer: impl FnOnce() -> Vec<u8>) -> Option<Head> {
        let (texts, head) = self.last.as_ref()?;
        if head.status() != status || fields.len() != texts.len() {
            return None;
        }
        let is_same = with_critical_section(fields, || {
            let mut position = 0;
            texts.iter().all(|(name, value)| {
                item_at(fields, &mut position).is_some_and(|(key, item)| key.is(name) && item.is(value))
            })
        });
        is_same.then(|| head.copied_into(buffer()))
    }

    /// Whether the fields come from the place of the last ones, and so may come once more.
    pub fn come_again(&mut self, fields: &Bound<'_, PyDict>) -> bool {
        let address = fields.as_ptr().addr();
        std::mem::replace(&mut self.seen, address) == address && fields.len() <= MOST_FIELDS
    }

    /// Keeps the head of these texts, unless it is large.
    pub fn keep(&mut self, texts: Texts, head: &Head) {
        if head.len() <= MOST_BYTES {
            self.last = Some((texts, head.copied_into(Vec::new())));
        }
    }
}
