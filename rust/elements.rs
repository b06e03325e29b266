//! What arrays hold: how an element becomes a number to compute in, and back.

#[cfg(test)]
use crate::kernel;
use crate::real::Real;
use crate::simd::Cpu;

/// A format of floating-point numbers in memory.
pub trait Format: Send + Sync + 'static {
    /// What stands in memory.
    type Store: Copy + Default + Send + Sync + 'static;
    /// What it is computed in.
    type Real: Real;
    /// `from` as numbers: itself where it needs no conversion, else written to `to`.
    fn widen<'a>(cpu: impl Cpu, from: &'a [Self::Store], to: &'a mut [Self::Real]) -> &'a [Self::Real];
    /// `from` as stored: itself where it needs no conversion, else rounded into `to`.
    fn narrow<'a>(cpu: impl Cpu, from: &'a [Self::Real], to: &'a mut [Self::Store]) -> &'a [Self::Store];
    /// One number.
    fn number(from: Self::Store) -> Self::Real;
}

/// `float32`
pub struct Single;
/// `float64`
pub struct Double;
/// `float16`
pub struct Half;
/// `bfloat16`
pub struct Brain;

macro_rules! plain {
    ($format:ty, $real:ty) => {
        impl Format for $format {
            type Store = $real;
            type Real = $real;
            #[inline(always)]
            fn widen<'a>(_: impl Cpu, from: &'a [$real], _: &'a mut [$real]) -> &'a [$real] {
                from
            }
            #[inline(always)]
            fn narrow<'a>(_: impl Cpu, from: &'a [$real], _: &'a mut [$real]) -> &'a [$real] {
                from
            }
            #[inline(always)]
            fn number(from: $real) -> $real {
                from
            }
        }
    };
}

plain!(Single, f32);
plain!(Double, f64);

impl Format for Half {
    type Store = u16;
    type Real = f32;

    #[inline(always)]
    fn widen<'a>(cpu: impl Cpu, from: &'a [u16], to: &'a mut [f32]) -> &'a [f32] {
        let to = &mut to[..from.len()];
        cpu.widen_halves(from, to);
        to
    }

    #[inline(always)]
    fn narrow<'a>(cpu: impl Cpu, from: &'a [f32], to: &'a mut [u16]) -> &'a [u16] {
        let to = &mut to[..from.len()];
        cpu.narrow_halves(from, to);
        to
    }

    #[inline(always)]
    fn number(from: u16) -> f32 {
        crate::simd::from_half(from)
    }
}

impl Format for Brain {
    type Store = u16;
    type Real = f32;

    #[inline(always)]
    fn widen<'a>(_: impl Cpu, from: &'a [u16], to: &'a mut [f32]) -> &'a [f32] {
        let to = &mut to[..from.len()];
        from.iter().zip(to.iter_mut()).for_each(|(&from, to)| *to = Self::number(from));
        to
    }

    #[inline(always)]
    fn narrow<'a>(_: impl Cpu, from: &'a [f32], to: &'a mut [u16]) -> &'a [u16] {
        let to = &mut to[..from.len()];
        for (&from, to) in from.iter().zip(to.iter_mut()) {
            let bits = from.to_bits();
            // To the nearest, ties to even; a NaN keeps its first bits and stays one.
            let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
            *to = if from.is_nan() { (bits >> 16) | 0x40 } else { rounded } as u16;
        }
        to
    }

    #[inline(always)]
    fn number(from: u16) -> f32 {
        f32::from_bits(u32::from(from) << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, dispatch};

    type Given<'a> = (&'a [u16], &'a mut [f32], &'a mut [u16]);
    kernel!(Both<'a; ;>(Given<'a>) -> () = both);

    fn both(cpu: impl Cpu, (from, wide, back): Given) {
        if !from.is_empty() {
            Brain::widen(cpu, from, wide);
        }
        Brain::narrow(cpu, wide, back);
    }

    #[test]
    fn bfloat16_goes_there_and_back() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let (mut wide, mut back) = (vec![0.0; all.len()], vec![0; all.len()]);
        dispatch(Level::Portable, Both((&all, &mut wide, &mut back)));
        assert!(all.iter().zip(&wide).zip(&back).all(|((a, x), b)| a == b || x.is_nan()));
        let (mut ties, mut got) = ([1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, f32::MAX, f32::NAN], [0; 4]);
        dispatch(Level::Portable, Both((&[], &mut ties, &mut got)));
        assert_eq!(got[..3], [0x3F80, 0x3F82, 0x7F80]);
        assert!(Brain::number(got[3]).is_nan());
    }
}
