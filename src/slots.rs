//! Tables with keys that carry a generation, so that a key kept too long finds nothing instead of another value.
//!
//! This module uses no sockets, no clock and no Python. A key matches only the value it was made for. The generation
//! is one counter over all insertions, so a stale key could match again only after 2^32 of them.
//!
//! The values lie in chunks. A table that grows copies none of them, and leaves no smaller copy of itself in the heap.
//!
//! A table that a flood made large gives its memory back when three quarters of the values are gone. A value cannot
//! move, so a value of the flood that stays keeps the memory of the slots below it.

use std::num::NonZeroU32;

/// The name of one value of a [`Slots`]: its slot in the table, and the generation of the value in that slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    slot: u32,
    generation: NonZeroU32,
}

impl Token {
    /// The slot: a small number, dense and reused, so that it can index a side table.
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// Slot and generation in one word, as the poll and the Python objects store it.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation.get()) << 32 | u64::from(self.slot)
    }

    /// The reverse of [`Token::to_bits`].
    pub fn from_bits(bits: u64) -> Self {
        // No value has the largest generation.
        let generation = NonZeroU32::new((bits >> 32) as u32).unwrap_or(NonZeroU32::MAX);
        Self { slot: bits as u32, generation }
    }
}

struct Entry<T> {
    generation: NonZeroU32,
    value: T,
}

/// A table with fewer slots than this keeps its memory.
const SHRINK_AT_LEAST: usize = 1024;

/// The number of values at which a table is next tried to be made smaller. It halves with each attempt, so that all
/// attempts together cost no more than the growth.
#[derive(Default)]
struct LowMark(usize);

impl LowMark {
    /// Notes that the table grows beyond its memory, which has `len` values.
    fn grows(&mut self, len: usize) {
        if len >= SHRINK_AT_LEAST {
            self.0 = len / 2;
        }
    }

    /// Whether the table of `len` values is to be made smaller now.
    #[inline]
    fn is_due(&mut self, len: usize) -> bool {
        len < self.0 && {
            self.0 = len.div_ceil(2);
            true
        }
    }
}

/// Number of slots in a chunk.
const CHUNK: usize = 64;

/// One slot.
enum Slot<T> {
    Taken(Entry<T>),
    /// Free, and before this slot in the list of the free ones; [`NO_SLOT`] ends the list.
    Free(u32),
}

const NO_SLOT: u32 = u32::MAX;

type Chunk<T> = Box<[Slot<T>; CHUNK]>;

/// A chunk of free slots, each listed before the next one. The first one has the number `first`.
fn new_chunk<T>(first: u32) -> Chunk<T> {
    let last = CHUNK - 1;
    Box::new(std::array::from_fn(|at| Slot::Free(if at == last { NO_SLOT } else { first + at as u32 + 1 })))
}

/// A table of values that are found by [`Token`].
pub struct Slots<T> {
    chunks: Vec<Chunk<T>>,
    /// The first free slot.
    free: u32,
    len: usize,
    generations: u32,
    low: LowMark,
    /// The number of values that memory was reserved for.
    reserved: usize,
}

impl<T> Slots<T> {
    /// An empty table.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// An empty table with memory for `capacity` values.
    pub fn with_capacity(capacity: usize) -> Self {
        let (low, reserved) = (LowMark::default(), capacity);
        let mut slots = Self { chunks: Vec::new(), free: NO_SLOT, len: 0, generations: 0, low, reserved };
        slots.chunks.extend((0..capacity.div_ceil(CHUNK)).map(|number| new_chunk((number * CHUNK) as u32)));
        slots.list_free();
        slots
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls `make` with the new token, and stores the value that it returns.
    pub fn insert_with(&mut self, make: impl FnOnce(Token) -> T) -> Token {
        if self.free == NO_SLOT {
            self.grow();
        }
        let token = Token { slot: self.free, generation: self.next_generation() };
        let taken = Slot::Taken(Entry { generation: token.generation, value: make(token) });
        if let Some(slot) = self.slot_mut(token.slot())
            && let Slot::Free(next) = std::mem::replace(slot, taken)
        {
            self.free = next;
            self.len += 1;
        }
        token
    }

    #[cold]
    fn grow(&mut self) {
        self.low.grows(self.len);
        self.free = (self.chunks.len() * CHUNK) as u32;
        self.chunks.push(new_chunk(self.free));
    }

    #[inline]
    fn slot(&self, slot: usize) -> Option<&Slot<T>> {
        Some(&self.chunks.get(slot / CHUNK)?[slot % CHUNK])
    }

    #[inline]
    fn slot_mut(&mut self, slot: usize) -> Option<&mut Slot<T>> {
        Some(&mut self.chunks.get_mut(slot / CHUNK)?[slot % CHUNK])
    }

    #[inline]
    fn entry_mut(&mut self, token: Token) -> Option<&mut Entry<T>> {
        match self.slot_mut(token.slot()) {
            Some(Slot::Taken(entry)) if entry.generation == token.generation => Some(entry),
            _ => None,
        }
    }

    /// The value of `token`; `None` if the token is stale.
    pub fn get(&self, token: Token) -> Option<&T> {
        match self.slot(token.slot()) {
            Some(Slot::Taken(entry)) if entry.generation == token.generation => Some(&entry.value),
            _ => None,
        }
    }

    /// The value of `token`; `None` if the token is stale.
    pub fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        self.entry_mut(token).map(|entry| &mut entry.value)
    }

    /// Removes the value of `token` and returns it; the token is stale afterwards.
    pub fn remove(&mut self, token: Token) -> Option<T> {
        self.get(token)?;
        let free = Slot::Free(self.free);
        let Slot::Taken(removed) = std::mem::replace(self.slot_mut(token.slot())?, free) else { return None };
        self.free = token.slot;
        self.len -= 1;
        if self.low.is_due(self.len) {
            self.shrink();
        }
        Some(removed.value)
    }

    /// Frees the chunks behind the last value.
    #[cold]
    fn shrink(&mut self) {
        let last = self.chunks.iter().rposition(|chunk| chunk.iter().any(|slot| matches!(slot, Slot::Taken(_))));
        let kept = last.map_or(0, |last| last + 1);
        self.chunks.truncate(kept.max(self.reserved.div_ceil(CHUNK)));
        self.chunks.shrink_to_fit();
        self.list_free();
    }

    /// Lists the free slots. The lowest are taken first, so that the memory behind them can be freed again.
    fn list_free(&mut self) {
        self.free = NO_SLOT;
        for number in (0..self.chunks.len() * CHUNK).rev() {
            let next = self.free;
            if let Some(Slot::Free(before)) = self.slot_mut(number) {
                *before = next;
                self.free = number as u32;
            }
        }
    }

    /// Gives the value of `token` a new generation in the same slot; the old token is stale afterwards.
    pub fn renew(&mut self, token: Token) -> Option<Token> {
        let generation = self.next_generation();
        self.entry_mut(token)?.generation = generation;
        Some(Token { slot: token.slot, generation })
    }

    fn next_generation(&mut self) -> NonZeroU32 {
        // 0 and u32::MAX are skipped. So no token has the bits that stand for "no timer", or those of the poller's
        // own mio tokens.
        self.generations = if self.generations >= u32::MAX - 1 { 1 } else { self.generations + 1 };
        NonZeroU32::new(self.generations).unwrap_or(NonZeroU32::MIN)
    }

    /// All values, in slot order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries().map(|(_, entry)| &entry.value)
    }

    /// The tokens of all values, in slot order.
    pub fn tokens(&self) -> Vec<Token> {
        self.entries().map(|(slot, entry)| Token { slot: slot as u32, generation: entry.generation }).collect()
    }

    fn entries(&self) -> impl Iterator<Item = (usize, &Entry<T>)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).enumerate().filter_map(|(number, slot)| match slot {
            Slot::Taken(entry) => Some((number, entry)),
            Slot::Free(_) => None,
        })
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A side table of a [`Slots`], indexed by the same tokens: handler objects, callbacks.
pub struct Table<T> {
    entries: Vec<Option<Entry<T>>>,
    len: usize,
    low: LowMark,
}

impl<T> Table<T> {
    /// Stores `value` for `token`. Returns the value that an older token of the same slot left behind.
    pub fn put(&mut self, token: Token, value: T) -> Option<T> {
        if self.entries.len() <= token.slot() {
            self.low.grows(self.len);
            self.entries.resize_with(token.slot() + 1, || None);
        }
        let entry = Entry { generation: token.generation, value };
        let before = self.entries[token.slot()].replace(entry);
        self.len += usize::from(before.is_none());
        before.map(|before| before.value)
    }

    /// Calls `look` with each value.
    pub fn each(&self, look: impl FnMut(&T)) {
        self.entries.iter().flatten().map(|entry| &entry.value).for_each(look);
    }

    /// The value of exactly this token; `None` for any other generation.
    pub fn get(&self, token: Token) -> Option<&T> {
        let entry = self.entries.get(token.slot())?.as_ref()?;
        (entry.generation == token.generation).then_some(&entry.value)
    }

    /// Removes the value of exactly this token and returns it.
    pub fn take(&mut self, token: Token) -> Option<T> {
        self.get(token)?;
        let taken = self.entries.get_mut(token.slot())?.take().map(|entry| entry.value);
        self.len -= usize::from(taken.is_some());
        if self.low.is_due(self.len) {
            self.shrink();
        }
        taken
    }

    #[cold]
    fn shrink(&mut self) {
        while let Some(None) = self.entries.last() {
            self.entries.pop();
        }
        self.entries.shrink_to_fit();
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), len: 0, low: LowMark::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl<T> Slots<T> {
        fn capacity(&self) -> usize {
            self.chunks.len() * CHUNK
        }
    }

    fn token_of(slot: u32, generation: u32) -> Token {
        Token { slot, generation: NonZeroU32::new(generation).expect("a generation is never 0") }
    }

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
    fn a_stale_token_finds_nothing_to_change_and_nothing_to_renew() {
        let mut slots = Slots::new();
        let stale = slots.insert_with(|_| 'a');
        slots.remove(stale);
        let token = slots.insert_with(|_| 'b');
        assert_eq!(slots.get_mut(stale), None);
        assert_eq!(slots.renew(stale), None);
        assert_eq!(slots.get_mut(token), Some(&mut 'b'));
    }

    #[test]
    fn the_tokens_are_those_of_the_values_that_are_there() {
        let mut slots = Slots::new();
        assert!(slots.is_empty());
        let tokens: Vec<_> = (0..3).map(|n| slots.insert_with(|_| n)).collect();
        assert!(!slots.is_empty());
        slots.remove(tokens[1]);
        assert_eq!((slots.len(), slots.tokens()), (2, vec![tokens[0], tokens[2]]));
    }

    #[test]
    fn a_value_is_made_with_the_token_that_finds_it() {
        let mut slots = Slots::new();
        let token = slots.insert_with(|token| token);
        assert_eq!(slots.get(token), Some(&token));
    }

    #[test]
    fn generations_begin_again_at_one_and_leave_the_ends_of_the_range_out() {
        let mut slots = Slots { generations: u32::MAX - 2, ..Slots::new() };
        let generations: Vec<_> = (0..3).map(|_| slots.insert_with(|_| ()).generation.get()).collect();
        assert_eq!(generations, [u32::MAX - 1, 1, 2]);
    }

    #[test]
    fn a_flood_leaves_no_memory_behind() {
        for last_first in [false, true] {
            let (mut slots, mut table) = (Slots::new(), Table::default());
            let mut tokens: Vec<_> = (0..100_000).map(|n| slots.insert_with(|_| n)).collect();
            tokens.iter().for_each(|token| assert_eq!(table.put(*token, 'x'), None));
            assert!(slots.capacity() >= 100_000 && table.entries.capacity() >= 100_000);
            if last_first {
                tokens.reverse();
            }
            for token in tokens {
                assert_eq!((slots.remove(token).is_some(), table.take(token)), (true, Some('x')));
            }
            assert!(slots.capacity() <= SHRINK_AT_LEAST, "{}", slots.capacity());
            assert!(table.entries.capacity() <= SHRINK_AT_LEAST, "{}", table.entries.capacity());
            let token = slots.insert_with(|_| 1);
            assert_eq!((token.slot(), table.put(token, 'y'), table.get(token)), (0, None, Some(&'y')));
        }
    }

    #[test]
    fn a_table_that_grows_moves_no_value() {
        let mut slots = Slots::new();
        let first = slots.insert_with(|n| n);
        let before = std::ptr::from_ref(slots.get(first).expect("present"));
        (0..10_000).for_each(|_| _ = slots.insert_with(|n| n));
        assert!(std::ptr::eq(before, slots.get(first).expect("present")));
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(steps in proptest::collection::vec((0..800_usize, 1..800_usize), 1..8)) {
            let (mut slots, mut model) = (Slots::new(), BTreeMap::new());
            for (added, removed) in steps {
                for number in 0..added {
                    let token = slots.insert_with(|_| number);
                    prop_assert_eq!(model.insert(token, number), None);
                }
                let gone: Vec<_> = model.keys().copied().step_by(1 + 7 % removed).take(removed).collect();
                for token in gone {
                    prop_assert_eq!(slots.remove(token), model.remove(&token));
                }
                prop_assert_eq!(slots.len(), model.len());
                prop_assert_eq!(slots.tokens(), model.keys().copied().collect::<Vec<_>>());
                prop_assert!(slots.values().eq(model.values()));
            }
        }
    }

    #[test]
    fn memory_that_was_reserved_stays() {
        let mut slots = Slots::with_capacity(5000);
        let tokens: Vec<_> = (0..50_000).map(|n| slots.insert_with(|_| n)).collect();
        tokens.into_iter().for_each(|token| assert!(slots.remove(token).is_some()));
        assert!((5000..10_000).contains(&slots.capacity()), "{}", slots.capacity());
    }

    #[test]
    fn a_value_of_a_flood_that_stays_is_found_and_costs_few_attempts() {
        let mut slots = Slots::new();
        let tokens: Vec<_> = (0..10_000).map(|n| slots.insert_with(|_| n)).collect();
        let (last, others) = tokens.split_last().expect("there are some");
        others.iter().for_each(|token| assert!(slots.remove(*token).is_some()));
        assert_eq!((slots.get(*last), slots.len()), (Some(&9_999), 1));
        assert!(slots.low.0 <= 1);
    }

    #[test]
    fn a_table_keeps_one_value_a_place_and_shows_it_to_its_own_token_only() {
        let (old, new) = (token_of(2, 5), token_of(2, 6));
        let mut table = Table::default();
        assert_eq!((table.get(old).copied(), table.take(old)), (None, None));
        assert_eq!(table.put(old, 'a'), None);
        assert_eq!((table.get(old).copied(), table.get(new).copied(), table.take(new)), (Some('a'), None, None));
        assert_eq!(table.put(new, 'b'), Some('a'));
        assert_eq!((table.get(old).copied(), table.take(new), table.take(new)), (None, Some('b'), None));
        assert_eq!(table.put(token_of(0, 7), 'c'), None);
    }

    #[test]
    fn a_token_survives_the_round_trip_through_its_bits() {
        let token = token_of(7, u32::MAX - 1);
        assert_eq!(token.to_bits(), 0xffff_fffe_0000_0007);
        assert_eq!(Token::from_bits(token.to_bits()), token);
    }
}
