//! The core's kernels and what they stand on, nothing else: the rest of it wants C libraries of the other processor.

#![allow(dead_code, unused_imports)]

#[path = "../../core/src/kernels/mod.rs"]
pub mod kernels;
#[path = "../../core/src/team.rs"]
mod team;
#[path = "../../core/src/threads.rs"]
mod threads;

/// The only error that they raise, without the kinds that need candle.
mod error {
    pub type Result<T> = std::result::Result<T, Error>;

    #[derive(Debug)]
    pub struct Error(String);

    impl Error {
        pub(crate) fn argument(name: &str, got: impl std::fmt::Display, wanted: impl Into<String>) -> Self {
            Self(format!("{name}: got {got}, wanted {}", wanted.into()))
        }
    }
}
