//! A slab whose keys carry a generation, so that a key kept too long finds nothing instead of a stranger.
//!
//! No sockets, no clock, no Python in here. A key matches only the value it was made for: the generation is one
//! counter over all insertions, so a stale key could match again only after 2^32 of them.

use slab::Slab;

/// Names one value of a [`Slots`]: the place in the slab and the generation that lived there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    slot: u32,
    generation: u32,
}

impl Token {
    /// The place in the slab: small, dense and reused; fit to index a side table.
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// Both halves in one word, as the poll and the Python objects store it.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The reverse of [`Token::to_bits`].
    pub fn from_bits(bits: u64) -> Self {
        Self { slot: bits as u32, generation: (bits >> 32) as u32 }
    }
}

struct Entry<T> {
    generation: u32,
    value: T,
}

/// The values, found by [`Token`].
pub struct Slots<T> {
    slab: Slab<Entry<T>>,
    generations: u32,
}

impl<T> Slots<T> {
    /// An empty table.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// An empty table with memory for `capacity` values.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { slab: Slab::with_capacity(capacity), generations: 0 }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Stores what `make` returns for the token it will have.
    pub fn insert_with(&mut self, make: impl FnOnce(Token) -> T) -> Token {
        let generation = self.next_generation();
        let entry = self.slab.vacant_entry();
        let token = Token { slot: entry.key() as u32, generation };
        entry.insert(Entry { generation: token.generation, value: make(token) });
        token
    }

    /// The value of `token`, if it is still there.
    pub fn get(&self, token: Token) -> Option<&T> {
        match self.slab.get(token.slot()) {
            Some(entry) if entry.generation == token.generation => Some(&entry.value),
            _ => None,
        }
    }

    /// The value of `token`, if it is still there.
    pub fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        match self.slab.get_mut(token.slot()) {
            Some(entry) if entry.generation == token.generation => Some(&mut entry.value),
            _ => None,
        }
    }

    /// Takes the value of `token` out; the token is stale from here on.
    pub fn remove(&mut self, token: Token) -> Option<T> {
        self.get(token)?;
        Some(self.slab.remove(token.slot()).value)
    }

    /// Gives the value of `token` a new generation in the same place; the old token is stale from here on.
    pub fn renew(&mut self, token: Token) -> Option<Token> {
        let generation = self.next_generation();
        let entry = self.slab.get_mut(token.slot()).filter(|entry| entry.generation == token.generation)?;
        entry.generation = generation;
        Some(Token { slot: token.slot, generation })
    }

    fn next_generation(&mut self) -> u32 {
        // 0 and u32::MAX are left out: so no token has the bits of no timer at all, of the poller's own mio tokens.
        self.generations = if self.generations >= u32::MAX - 1 { 1 } else { self.generations + 1 };
        self.generations
    }

    /// The tokens of all values, in slot order.
    pub fn tokens(&self) -> Vec<Token> {
        self.slab.iter().map(|(slot, entry)| Token { slot: slot as u32, generation: entry.generation }).collect()
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// What is kept beside a [`Slots`] for the same tokens: handler objects, callbacks.
pub struct Table<T> {
    entries: Vec<Option<Entry<T>>>,
}

impl<T> Table<T> {
    /// Keeps `value` for `token`; returns what a token of the same place has left behind.
    pub fn put(&mut self, token: Token, value: T) -> Option<T> {
        if self.entries.len() <= token.slot() {
            self.entries.resize_with(token.slot() + 1, || None);
        }
        let entry = Entry { generation: token.generation, value };
        self.entries[token.slot()].replace(entry).map(|before| before.value)
    }

    /// The value of exactly this token.
    pub fn get(&self, token: Token) -> Option<&T> {
        let entry = self.entries.get(token.slot())?.as_ref()?;
        (entry.generation == token.generation).then_some(&entry.value)
    }

    /// Takes the value of exactly this token out.
    pub fn take(&mut self, token: Token) -> Option<T> {
        self.get(token)?;
        self.entries.get_mut(token.slot())?.take().map(|entry| entry.value)
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_finds_the_value_that_took_its_place() {
        let mut slots = Slots::new();
        let first = slots.insert_with(|_| 'a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert_with(|_| 'b');
        assert_eq!(first.slot(), second.slot());
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&'b'));
    }

    #[test]
    fn renewing_makes_the_old_token_stale_and_keeps_the_value() {
        let mut slots = Slots::new();
        let old = slots.insert_with(|_| 1);
        let new = slots.renew(old).expect("present");
        assert_eq!((slots.get(old), slots.get(new)), (None, Some(&1)));
        assert_eq!(slots.renew(old), None);
    }

    #[test]
    fn a_token_survives_the_round_trip_through_its_bits() {
        let token = Token { slot: 7, generation: u32::MAX - 1 };
        assert_eq!(Token::from_bits(token.to_bits()), token);
    }
}
