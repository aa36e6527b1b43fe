//! How plain data stands in a payload: field after field.

use std::time::Duration;

use crate::wire::bytes::{self, Reader};
use crate::wire::frame::Fault;
use crate::wire::{BuildId, Secret};

/// What can be written to a payload and read back.
pub(crate) trait Plain: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(reader: &mut Reader<'_>) -> Result<Self, Fault>;
}

macro_rules! plain_numbers {
    ($( $type:ident )*) => { $(
        impl Plain for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, Fault> {
                reader.array().map($type::from_le_bytes)
            }
        }
    )* };
}

plain_numbers! { u8 u16 u32 u64 i32 i64 }

impl Plain for f64 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let value = reader.f64()?;
        if value.is_finite() { Ok(value) } else { Err(Fault::Value("a number is not finite")) }
    }
}

impl Plain for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        reader.bool()
    }
}

/// To the microsecond; longer than 500,000 years is for ever.
impl Plain for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        u64::try_from(self.as_micros()).unwrap_or(u64::MAX).put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        reader.u64().map(Self::from_micros)
    }
}

impl Plain for String {
    fn put(&self, out: &mut Vec<u8>) {
        // A text of 4 GiB makes the frame too long, so its length does not matter.
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        out.extend_from_slice(self.as_bytes());
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let text = bytes::text(reader.long()?)?;
        if text.contains('\0') {
            Err(Fault::Value("a text contains NUL"))
        } else {
            Ok(text.to_owned())
        }
    }
}

impl Plain for Secret {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes());
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        reader.array().map(Self::new)
    }
}

impl Plain for BuildId {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        reader.array()
    }
}

impl<T: Plain> Plain for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        if reader.bool()? { T::take(reader).map(Some) } else { Ok(None) }
    }
}

impl<T: Plain> Plain for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        // As with texts: a list that long does not fit a frame.
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        for value in self {
            value.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let count = reader.u32()?;
        // Nothing is reserved for what is only announced; each entry takes at least a byte of the
        // frame, whose end ends the list.
        let mut list = Self::new();
        for _ in 0..count {
            list.push(T::take(reader)?);
        }
        Ok(list)
    }
}

/// Structures whose fields follow each other in a payload.
macro_rules! plain {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident: $type:ty, )*
        }
    )*) => { $(
        $(#[$meta])*
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl Plain for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $( self.$field.put(out); )*
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, Fault> {
                Ok(Self { $( $field: Plain::take(reader)?, )* })
            }
        }
    )* };
}

/// Enumerations that are one byte.
macro_rules! plain_choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $number:literal, )*
        }
    ) => {
        $(#[$meta])*
        #[repr(u8)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant = $number, )*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[ $( Self::$variant ),* ];
        }

        impl Plain for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(*self as u8);
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, Fault> {
                match reader.u8()? {
                    $( $number => Ok(Self::$variant), )*
                    _ => Err(Fault::Value(concat!("a ", stringify!($name), " is none"))),
                }
            }
        }
    };
}

pub(super) use {plain, plain_choice};
