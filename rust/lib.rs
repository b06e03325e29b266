//! The core of Logitext: text in, logits out.
//!
//! ```text
//! text ──► tokens ──► 64-bit n-grams ──► rows of the table ──► logits ──► probabilities
//!   text.rs    ngrams.rs          table.rs            dense.rs       logits.rs
//!                   │                ▲                    ▲
//!                   └──► count.rs ───┴──► train.rs ───────┘ weights
//! ```
//!
//! Nothing here knows Python but `python.rs`. Functions over slices, no state:
//! whoever calls owns the arrays. Results are the same bits for any number of
//! threads and any level of CPU.

pub mod answer;
pub mod binary;
pub mod count;
pub mod dense;
pub mod elements;
pub mod fasttext;
pub mod lanes;
pub mod lists;
pub mod logits;
pub mod lookup;
pub mod loss;
pub mod ngrams;
pub mod packed;
pub mod passes;
pub mod pool;
#[cfg(feature = "python")]
mod python;
pub mod rank;
pub mod reader;
pub mod real;
pub mod records;
pub mod simd;
pub mod support;
pub mod table;
pub mod teach;
pub mod text;
pub mod threads;
pub mod train;
pub mod wide;
