//! The dispatch by CPU feature, and what plain arithmetic cannot say.
//!
//! Every kernel is written once, in plain arithmetic over fixed lanes, and
//! compiled for several levels of CPU. Sums follow one order, and a fused
//! multiply-add is fused at every level, so every level gives the same bits.

use std::sync::OnceLock;

/// What the CPU can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every CPU of the architecture can do; on AArch64 that includes NEON.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, VL, BW, DQ.
    Avx512,
}

impl Level {
    /// The level's name, as `LOGITEXT_SIMD` spells it; "neon" is what AArch64 calls its portable level.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable if cfg!(target_arch = "aarch64") => "neon",
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }
}

/// The level in use: the CPU's best, or what `LOGITEXT_SIMD` (portable, avx2, avx512) allows.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let asked = match std::env::var("LOGITEXT_SIMD").as_deref() {
            Ok("portable") => Level::Portable,
            Ok("avx2") => Level::Avx2,
            _ => Level::Avx512,
        };
        asked.min(best())
    })
}

#[cfg(target_arch = "x86_64")]
fn best() -> Level {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq");
    if avx512 {
        Level::Avx512
    } else if avx2 {
        Level::Avx2
    } else {
        Level::Portable
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn best() -> Level {
    Level::Portable
}

/// What `dispatch` compiles for a level: a function and what it is given. See `kernel!`.
pub trait Kernel {
    /// What it returns.
    type Answer;
    /// Do it. To be `#[inline(always)]`, and all that is called in its inner loops, too:
    /// only what is inlined is compiled for the level.
    fn run(self, cpu: impl Cpu) -> Self::Answer;
}

/// Make a kernel of a function of `Cpu` and of what it is given. A closure, or the function
/// itself as an argument, would not do: Rust calls those through a function of its own,
/// which is compiled for no level.
#[macro_export]
macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident<$($life:lifetime),*; $($type:ident: $bound:path),*; $($constant:ident: $of:ty),*>
     ($given:ty) -> $answer:ty = $function:expr) => {
        $(#[$doc])*
        struct $name<$($life,)* $($type: $bound,)* $(const $constant: $of),*>($given);

        impl<$($life,)* $($type: $bound,)* $(const $constant: $of),*> $crate::simd::Kernel
            for $name<$($life,)* $($type,)* $($constant),*>
        {
            type Answer = $answer;
            #[inline(always)]
            fn run(self, cpu: impl $crate::simd::Cpu) -> $answer {
                $function(cpu, self.0)
            }
        }
    };
}

/// Run a kernel compiled for the CPU at hand.
#[inline]
pub fn dispatch<K: Kernel>(level: Level, kernel: K) -> K::Answer {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn avx2<K: Kernel>(kernel: K) -> K::Answer {
            kernel.run(Full)
        }
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq")]
        fn avx512<K: Kernel>(kernel: K) -> K::Answer {
            kernel.run(Full)
        }
        match level.min(best()) {
            // SAFETY: `best` has seen that the CPU has these features.
            Level::Avx512 => return unsafe { avx512(kernel) },
            // SAFETY: as above.
            Level::Avx2 => return unsafe { avx2(kernel) },
            Level::Portable => {}
        }
    }
    let _ = level;
    kernel.run(Plain)
}

/// What the code around it is being compiled for; made by `dispatch` alone.
pub trait Cpu: Copy {
    /// a · b + c, rounded once.
    fn fma(self, a: f32, b: f32, c: f32) -> f32;
    /// Half-precision numbers, as their bits, to single precision.
    fn widen_halves(self, from: &[u16], to: &mut [f32]);
    /// Single precision to the nearest half, ties to even; what is too large becomes infinite.
    fn narrow_halves(self, from: &[f32], to: &mut [u16]);
}

/// What every CPU of the architecture can do.
#[derive(Clone, Copy)]
struct Plain;

impl Cpu for Plain {
    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        // A call of the library's function per number would be ten times slower.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            a.mul_add(b, c)
        } else {
            fma_in_parts(a, b, c)
        }
    }

    #[inline(always)]
    fn widen_halves(self, from: &[u16], to: &mut [f32]) {
        from.iter().zip(to).for_each(|(&half, to)| *to = from_half(half));
    }

    #[inline(always)]
    fn narrow_halves(self, from: &[f32], to: &mut [u16]) {
        from.iter().zip(to).for_each(|(&from, half)| *half = to_half(from));
    }
}

/// x86-64 with AVX2, FMA and F16C, or more.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Full;

#[cfg(target_arch = "x86_64")]
impl Cpu for Full {
    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn widen_halves(self, from: &[u16], to: &mut [f32]) {
        // SAFETY: `dispatch`, which alone makes a `Full`, has seen that the CPU has AVX and F16C.
        unsafe { f16c::widen(from, to) };
    }

    #[inline(always)]
    fn narrow_halves(self, from: &[f32], to: &mut [u16]) {
        // SAFETY: as above.
        unsafe { f16c::narrow(from, to) };
    }
}

/// a · b + c rounded once, where the CPU has no instruction for it.
///
/// The product is exact in double precision. The sum is rounded to odd (if it is not
/// exact, to the neighbour whose last bit is 1), so that rounding it again to
/// single precision cannot meet a tie that is none (Boldo & Melquiond 2008).
#[inline(always)]
fn fma_in_parts(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    let part = sum - product;
    let error = (product - (sum - part)) + (c - part);
    let bits = sum.to_bits();
    let inexact = error.abs() > 0.0; // not NaN
    let odd = match (inexact && bits & 1 == 0, (error > 0.0) == (sum > 0.0)) {
        (true, true) => bits + 1,
        (true, false) => bits - 1,
        _ => bits,
    };
    f64::from_bits(odd) as f32
}

/// A half-precision number, given as its bits, to single precision.
#[inline(always)]
pub fn from_half(half: u16) -> f32 {
    let bits = u32::from(half & 0x7FFF) << 13;
    // Multiplying by 2¹¹² moves the exponent to its place, of subnormals too.
    let value = f32::from_bits(bits) * f32::from_bits(0x7780_0000);
    let special = if half & 0x7C00 == 0x7C00 { 0x7F80_0000 } else { 0 };
    f32::from_bits(value.to_bits() | special | (u32::from(half & 0x8000) << 16))
}

#[inline(always)]
fn to_half(value: f32) -> u16 {
    let sign = (value.to_bits() >> 16) & 0x8000;
    let size = value.abs();
    let half = if size.is_nan() {
        0x7E00
    } else if size >= 65_520.0 {
        0x7C00
    } else if size < 6.103_515_6e-5 {
        // Subnormal: adding ½ leaves multiples of 2⁻²⁴ in the last bits, rounded.
        (size + 0.5).to_bits() - 0.5f32.to_bits()
    } else {
        let bits = size.to_bits();
        (bits - (112 << 23) + 0xFFF + ((bits >> 13) & 1)) >> 13
    };
    (sign | half) as u16
}

#[cfg(target_arch = "x86_64")]
mod f16c {
    use super::{from_half, to_half};
    use std::arch::x86_64::{
        _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128, _mm_storeu_si128, _mm256_cvtph_ps, _mm256_cvtps_ph,
        _mm256_loadu_ps, _mm256_storeu_ps,
    };

    #[inline]
    #[target_feature(enable = "avx,f16c")]
    pub fn widen(from: &[u16], to: &mut [f32]) {
        let (blocks, rest) = from.as_chunks::<8>();
        let (to, to_rest) = to.split_at_mut(blocks.len() * 8);
        for (block, to) in blocks.iter().zip(to.as_chunks_mut::<8>().0) {
            // SAFETY: both are eight numbers long, and no alignment is asked for.
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(block.as_ptr().cast())))
            };
        }
        rest.iter().zip(to_rest).for_each(|(&half, to)| *to = from_half(half));
    }

    #[inline]
    #[target_feature(enable = "avx,f16c")]
    pub fn narrow(from: &[f32], to: &mut [u16]) {
        let (blocks, rest) = from.as_chunks::<8>();
        let (to, to_rest) = to.split_at_mut(blocks.len() * 8);
        for (block, to) in blocks.iter().zip(to.as_chunks_mut::<8>().0) {
            // SAFETY: both are eight numbers long, and no alignment is asked for.
            unsafe {
                let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(block.as_ptr()));
                _mm_storeu_si128(to.as_mut_ptr().cast(), halves);
            }
        }
        rest.iter().zip(to_rest).for_each(|(&from, half)| *half = to_half(from));
    }
}

/// Rows to columns, four by four.
#[inline(always)]
pub fn transpose(rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_TRANSPOSE4_PS, _mm_loadu_ps, _mm_storeu_ps};
        let mut columns = [[0.0; 4]; 4];
        // SAFETY: each pointer is to four numbers, and every x86-64 has SSE.
        unsafe {
            let [mut a, mut b, mut c, mut d] = rows.each_ref().map(|row| _mm_loadu_ps(row.as_ptr()));
            _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
            for (column, vector) in columns.iter_mut().zip([a, b, c, d]) {
                _mm_storeu_ps(column.as_mut_ptr(), vector);
            }
        }
        columns
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]))
}

/// Ask for the cache line at `slice[index]` ahead of its use; out of range is ignored.
#[inline(always)]
pub fn prefetch<T>(slice: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if index < slice.len() {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the address is inside the slice, and a prefetch reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(slice.as_ptr().add(index).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, index);
}

/// Copy to memory that is not read again soon: past the caches, so that no line
/// is fetched only to be overwritten. `from` and `to` are of one length.
#[inline(always)]
pub fn stream<T: Copy>(from: &[T], to: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
        let from = &from[..to.len()];
        // SAFETY: any bytes of a `T: Copy` may be moved sixteen at a time.
        let (head, body, tail) = unsafe { to.align_to_mut::<__m128i>() };
        let (first, last) = (head.len(), from.len() - tail.len());
        head.copy_from_slice(&from[..first]);
        tail.copy_from_slice(&from[last..]);
        let source = from[first..last].as_ptr().cast::<__m128i>();
        for (i, to) in body.iter_mut().enumerate() {
            // SAFETY: `from[first..last]` is as long as `body`, which is aligned.
            unsafe { _mm_stream_si128(to, _mm_loadu_si128(source.add(i))) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    to.copy_from_slice(from);
}

/// What was streamed is seen by other threads after this.
#[inline(always)]
pub fn end_of_stream() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a fence touches no memory of ours.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of every size and sign, from a splitmix generator.
    fn anything(seed: u64) -> impl Iterator<Item = f32> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f32::from_bits((state >> 32) as u32)
        })
    }

    #[test]
    fn the_fused_multiply_add_is_fused_without_an_instruction_too() {
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        let (mut a, mut b, mut c) = (anything(1), anything(2), anything(3));
        for _ in 0..300_000 {
            let (a, b, c) = (a.next().unwrap(), b.next().unwrap(), c.next().unwrap());
            assert!(same(fma_in_parts(a, b, c), a.mul_add(b, c)), "{a} {b} {c}");
            // Near cancellation, where rounding twice would show.
            let c = -(a * b) * (1.0 + f32::EPSILON * c.to_bits() as f32 / 4e9);
            assert!(same(fma_in_parts(a, b, c), a.mul_add(b, c)), "{a} {b} {c}");
            // A sum that is nearly a tie.
            let (a, b, c) =
                (1.0 + a.fract().abs() * 1e-7, 2f32.powi(-24), 1.0 + f32::EPSILON * b.fract().abs().round());
            assert!(same(fma_in_parts(a, b, c), a.mul_add(b, c)), "{a} {b} {c}");
        }
    }

    type Widened<'a> = (&'a [u16], &'a mut [f32]);
    type Narrowed<'a> = (&'a [f32], &'a mut [u16]);
    kernel!(Widen<'a; ;>(Widened<'a>) -> () = |cpu, (from, to): Widened| Cpu::widen_halves(cpu, from, to));
    kernel!(Narrow<'a; ;>(Narrowed<'a>) -> () = |cpu, (from, to): Narrowed| Cpu::narrow_halves(cpu, from, to));

    #[test]
    fn halves_go_there_and_back() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        for level in [Level::Portable, Level::Avx2, Level::Avx512] {
            let (mut wide, mut back) = (vec![0.0; all.len()], vec![0; all.len()]);
            dispatch(level, Widen((&all, &mut wide)));
            dispatch(level, Narrow((&wide, &mut back)));
            for ((&half, &wide), &back) in all.iter().zip(&wide).zip(&back) {
                assert!(half == back || wide.is_nan(), "{half:x} {wide} {back:x}");
            }
            // Between two halves, the nearest; the tie to even.
            let asked = [1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 65_519.0, 65_520.0, -1e-8, 3e-8, f32::NAN];
            let mut got = [0; 7];
            dispatch(level, Narrow((&asked, &mut got)));
            assert_eq!(got[..6], [0x3C00, 0x3C02, 0x7BFF, 0x7C00, 0x8000, 0x0001]);
            assert!(from_half(got[6]).is_nan());
        }
    }

    #[test]
    fn a_stream_is_a_copy() {
        let from: Vec<f32> = (0..100).map(|i| i as f32).collect();
        for (begin, end) in [(0, 100), (1, 100), (3, 97), (5, 5), (6, 7)] {
            let mut to = vec![-1.0; 100];
            stream(&from[begin..end], &mut to[begin..end]);
            end_of_stream();
            for (i, &x) in to.iter().enumerate() {
                assert_eq!(x, if (begin..end).contains(&i) { i as f32 } else { -1.0 });
            }
        }
    }
}
