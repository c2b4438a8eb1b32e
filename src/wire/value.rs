//! Reads single JSON values as C does: a value of the wrong type is no syntax error, its reader decides.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Any JSON value, of which only integers matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// An integer up to `i64::MAX`.
    Signed(i64),
    /// An integer above: C's writers send such numbers as negative ones and its readers refuse these; we take both.
    Unsigned(u64),
    /// Anything else.
    Other,
}

impl Number {
    /// As jansson's `I` gives it: 64 bits, signed or not.
    pub(super) fn wide(self) -> Option<u64> {
        match self {
            Self::Signed(value) => Some(value as u64),
            Self::Unsigned(value) => Some(value),
            Self::Other => None,
        }
    }

    /// A signed integer.
    pub(super) fn signed(self) -> Option<i64> {
        match self {
            Self::Signed(value) => Some(value),
            Self::Unsigned(_) | Self::Other => None,
        }
    }

    /// 32 bits, which C packs as an int: what is 2^31 and more goes out negative.
    pub(super) fn narrow(self) -> Option<u32> {
        match self {
            Self::Signed(value) => match i32::try_from(value) {
                Ok(value) => Some(value as u32),
                Err(_) => u32::try_from(value).ok(),
            },
            Self::Unsigned(_) | Self::Other => None,
        }
    }

    /// Whether it is an integer at all.
    pub(super) fn is_integer(self) -> bool {
        self != Self::Other
    }
}

/// Drains an array that nobody wants.
pub(super) fn drain_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Drains an object that nobody wants.
pub(super) fn drain_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Visitor methods for the scalar types that are not wanted.
macro_rules! other_scalars {
    ($value:expr, $($kind:ident)*) => { $( other_scalars!(@ $kind, $value); )* };
    (@ text, $value:expr) => {
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
    (@ scalars, $value:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
    (@ numbers, $value:expr) => {
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($value)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
    (@ seq, $value:expr) => {
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            $crate::wire::value::drain_seq(seq)?;
            Ok($value)
        }
    };
    (@ map, $value:expr) => {
        fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            $crate::wire::value::drain_map(map)?;
            Ok($value)
        }
    };
}
pub(super) use other_scalars;

/// Implements [`DeserializeSeed`] for a visitor that takes any value.
macro_rules! any_seed {
    ($seed:ty) => {
        impl<'de> serde::de::DeserializeSeed<'de> for $seed {
            type Value = <Self as serde::de::Visitor<'de>>::Value;

            fn deserialize<D: serde::de::Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
                d.deserialize_any(self)
            }
        }
    };
}
pub(super) use any_seed;

/// Reads a [`Number`].
#[derive(Clone, Copy)]
pub(super) struct AnyNumber;

impl<'de> Visitor<'de> for AnyNumber {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
        Ok(Number::Signed(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
        Ok(i64::try_from(value).map_or(Number::Unsigned(value), Number::Signed))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
        // serde_json reads the integer `-0` as a float.
        Ok(if value == 0.0 && value.is_sign_negative() { Number::Signed(0) } else { Number::Other })
    }

    other_scalars!(Number::Other, text scalars seq map);
}
any_seed!(AnyNumber);

/// Reads a string, `None` for any other value.
#[derive(Clone, Copy)]
pub(super) struct AnyString;

impl<'de> Visitor<'de> for AnyString {
    type Value = Option<Box<str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Some(value.into()))
    }

    other_scalars!(None, scalars numbers seq map);
}
any_seed!(AnyString);

/// Reads a boolean, `None` for any other value.
#[derive(Clone, Copy)]
pub(super) struct AnyBool;

impl<'de> Visitor<'de> for AnyBool {
    type Value = Option<bool>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(value))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    other_scalars!(None, text numbers seq map);
}
any_seed!(AnyBool);

/// Reads all members of an object with `member`, which must consume each value. Other values than objects give `None`.
pub(super) struct AnyObject<M>(pub(super) M);

/// What [`AnyObject`] calls for each member.
pub(super) trait Member<'de> {
    /// Takes the value of `key` out of `map`.
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// A key, without a copy where the text has no escapes.
struct Key<'a, M>(&'a mut M);

struct KeyText;

impl<'de> DeserializeSeed<'de> for KeyText {
    type Value = std::borrow::Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeyText {
    type Value = std::borrow::Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(std::borrow::Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(std::borrow::Cow::Owned(key.to_owned()))
    }
}

impl<'de, M: Member<'de>> Key<'_, M> {
    fn drain<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeyText)? {
            self.0.member(&key, &mut map)?;
        }
        Ok(())
    }
}

impl<'de, M: Member<'de>> Visitor<'de> for AnyObject<M> {
    type Value = Option<M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<Self::Value, A::Error> {
        Key(&mut self.0).drain(map)?;
        Ok(Some(self.0))
    }

    other_scalars!(None, text scalars numbers seq);
}

impl<'de, M: Member<'de>> DeserializeSeed<'de> for AnyObject<M> {
    type Value = Option<M>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_any(self)
    }
}

/// Calls `element` for each element of an array, with its index; it must consume the element. `None` for other values.
pub(super) struct AnyArray<L>(pub(super) L);

/// What [`AnyArray`] reads each element with.
pub(super) trait Element<'de> {
    /// Takes the next element. Returns `false` at the end of the array.
    fn element<A: SeqAccess<'de>>(&mut self, seq: &mut A) -> Result<bool, A::Error>;
}

impl<'de, L: Element<'de>> Visitor<'de> for AnyArray<L> {
    type Value = Option<L>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self::Value, A::Error> {
        while self.0.element(&mut seq)? {}
        Ok(Some(self.0))
    }

    other_scalars!(None, text scalars numbers map);
}

impl<'de, L: Element<'de>> DeserializeSeed<'de> for AnyArray<L> {
    type Value = Option<L>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_any(self)
    }
}
