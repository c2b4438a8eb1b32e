//! Looks at a JSON text 64 bytes at a time.
//!
//! Most of what is sent are numbers, and strings without escapes. Of such bytes only quotes and brackets matter to whoever
//! looks for the end of an object, and a few instructions find these in many bytes at once.

use wide::{CmpEq, CmpGt, CmpLt, i8x16};

/// Bytes that are looked at together.
pub(super) const BLOCK: usize = 64;

/// What is in a block: one bit for each byte, the lowest for the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Block {
    pub(super) quotes: u64,
    pub(super) backslashes: u64,
    /// `{`.
    pub(super) braces: u64,
    /// Braces and brackets of all kinds.
    pub(super) brackets: u64,
    /// Brackets, quotes, digits, spaces, and `+,-.:`. Outside of strings anything else needs a closer look.
    pub(super) usual: u64,
}

impl Block {
    #[inline]
    pub(super) fn of(bytes: &[u8; BLOCK]) -> Self {
        let mut block = Self::default();
        let (parts, _) = bytes.as_chunks::<16>();
        for (i, part) in parts.iter().enumerate() {
            let bytes = i8x16::new(part.map(|byte| byte as i8));
            let is = |byte: u8| bytes.cmp_eq(i8x16::splat(byte as i8));
            // This bit tells brackets from braces, and is in both kinds of braces.
            let braced = bytes | i8x16::splat(0x20);
            let brackets = braced.cmp_eq(i8x16::splat(b'{' as i8)) | braced.cmp_eq(i8x16::splat(b'}' as i8));
            let from_plus_to_colon =
                bytes.cmp_gt(i8x16::splat(b'+' as i8 - 1)) & bytes.cmp_lt(i8x16::splat(b':' as i8 + 1));
            let bits = |found: i8x16| u64::from(found.move_mask() as u16) << (16 * i);
            block.quotes |= bits(is(b'"'));
            block.backslashes |= bits(is(b'\\'));
            block.braces |= bits(is(b'{'));
            block.brackets |= bits(brackets);
            // The slash is between them.
            block.usual |= bits(from_plus_to_colon) & !bits(is(b'/')) | bits(is(b' '));
        }
        block.usual |= block.quotes | block.brackets;
        block
    }

    /// The bytes of strings, from the quote that opens one up to the byte before that which closes it, where no quote is
    /// escaped. `inside`: the block begins in a string.
    pub(super) fn strings(&self, inside: bool) -> u64 {
        let mut bits = self.quotes;
        for shift in [1, 2, 4, 8, 16, 32] {
            bits ^= bits << shift;
        }
        if inside { !bits } else { bits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_known_at_each_place() {
        for byte in 0..=u8::MAX {
            for at in 0..BLOCK {
                let mut bytes = [b'x'; BLOCK];
                bytes[at] = byte;
                let bit = |what: &[u8]| u64::from(what.contains(&byte)) << at;
                let want = Block {
                    quotes: bit(b"\""),
                    backslashes: bit(b"\\"),
                    braces: bit(b"{"),
                    brackets: bit(b"{}[]"),
                    usual: bit(b"{}[]\"0123456789 +,-.:"),
                };
                assert_eq!(Block::of(&bytes), want, "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn strings_go_from_quote_to_quote() {
        let quotes = |places: &[u32]| places.iter().map(|at| 1u64 << at).sum();
        let block = Block { quotes: quotes(&[3, 6, 10]), ..Block::default() };
        assert_eq!(block.strings(false), 0b111 << 3 | u64::MAX << 10);
        assert_eq!(block.strings(true), 0b111 | 0b1111 << 6);
        assert_eq!(Block::default().strings(true), u64::MAX);
        assert_eq!(Block::default().strings(false), 0);
    }
}
