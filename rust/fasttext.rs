//! fastText's supervised models: their file, their reading of text, their scores.
//!
//! ```text
//! file ──► settings, dictionary, places of the matrices          format.rs, dictionary.rs
//! text ──► words ──► rows of the input matrix ──► hidden          text.rs, met.rs, input.rs, hidden.rs
//! hidden × output matrix ──► logits                               scores.rs
//! ```
//!
//! Nothing of a file is believed: what is read from it is checked before it is used as a size, and
//! what is looked up at prediction is looked up with its bounds. Written from the format and the
//! behaviour of fastText 0.9.3, and in no part a copy of it.

pub mod dictionary;
pub mod format;
pub mod hidden;
pub mod input;
pub mod met;
pub mod scores;
pub mod text;

pub use dictionary::Dictionary;
pub use format::{File, Loss, Places, Settings, read};
pub use input::Input;
pub use text::Rows;
