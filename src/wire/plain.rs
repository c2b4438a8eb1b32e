//! Pieces of a JSON text that has no surprises: what most texts are made of. Whoever reads with this leaves everything else to
//! a reader of all JSON.

/// What is not read yet.
pub(crate) struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// All of it.
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self(text)
    }

    /// How many bytes are left.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The next byte.
    pub(crate) fn first(&self) -> Option<&u8> {
        self.0.first()
    }

    /// Just this.
    pub(crate) fn literal(&mut self, literal: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(literal.as_bytes())?;
        Some(())
    }

    /// Just this, and then nothing.
    pub(crate) fn last(self, literal: &str) -> Option<()> {
        (self.0 == literal.as_bytes()).then_some(())
    }

    /// A signed integer of 64 bits, written as JSON wants it.
    pub(crate) fn int(&mut self) -> Option<i64> {
        // All of them fit into 64 bits without a sign.
        const MOST_DIGITS: usize = 19;
        let negative = self.0.first() == Some(&b'-');
        let digits = &self.0[usize::from(negative)..];
        let (mut value, mut count) = (0_u64, 0);
        while let Some(digit) = digits.get(count).filter(|byte| byte.is_ascii_digit()) {
            if count == MOST_DIGITS {
                return None;
            }
            value = value * 10 + u64::from(digit - b'0');
            count += 1;
        }
        if count == 0 || digits[0] == b'0' && (count > 1 || negative) {
            return None;
        }
        self.0 = &digits[count..];
        let value = i64::try_from(value).ok()?;
        Some(if negative { -value } else { value })
    }

    /// A string that stands in JSON as it is.
    pub(crate) fn string(&mut self) -> Option<&'a str> {
        let rest = self.0.strip_prefix(b"\"")?;
        let len = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        let (text, rest) = rest.split_at(len);
        self.0 = rest.strip_prefix(b"\"")?;
        std::str::from_utf8(text).ok()
    }
}
