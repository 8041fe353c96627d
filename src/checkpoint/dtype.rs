//! Element types, and how raw bytes become numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Type of a tensor's elements. Files hold them little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE 754 double precision.
    F64,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `f32`.
    Bf16,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 16-bit signed integer.
    I16,
    /// 8-bit signed integer.
    I8,
    /// 64-bit unsigned integer.
    U64,
    /// 32-bit unsigned integer.
    U32,
    /// 16-bit unsigned integer.
    U16,
    /// 8-bit unsigned integer.
    U8,
    /// One byte, zero or not.
    Bool,
}

impl Dtype {
    /// Bytes of one element: 1, 2, 4 or 8.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether elements are floating-point numbers: weights and running averages are, counters and masks are not.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Short name, as in `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U64 => "u64",
            Self::U32 => "u32",
            Self::U16 => "u16",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Elements of a tensor as numbers that hold them without loss: floats of at most 32 bits as `f32`, everything else as
/// `f64` (64-bit integers beyond 2^53 are rounded).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values<'a> {
    /// From `f32`, `f16` or `bf16`.
    F32(&'a [f32]),
    /// From `f64`, integers or `bool`.
    F64(&'a [f64]),
}

/// Room for decoded elements, reused from block to block.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    single: Vec<f32>,
    double: Vec<f64>,
}

impl Decoded {
    /// The elements in `bytes`, whose length is a multiple of the element's size and whose alignment is that of a `u64`.
    pub(super) fn decode<'a>(&'a mut self, dtype: Dtype, bytes: &'a [u8]) -> Values<'a> {
        /// Elements of a fixed-size byte representation, converted one by one.
        fn fill<'a, const N: usize, T>(
            into: &'a mut Vec<T>,
            bytes: &[u8],
            convert: impl Fn([u8; N]) -> T,
        ) -> &'a [T] {
            into.clear();
            into.extend(bytes.as_chunks::<N>().0.iter().map(|&element| convert(element)));
            into
        }
        let Self { single, double } = self;
        match dtype {
            // On little-endian machines the bytes are the numbers.
            #[cfg(target_endian = "little")]
            Dtype::F32 => Values::F32(bytemuck::cast_slice(bytes)),
            #[cfg(target_endian = "little")]
            Dtype::F64 => Values::F64(bytemuck::cast_slice(bytes)),
            #[cfg(target_endian = "big")]
            Dtype::F32 => Values::F32(fill(single, bytes, f32::from_le_bytes)),
            #[cfg(target_endian = "big")]
            Dtype::F64 => Values::F64(fill(double, bytes, f64::from_le_bytes)),
            Dtype::F16 => Values::F32(fill(single, bytes, |b| half::f16::from_le_bytes(b).to_f32())),
            Dtype::Bf16 => {
                Values::F32(fill(single, bytes, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)))
            }
            Dtype::I64 => Values::F64(fill(double, bytes, |b| i64::from_le_bytes(b) as f64)),
            Dtype::U64 => Values::F64(fill(double, bytes, |b| u64::from_le_bytes(b) as f64)),
            Dtype::I32 => Values::F64(fill(double, bytes, |b| f64::from(i32::from_le_bytes(b)))),
            Dtype::U32 => Values::F64(fill(double, bytes, |b| f64::from(u32::from_le_bytes(b)))),
            Dtype::I16 => Values::F64(fill(double, bytes, |b| f64::from(i16::from_le_bytes(b)))),
            Dtype::U16 => Values::F64(fill(double, bytes, |b| f64::from(u16::from_le_bytes(b)))),
            Dtype::I8 => Values::F64(fill(double, bytes, |b| f64::from(i8::from_le_bytes(b)))),
            Dtype::U8 => Values::F64(fill(double, bytes, |[b]: [u8; 1]| f64::from(b))),
            Dtype::Bool => Values::F64(fill(double, bytes, |[b]: [u8; 1]| f64::from(u8::from(b != 0)))),
        }
    }
}
