//! The core of Logitext: text in, logits out.
//!
//! ```text
//! text ──► tokens ──► 64-bit n-grams ──► table of seen n-grams ──► logits
//! text.rs             ngrams.rs          table.rs                  dense.rs
//!                                                                    │
//!                                        train.rs: weights  ◄────────┤
//!                                        logits.rs: probabilities ◄──┘
//! ```
//!
//! Nothing here knows Python but `python.rs`. Functions over slices, no state:
//! whoever calls owns the arrays. Results are the same bits for any number of
//! threads.

#[cfg(feature = "python")]
mod python;
pub mod records;
