//! CRC32C, the checksum of a header (RFC 9260 appendix A). It is computed once a connection, and by few proxies.

use std::ops::Range;

/// The polynomial of Castagnoli, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut sum, mut bit) = (byte as u32, 0);
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

/// The checksum of some bytes.
fn crc32c(bytes: impl IntoIterator<Item = u8>) -> u32 {
    !bytes.into_iter().fold(!0, |sum, byte| TABLE[((sum ^ u32::from(byte)) & 0xff) as usize] ^ (sum >> 8))
}

/// Whether a header has the checksum that stands in it at `place`. That place itself counts as zeros.
pub fn is_right(header: &[u8], place: Range<usize>) -> bool {
    let zeroed = |(at, byte): (usize, &u8)| if place.contains(&at) { 0 } else { *byte };
    let sum = crc32c(header.iter().enumerate().map(zeroed));
    header.get(place.clone()).is_some_and(|found| found == sum.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        assert_eq!(crc32c(*b"123456789"), 0xe306_9283);
        assert_eq!(crc32c([0; 32]), 0x8a91_36aa);
    }
}
