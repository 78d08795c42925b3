//! ATF v2, the trace format: layouts, writers, readers, manifests and sessions; and [`wire`], the record between
//! probe and collector.
//!
//! Invariant: depends on no other crate of the workspace, and without the feature `std` it is `wire` alone.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

#[cfg(feature = "std")]
#[forbid(unsafe_code)]
pub mod layout;
#[cfg(feature = "std")]
#[forbid(unsafe_code)]
pub mod manifest;
#[cfg(feature = "std")]
mod map;
#[cfg(feature = "std")]
#[forbid(unsafe_code)]
pub mod read;
#[cfg(feature = "std")]
#[forbid(unsafe_code)]
pub mod session;
#[cfg(feature = "std")]
#[forbid(unsafe_code)]
pub mod values;
#[forbid(unsafe_code)]
pub mod wire;
#[cfg(feature = "std")]
#[forbid(unsafe_code)]
pub mod write;
